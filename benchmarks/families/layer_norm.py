# SPDX-License-Identifier: Apache-2.0
"""layer_norm with weight and bias, its gradients, and the norm of a sum; torch has no form of them
that writes into a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from protocol.gate import Floor
from protocol.precision import LAYER_NORM, NORM_GRADIENT
from protocol.rows import Row
from torch.nn import functional

from families import floors
from families.family import (
    DTYPES,
    Buffers,
    Call,
    Candidate,
    Family,
    Problem,
    Scope,
    Tensors,
    normal,
    overload,
)
from families.peers import FLASHINFER, LIGER, QUACK, Binding, backward, peers

EPSILON = 1e-12


class LayerNorm(Family):
    name = "layer_norm"
    package = "layer-norm"
    ops = ("layer_norm",)
    headline = ()
    passes = 2  # over the rows, reads and writes
    gpu_share = 90.0  # percent of the copy

    def problem(self, dtype: torch.dtype, shape: tuple[int, int]) -> Problem:
        """The op on `shape` = (rows, hidden)."""
        size = self.passes * shape[0] * shape[1] * dtype.itemsize
        return Problem(self.ops[0], dtype, shape, size)

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        for dtype in DTYPES:
            yield self.problem(dtype, (1, 1024 // dtype.itemsize))
            yield self.problem(dtype, ((32 << 20) // dtype.itemsize // 1536 + 1, 1536))

    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        half = torch.bfloat16
        for dtype in (half,) if is_quick else (half, torch.float16, torch.float32):
            problem = self.problem(dtype, (16384, 8192))
            yield replace(problem, setting={"launch": "stream", "layout": "aligned"})

    def buffers(self, problem: Problem, device: str) -> Buffers:
        new = partial(torch.empty, dtype=problem.dtype, device=device)
        hidden = problem.shape[1:]
        out = torch.full(problem.shape, float("nan"), dtype=problem.dtype, device=device)
        parameters = (new(hidden).normal_(), new(hidden).normal_())
        x = normal(problem.shape[0] * problem.shape[1], problem.dtype, device).view(problem.shape)
        return Buffers((x,), (out,), parameters)

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        (x,), (weight, bias) = buffers.inputs, buffers.shared
        wide = x.double(), weight.double(), bias.double()
        return (functional.layer_norm(wide[0], weight.shape, *wide[1:], EPSILON),)

    def bound(self, problem: Problem) -> float:
        return LAYER_NORM[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        return (*buffers.outputs, *buffers.inputs, *buffers.shared, EPSILON)

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        def bind(buffers: Buffers) -> Call:
            (x,), (weight, bias) = buffers.inputs, buffers.shared
            return partial(functional.layer_norm, x, weight.shape, weight, bias, EPSILON)

        return bind

    def others(self, problem: Problem, baseline: Path | None) -> list[Candidate]:
        return peers(_PEERS[problem.op])

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        return floors.cpu_memory_bound(candidates, cores, has_single_op=True)

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        return floors.gpu_memory_bound(candidates, ceilings, aligned, self.gpu_share)


class LayerNormBackward(LayerNorm):
    name = "layer_norm_backward"
    ops = ("layer_norm_backward",)
    rowwise = False  # two of the gradients are sums over rows
    passes = 3
    gpu_share = 78.0

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        if scope.best:
            yield from super().cpu_problems(op, scope)

    def buffers(self, problem: Problem, device: str) -> Buffers:
        new = partial(torch.empty, dtype=problem.dtype, device=device)
        poisoned = partial(torch.full, fill_value=float("nan"), dtype=problem.dtype, device=device)
        hidden = problem.shape[1:]
        size = problem.shape[0] * problem.shape[1]
        draw = partial(normal, size, problem.dtype, device)
        inputs = (draw().view(problem.shape), draw().view(problem.shape))
        outputs = (poisoned(problem.shape), poisoned(hidden), poisoned(hidden))
        return Buffers(inputs, outputs, (new(hidden).normal_(),))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        forward = partial(functional.layer_norm, eps=EPSILON)

        def norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            return forward(x, weight.shape, weight=weight, bias=bias)

        with torch.inference_mode(False):  # in which drivers time: it records no gradient
            grad, x = (one.double() for one in buffers.inputs)
            weight = buffers.shared[0].double()
            return torch.func.vjp(norm, x, weight, torch.zeros_like(weight))[1](grad)

    def bound(self, problem: Problem) -> float:
        return NORM_GRADIENT[problem.dtype]

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        return partial(overload(module, problem.op), *self.arguments(problem, buffers))

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        def bind(buffers: Buffers) -> Call:
            (grad, x), (weight,) = buffers.inputs, buffers.shared
            bias = torch.zeros_like(weight)
            _, mean, rstd = torch.native_layer_norm(x, weight.shape, weight, bias, EPSILON)
            call = torch.ops.aten.native_layer_norm_backward
            statistics = (mean, rstd)
            return partial(call, grad, x, weight.shape, *statistics, weight, bias, [True] * 3)

        return bind


def _add_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> Tensors:
    total = x + residual
    return functional.layer_norm(total, weight.shape, weight, bias, EPSILON), total


class DropoutAddLayerNorm(LayerNorm):
    """The norm of x + residual, and the sum. Without dropout: what it keeps cannot be compared."""

    name = "dropout_add_layer_norm"
    ops = ("dropout_add_norm",)
    passes = 4

    def buffers(self, problem: Problem, device: str) -> Buffers:
        one, other = super().buffers(problem, device), super().buffers(problem, device)
        return Buffers((*one.inputs, *other.inputs), (*one.outputs, *other.outputs), one.shared)

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        return _add_norm(*(one.double() for one in (*buffers.inputs, *buffers.shared)))

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        (x, residual), (out, total) = buffers.inputs, buffers.outputs
        masks_and_statistics, subsets_and_seed = (None,) * 4, (None,) * 3
        return (
            *(out, None, total, *masks_and_statistics, x, None, residual, *buffers.shared),
            *(None, None, None, None, *subsets_and_seed, 0.0, EPSILON, 1.0, False),
        )

    ours = LayerNormBackward.ours

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return _add_norm

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        return None

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        return floors.cpu_memory_bound(candidates, cores, has_single_op=False)


def _liger(function: Callable[..., object], buffers: Buffers) -> Call:
    return partial(function, *buffers.inputs, *buffers.shared, EPSILON)


def _in_fp32(function: Callable[..., object], buffers: Buffers) -> Call:
    # Both take parameters of fp32 only.
    parameters = (one.float() for one in buffers.shared)
    return partial(function, *buffers.inputs, *parameters, EPSILON)


def _liger_backward(function: Callable[..., torch.Tensor], buffers: Buffers) -> Call:
    (grad, x), (weight,) = buffers.inputs, buffers.shared
    return backward(
        lambda *tensors: function(*tensors, EPSILON), grad, x, weight, torch.zeros_like(weight)
    )


def _quack_backward(function: Callable[..., object], buffers: Buffers) -> Call:
    (grad, x), (weight,) = buffers.inputs, buffers.shared
    wide = x.float()
    mean, variance = wide.mean(-1), wide.var(-1, correction=0)
    statistics = (torch.rsqrt(variance + EPSILON), mean)
    return partial(function, x, weight.float(), grad, *statistics)


_PEERS: dict[str, dict[str, tuple[str, Binding]]] = {
    "layer_norm": {
        LIGER: ("liger_kernel.ops.layer_norm:LigerLayerNormFunction.apply", _liger),
        QUACK: ("quack.rmsnorm:layernorm_fwd", _in_fp32),
        FLASHINFER: ("flashinfer.norm:layernorm", _in_fp32),
    },
    "layer_norm_backward": {
        LIGER: ("liger_kernel.ops.layer_norm:LigerLayerNormFunction.apply", _liger_backward),
        QUACK: ("quack.rmsnorm:layernorm_bwd", _quack_backward),
    },
    "dropout_add_norm": {},
}
