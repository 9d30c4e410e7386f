# SPDX-License-Identifier: Apache-2.0
"""Rotation of queries and keys in one call; torch has no op for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from protocol.gate import Floor
from protocol.precision import ROTARY
from protocol.rows import Row

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
from families.peers import LIGER, peers

# Query and key heads, and columns of each: of a Llama layer, and what moves less than 4 KiB.
HEADS, WIDTH = (32, 8), 128
FEW_HEADS, FEW_COLUMNS = (2, 1), 64
GPU_SHARE = 88.0


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _formula(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Tensors:
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


class Rotary(Family):
    """q and k `[tokens, heads, columns]`, cos and sin `[tokens, columns]` of their dtype."""

    name = package = "rotary"
    ops = ("apply_rotary_transformers",)
    headline = ops

    def problem(self, dtype: torch.dtype, tokens: int, heads: int, width: int) -> Problem:
        """`heads` of queries and keys together, four or two of queries to one of keys."""
        size = 2 * tokens * heads * width * dtype.itemsize
        return Problem(self.ops[0], dtype, (tokens, heads, width), size)

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        heads = sum(HEADS)
        for dtype in DTYPES:
            yield self.problem(dtype, 1, sum(FEW_HEADS), FEW_COLUMNS)
            if scope.best and not scope.quick:
                yield self.problem(dtype, 64, heads, WIDTH)
            yield self.problem(
                dtype, (32 << 20) // dtype.itemsize // heads // WIDTH + 1, heads, WIDTH
            )

    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        def on(launch: str, problem: Problem, layout: str = "aligned") -> Problem:
            return replace(problem, setting={"launch": launch, "layout": layout})

        half, heads = torch.bfloat16, sum(HEADS)
        small = self.problem(half, 2, sum(FEW_HEADS), FEW_COLUMNS)
        for dtype in (half,) if is_quick else (half, torch.float16, torch.float32):
            yield on("stream", self.problem(dtype, 16384, heads, WIDTH))
        yield on("graph", small)
        if not is_quick:
            yield on("stream", self.problem(half, 2048, heads, WIDTH))
            yield on("stream", self.problem(half, 16384, heads, 64))
            yield on("flushed", small)
        yield on("stream", self.problem(half, 16384, heads, WIDTH), "misaligned")
        yield on("host", small)

    def buffers(self, problem: Problem, device: str) -> Buffers:
        tokens, heads, width = problem.shape
        heads_of_k = HEADS[1] if heads == sum(HEADS) else FEW_HEADS[1]
        shift = 1 if problem.setting.get("layout") == "misaligned" else 0
        inputs, outputs = [], []
        for count in (heads - heads_of_k, heads_of_k):
            size = tokens * count * width
            memory = normal(size + shift, problem.dtype, device)
            inputs.append(memory[shift:].view(tokens, count, width))
            outputs.append(torch.full_like(inputs[-1], float("nan")))
        angles = torch.empty(tokens, width // 2, dtype=torch.float64, device=device).normal_()
        angles = torch.cat([angles, angles], dim=-1)
        tables = (angles.cos().to(problem.dtype), angles.sin().to(problem.dtype))
        return Buffers((*inputs, *tables), tuple(outputs))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        q, k, cos, sin = (one.double() for one in buffers.inputs)
        return _formula(q, k, cos, sin)

    def bound(self, problem: Problem) -> float:
        return ROTARY[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        return (*buffers.outputs, *buffers.inputs, False, 1)

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        # Into memory that is there: the Python function returns new tensors.
        return partial(overload(module, problem.op), *self.arguments(problem, buffers))

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return _formula

    def others(self, problem: Problem, baseline: Path | None) -> list[Candidate]:
        return peers({LIGER: ("liger_kernel.ops.rope:LigerRopeFunction.apply", _liger)})

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        return floors.cpu_memory_bound(candidates, cores, has_single_op=False)

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        return floors.gpu_memory_bound(candidates, ceilings, aligned, GPU_SHARE)


def _liger(function: Callable[..., Tensors], buffers: Buffers) -> Call:
    # Takes [B, H, S, D] with tables [B, S, D], and rotates its arguments in place.
    q, k, cos, sin = buffers.inputs
    heads_first = [x.clone().transpose(0, 1)[None] for x in (q, k)]
    tables = cos[None], sin[None]
    return lambda: tuple(out[0].transpose(0, 1) for out in function(*heads_first, *tables))
