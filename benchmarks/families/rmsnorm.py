# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation, with and without a residual, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from protocol.gate import Floor
from protocol.precision import NORM_GRADIENT, RMS_NORM
from protocol.rows import FUSED, Row
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

EPSILON = 1e-6
GPU_SHARE, GPU_SHARE_BELOW_4096 = 92.0, 85.0
TIMES_FUSED_FP32, TIMES_FUSED_HALVES = 2.0, 4.0


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)
    return weight * scaled.to(x.dtype)


def _fused_add(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Tensors:
    total = x + residual
    return _norm(total, weight), total


def _norm_gradients(
    grad: torch.Tensor, x: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor
) -> Tensors:
    """Of x and of the weight, from what the forward pass keeps."""
    n, grad = x.float() * rstd.unsqueeze(-1), grad.float()
    weighted = grad * weight.float()
    along_x = weighted - n * (weighted * n).mean(-1, keepdim=True)
    return (along_x * rstd.unsqueeze(-1)).to(x.dtype), (grad * n).sum(0).to(weight.dtype)


class _Norms(Family):
    """Problems are `[rows, hidden]`; the weight has the dtype of x."""

    package = "rmsnorm"
    passes: int  # over tensors of the size of x that the least traffic makes
    gpu_share = GPU_SHARE  # percent of the copy

    def problem(self, dtype: torch.dtype, shape: tuple[int, int]) -> Problem:
        size = self.passes * shape[0] * shape[1] * dtype.itemsize
        return Problem(self.ops[0], dtype, shape, size)

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        for dtype in DTYPES:
            yield self.problem(dtype, (1, 1024 // dtype.itemsize))
            yield self.problem(dtype, ((32 << 20) // dtype.itemsize // 4096 + 1, 4096))

    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        half = torch.bfloat16
        stream = {"launch": "stream", "layout": "aligned"}
        for dtype in (half,) if is_quick else (half, torch.float16, torch.float32):
            yield replace(self.problem(dtype, (32768, 4096)), setting=stream)
        for hidden in (1024, 32768) if is_quick else (256, 1024, 8192, 16384, 32768, 65536, 131072):
            shape = (min(32768, (1 << 29) // hidden), hidden)
            yield replace(self.problem(half, shape), setting=stream)
        misaligned = {"launch": "stream", "layout": "misaligned"}
        yield replace(self.problem(half, (32768, 4096)), setting=misaligned)
        small = self.problem(half, (2, 1024))
        for launch in ("graph", "host") if is_quick else ("graph", "host", "flushed"):
            yield replace(small, setting={"launch": launch, "layout": "aligned"})

    def rows(self, problem: Problem, device: str) -> torch.Tensor:
        """Fresh rows, on an odd address where the problem asks for it."""
        rows, hidden = problem.shape
        shift = 1 if problem.setting.get("layout") == "misaligned" else 0
        return normal(rows * hidden + shift, problem.dtype, device)[shift:].view(rows, hidden)

    def weight(self, problem: Problem, device: str) -> torch.Tensor:
        return torch.randn(problem.shape[1], device=device).to(problem.dtype)

    def others(self, problem: Problem, baseline: Path | None) -> list[Candidate]:
        return peers(_PEERS[problem.op])

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        return floors.cpu_memory_bound(candidates, cores, has_single_op=False)

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        if candidates["ours"].bytes <= floors.GPU_SMALL:
            return []  # several kernels, or several results: torch.neg is no yardstick
        return floors.gpu_memory_bound(candidates, ceilings, aligned, self.gpu_share)


class RMSNorm(_Norms):
    """y = weight * round(x * rsqrt(mean(x^2) + EPSILON))."""

    name = "rmsnorm"
    ops = ("rms_norm",)
    headline = ops
    passes = 2

    def buffers(self, problem: Problem, device: str) -> Buffers:
        x = self.rows(problem, device)
        return Buffers((x,), (_poisoned(x),), (self.weight(problem, device),))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        x, weight = (one.double() for one in (*buffers.inputs, *buffers.shared))
        return (_scaled(x) * weight,)

    def bound(self, problem: Problem) -> float:
        return RMS_NORM[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        return (*buffers.outputs, *buffers.inputs, *buffers.shared, EPSILON)

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return _norm

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        def bind(buffers: Buffers) -> Call:
            (x,), (weight,) = buffers.inputs, buffers.shared
            return partial(functional.rms_norm, x, weight.shape, weight, EPSILON)

        return bind

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        found = super().cpu_floors(candidates, cores)
        ours = candidates["ours"]
        if ours.bytes < floors.CPU_LARGE:
            return found
        least = TIMES_FUSED_FP32 if ours.dtype == "float32" else TIMES_FUSED_HALVES
        return found + floors.against(candidates, FUSED, least)

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        is_narrow = candidates["ours"].shape[1] < 4096
        share = GPU_SHARE_BELOW_4096 if is_narrow else GPU_SHARE
        return floors.gpu_memory_bound(candidates, ceilings, aligned, share)


class FusedAddRMSNorm(_Norms):
    """The norm of x + residual, and the sum."""

    name = "fused_add_rms_norm"
    ops = ("fused_add_rms_norm_fwd",)
    headline = ()
    passes = 4

    def buffers(self, problem: Problem, device: str) -> Buffers:
        x, residual = self.rows(problem, device), self.rows(problem, device)
        outputs = (_poisoned(x), _poisoned(x))
        return Buffers((x, residual), outputs, (self.weight(problem, device),))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        total = (buffers.inputs[0] + buffers.inputs[1]).double()
        return _scaled(total) * buffers.shared[0].double(), total

    def bound(self, problem: Problem) -> float:
        return RMS_NORM[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        return (*buffers.inputs, *buffers.shared, EPSILON, 0.0, "llama")

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        op, arguments = overload(module, problem.op), self.arguments(problem, buffers)
        return lambda: op(*arguments)[:2]

    def c_op(self, op: str) -> str:
        return "fused_add_rms_norm"

    def c_arguments(self, problem: Problem, library: Any, buffers: Buffers) -> tuple[object, ...]:
        for out, one in zip(buffers.outputs, buffers.inputs, strict=True):
            out.copy_(one)  # it works in place
        return (*buffers.outputs, *buffers.shared, EPSILON)

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return _fused_add


class RMSNormBackward(_Norms):
    """The gradients of x and of the weight, from those of y, x and the rows' factors."""

    name = "rms_norm_backward"
    ops = ("rms_norm_bwd",)
    headline = ()
    rowwise = False  # the gradient of the weight is a sum over rows
    passes = 3
    gpu_share = 80.0

    def buffers(self, problem: Problem, device: str) -> Buffers:
        grad, x = self.rows(problem, device), self.rows(problem, device)
        rstd = torch.rsqrt(x.float().pow(2).mean(-1) + EPSILON)
        weight = self.weight(problem, device)
        return Buffers((grad, x, rstd), (_poisoned(x), _poisoned(weight)), (weight,))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        grad, x, _ = (one.double() for one in buffers.inputs)
        weight = buffers.shared[0].double()
        rstd, n = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON), _scaled(x)
        weighted = grad * weight
        along_x = rstd * (weighted - n * (weighted * n).mean(-1, keepdim=True))
        return along_x, (grad * n).sum(0)

    def bound(self, problem: Problem) -> float:
        return NORM_GRADIENT[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        (grad, x, rstd), (weight,) = buffers.inputs, buffers.shared
        return (grad, x, weight, rstd, EPSILON, 0.0, True, True)

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        return partial(overload(module, problem.op), *self.arguments(problem, buffers))

    def c_op(self, op: str) -> str:
        return "rms_norm_bwd_out"

    def c_arguments(self, problem: Problem, library: Any, buffers: Buffers) -> tuple[object, ...]:
        (grad, x, rstd), (weight,) = buffers.inputs, buffers.shared
        size = library.rms_norm_bwd_workspace(x)
        workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
        return (*buffers.outputs, workspace, grad, x, weight, rstd, EPSILON, 0.0)

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return _norm_gradients

    def composed(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        return partial(_backward_of, _norm)


def _poisoned(like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, float("nan"))


def _scaled(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON)


def _backward_of(function: Callable[..., torch.Tensor], buffers: Buffers) -> Call:
    grad, x, _ = buffers.inputs
    return backward(function, grad, x, *buffers.shared)


def _liger(function: Callable[..., object], buffers: Buffers) -> Call:
    return partial(function, *buffers.inputs, *buffers.shared, *_LIGER_FLAGS)


def _liger_backward(function: Callable[..., torch.Tensor], buffers: Buffers) -> Call:
    return _backward_of(lambda x, weight: function(x, weight, *_LIGER_FLAGS), buffers)


def _quack(function: Callable[..., object], buffers: Buffers) -> Call:
    return partial(function, *buffers.inputs, *buffers.shared, eps=EPSILON)


def _quack_add(function: Callable[..., object], buffers: Buffers) -> Call:
    x, residual = buffers.inputs
    return partial(function, x, *buffers.shared, residual=residual, eps=EPSILON, prenorm=True)


def _quack_backward(function: Callable[..., Tensors], buffers: Buffers) -> Call:
    (grad, x, rstd), (weight,) = buffers.inputs, buffers.shared
    return lambda: function(x, weight, grad, rstd)[:2]


def _flashinfer(function: Callable[..., object], buffers: Buffers) -> Call:
    return partial(function, *buffers.inputs, *buffers.shared, EPSILON, *buffers.outputs)


def _flashinfer_add(function: Callable[..., object], buffers: Buffers) -> Call:
    x, residual = (one.clone() for one in buffers.inputs)

    def call() -> Tensors:
        function(x, residual, *buffers.shared, EPSILON)  # in place
        return x, residual

    return call


# Offset, casting mode, in place: whether the gradient of y may be overwritten.
_LIGER_FLAGS = (EPSILON, 0.0, "llama", False)
_PEERS: dict[str, dict[str, tuple[str, Binding]]] = {
    "rms_norm": {
        LIGER: ("liger_kernel.ops.rms_norm:LigerRMSNormFunction.apply", _liger),
        QUACK: ("quack.rmsnorm:rmsnorm", _quack),
        FLASHINFER: ("flashinfer.norm:rmsnorm", _flashinfer),
    },
    "rms_norm_bwd": {
        LIGER: ("liger_kernel.ops.rms_norm:LigerRMSNormFunction.apply", _liger_backward),
        QUACK: ("quack.rmsnorm:rmsnorm_bwd", _quack_backward),
    },
    "fused_add_rms_norm_fwd": {
        LIGER: ("liger_kernel.ops.fused_add_rms_norm:LigerFusedAddRMSNormFunction.apply", _liger),
        QUACK: ("quack.rmsnorm:rmsnorm", _quack_add),
        FLASHINFER: ("flashinfer.norm:fused_add_rmsnorm", _flashinfer_add),
    },
}
