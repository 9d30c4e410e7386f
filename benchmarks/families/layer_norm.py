# SPDX-License-Identifier: Apache-2.0
"""layer_norm with weight and bias; torch has no form of it that writes into a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from protocol.precision import LAYER_NORM
from torch.nn import functional

from families.family import DTYPES, Buffers, Call, Family, Problem, Scope, Tensors

EPSILON = 1e-12


class LayerNorm(Family):
    name = "layer_norm"
    package = "layer-norm"
    ops = ("layer_norm",)
    headline = ()

    def problem(self, dtype: torch.dtype, shape: tuple[int, int]) -> Problem:
        """layer_norm on `shape` = (rows, hidden)."""
        return Problem("layer_norm", dtype, shape, 2 * shape[0] * shape[1] * dtype.itemsize)

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
        return Buffers((new(problem.shape).normal_(),), (out,), parameters)

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
