# SPDX-License-Identifier: Apache-2.0
"""What families of element-wise ops have in common: rows of a width, and shares of a copy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from protocol.gate import Floor
from protocol.rows import Row

from families import floors
from families.family import DTYPES, Buffers, Family, Problem, Scope, normal

GPU_LARGE = (16384, 8192)
GPU_SMALL = ((8, 512), (16, 1024))
GPU_MIDDLE = ((512, 4096), (4096, 4096))


class ElementWise(Family):
    """Ops that read rows of `widths` times d elements and write rows of `out_width` times d."""

    @abstractmethod
    def widths(self, op: str) -> tuple[int, ...]:
        """Width of every input, in multiples of d."""

    @abstractmethod
    def out_width(self, op: str) -> int:
        """Width of the output, in multiples of d."""

    def is_backward(self, op: str) -> bool:
        """True for a gradient."""
        return op.endswith("_backward")

    def has_single_op(self, op: str) -> bool:
        """Whether torch computes the same in one op."""
        return True

    def problem(self, op: str, dtype: torch.dtype, shape: tuple[int, int]) -> Problem:
        """The op on `shape` = (rows, d)."""
        rows, cols = shape
        passes = sum(self.widths(op)) + self.out_width(op)
        size = rows * cols * passes * dtype.itemsize
        return Problem(op, dtype, (rows, cols * self.out_width(op)), size)

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        if self.is_backward(op) and not scope.best:
            return
        # fp16 goes the ways of bf16: it is timed where most is, and for the headline ops.
        everywhere = op in self.headline or (scope.best and not self.is_backward(op))
        for dtype in DTYPES if everywhere else DTYPES[:2]:
            size = dtype.itemsize
            # Less than 4 KiB moved; perhaps one for the caches; more than 64 MiB moved.
            yield self.problem(op, dtype, (1, (512 if self.is_backward(op) else 1024) // size))
            if scope.best and not scope.quick and op in self.headline:
                yield self.problem(op, dtype, (128, 1536))
            yield self.problem(op, dtype, ((32 << 20) // size // 1536 + 1, 1536))

    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        def on(launch: str, problem: Problem, layout: str = "aligned") -> Problem:
            return replace(problem, setting={"launch": launch, "layout": layout})

        half = torch.bfloat16
        for dtype in (half,) if is_quick else (half, torch.float16, torch.float32):
            yield on("graph", self.problem(op, dtype, GPU_SMALL[0]))
            yield on("stream", self.problem(op, dtype, GPU_LARGE))
        if not is_quick:
            for shape in GPU_SMALL[1:]:
                yield on("graph", self.problem(op, half, shape))
            for shape in GPU_MIDDLE:
                yield on("stream", self.problem(op, half, shape))
            yield on("flushed", self.problem(op, half, GPU_SMALL[0]))
        yield on("stream", self.problem(op, half, GPU_LARGE), "misaligned")
        yield on("host", self.problem(op, half, GPU_SMALL[0]))

    def buffers(self, problem: Problem, device: str) -> Buffers:
        rows, cols = problem.shape[0], problem.shape[1] // self.out_width(problem.op)
        shift = 1 if problem.setting.get("layout") == "misaligned" else 0
        inputs = []
        for width in self.widths(problem.op):
            memory = normal(rows * cols * width + shift, problem.dtype, device)
            inputs.append(memory[shift:].view(rows, cols * width))
        out = torch.full(problem.shape, float("nan"), dtype=problem.dtype, device=device)
        return Buffers(tuple(inputs), (out,))

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        return (*buffers.outputs, *buffers.inputs)

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        single = self.has_single_op(candidates["ours"].op)
        return floors.cpu_memory_bound(candidates, cores, single)

    def gpu_share(self, op: str) -> float | None:
        """Percent of the copy that a large problem must reach, None where no floor asks."""
        return None if self.is_backward(op) else 92.0

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        share = self.gpu_share(candidates["ours"].op)
        return floors.gpu_memory_bound(candidates, ceilings, aligned, share)
