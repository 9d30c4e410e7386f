# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation, with and without a residual, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import ModuleType

import torch
from protocol.gate import Floor
from protocol.precision import NORM_GRADIENT, RMS_NORM
from protocol.rows import COMPOSED, FUSED, Row
from torch.nn import functional

from families import floors
from families.family import DTYPES, Buffers, Call, Family, Problem, Scope, Tensors, normal

EPSILON = 1e-6
# Tensors of the size of x that the least traffic moves.
PASSES = {"rms_norm": 2, "rms_norm_bwd": 3, "fused_add_rms_norm_fwd": 4}
GPU_SHARE = {"rms_norm": 92.0, "rms_norm_bwd": 80.0, "fused_add_rms_norm_fwd": 92.0}
GPU_SHARE_BELOW_4096 = 85.0
TIMES_FUSED_FP32, TIMES_FUSED_HALVES = 2.0, 4.0


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)
    return weight * scaled.to(x.dtype)


def _fused_add(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Tensors:
    total = x + residual
    return _norm(total, weight), total


class RMSNorm(Family):
    """x `[rows, hidden]`; the weight has its dtype."""

    name = package = "rmsnorm"
    ops = tuple(PASSES)
    headline = ("rms_norm",)

    def problem(self, op: str, dtype: torch.dtype, shape: tuple[int, int]) -> Problem:
        return Problem(op, dtype, shape, PASSES[op] * shape[0] * shape[1] * dtype.itemsize)

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        for dtype in DTYPES:
            yield self.problem(op, dtype, (1, 1024 // dtype.itemsize))
            yield self.problem(op, dtype, ((32 << 20) // dtype.itemsize // 4096 + 1, 4096))

    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        half = torch.bfloat16
        stream = {"launch": "stream", "layout": "aligned"}
        for dtype in (half,) if is_quick else (half, torch.float16, torch.float32):
            yield replace(self.problem(op, dtype, (32768, 4096)), setting=stream)
        for hidden in (1024, 32768) if is_quick else (256, 1024, 8192, 16384, 32768, 65536, 131072):
            shape = (min(32768, (1 << 29) // hidden), hidden)
            yield replace(self.problem(op, half, shape), setting=stream)
        misaligned = {"launch": "stream", "layout": "misaligned"}
        yield replace(self.problem(op, half, (32768, 4096)), setting=misaligned)
        small = self.problem(op, half, (2, 1024))
        yield replace(small, setting={"launch": "graph", "layout": "aligned"})
        yield replace(small, setting={"launch": "host", "layout": "aligned"})

    def buffers(self, problem: Problem, device: str) -> Buffers:
        rows, hidden = problem.shape
        shift = 1 if problem.setting.get("layout") == "misaligned" else 0

        def new() -> torch.Tensor:
            return normal(rows * hidden + shift, problem.dtype, device)[shift:].view(rows, hidden)

        x, weight = new(), torch.randn(hidden, device=device).to(problem.dtype)
        outputs = (torch.full_like(x, float("nan")),)
        if problem.op == "rms_norm":
            return Buffers((x,), outputs, (weight,))
        if problem.op == "fused_add_rms_norm_fwd":
            return Buffers((x, new()), (*outputs, torch.full_like(x, float("nan"))), (weight,))
        rstd = torch.rsqrt(x.float().pow(2).mean(-1) + EPSILON)
        return Buffers((new(), x, rstd), outputs, (weight,))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        inputs = [one.double() for one in buffers.inputs]
        weight = buffers.shared[0].double()
        if problem.op == "rms_norm":
            (x,) = inputs
            return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight,)
        if problem.op == "fused_add_rms_norm_fwd":
            total = (buffers.inputs[0] + buffers.inputs[1]).double()
            scale = torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + EPSILON)
            return total * scale * weight, total
        grad, x, _ = inputs
        rstd = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON)
        n, g = x * rstd, grad * weight
        return (rstd * (g - n * (g * n).mean(-1, keepdim=True)),)

    def bound(self, problem: Problem) -> float:
        bounds = NORM_GRADIENT if problem.op == "rms_norm_bwd" else RMS_NORM
        return bounds[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        (weight,) = buffers.shared
        if problem.op == "rms_norm":
            return (*buffers.outputs, *buffers.inputs, weight, EPSILON)
        if problem.op == "fused_add_rms_norm_fwd":
            return (*buffers.inputs, weight, EPSILON, 0.0, "llama")
        grad, x, rstd = buffers.inputs
        return (grad, x, weight, rstd, EPSILON, 0.0, True, True)

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        arguments = self.arguments(problem, buffers)
        if problem.op == "rms_norm":
            return partial(module.rms_norm, *arguments)
        op = getattr(module.ops, problem.op)
        count = 2 if problem.op == "fused_add_rms_norm_fwd" else 1
        return lambda: op(*arguments)[:count]

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return {"rms_norm": _norm, "fused_add_rms_norm_fwd": _fused_add}.get(problem.op)

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        if problem.op != "rms_norm":
            return None

        def bind(buffers: Buffers) -> Call:
            (x,), (weight,) = buffers.inputs, buffers.shared
            return partial(functional.rms_norm, x, weight.shape, weight, EPSILON)

        return bind

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        ours = candidates["ours"]
        if ours.bytes <= floors.CPU_SMALL:
            return floors.cpu_small_calls(candidates)
        if ours.bytes < floors.CPU_LARGE:
            return []
        # torch has no op for the two others, and no formula of a model is the gradient's.
        least = TIMES_FUSED_FP32 if ours.dtype == "float32" else TIMES_FUSED_HALVES
        return [
            *floors.cpu_share_of_copy(candidates, cores),
            *floors.against(candidates, FUSED, least),
            *floors.against(candidates, COMPOSED, floors.CPU_TIMES_COMPOSED),
        ]

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        ours = candidates["ours"]
        if ours.setting.get("launch") == "host":
            return floors.gpu_host(candidates) if ours.op == "rms_norm" else []
        if ours.setting.get("layout") == "misaligned":
            return floors.gpu_misaligned(ours, aligned)
        if ours.bytes >= floors.GPU_LARGE:
            share = GPU_SHARE[ours.op]
            if ours.op == "rms_norm" and ours.shape[1] < 4096:
                share = GPU_SHARE_BELOW_4096
            return floors.gpu_share_of_copy(candidates, share) + floors.gpu_keeps_up(candidates)
        if ours.op == "rms_norm" and ours.bytes <= floors.GPU_SMALL:
            return floors.gpu_latency(candidates, ceilings)
        return []
