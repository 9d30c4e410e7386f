# SPDX-License-Identifier: Apache-2.0
"""Times one instruction set on a fixed number of pinned threads; prints rows as JSON.

worker.py ISA THREADS [--quick] [--best] [--references] [--op NAME ...]

Only the best instruction set of the machine on all threads (--best) is timed against everything;
the others skip the slow references, the gradients and the middle sizes. Without --references only
ours and the yardsticks are timed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import kernels
import torch
import tvm_ffi
from families import selected
from families.family import SAMPLED_ROWS, Buffers, Call, Family, Problem, Scope, results
from families.floors import CPU_LARGE, CPU_SMALL
from protocol import machine, precision
from protocol.rows import (
    ABSENT,
    COMPILED,
    COMPOSED,
    COPY,
    FAILED,
    FUSED,
    NEG,
    NEG_OP,
    OURS,
    OURS_C,
    OURS_CACHED,
    READ,
    Row,
)
from protocol.timing import Turn, interleaved

ROOT = Path(__file__).resolve().parents[2]
# Seconds of a turn: many small calls, or a few large ones.
SMALL_TURN, TURN = 0.005, 0.02
# A problem that moves this much has several sets of buffers. What is in flight together exceeds the
# caches, this many times, but takes no more than this part of the memory.
ROTATED = 16 << 20
TIMES_CACHE = 2
PART_OF_MEMORY = 4
# What shows the arithmetic of a large problem alone takes this part of the second-level cache.
PART_OF_CACHE = 2
# A composed formula keeps its intermediate results; few of its sets exceed the caches.
COMPOSED_SETS = 2
# About how many ways to compute take turns.
CANDIDATES = 5
# Memory that the allocator has ready, so that no timed call meets a page for the first time.
READY = 3 << 30


@dataclass(frozen=True)
class Package:
    """A built package: the torch ops, and the library whose ops are C calls on DLPack tensors."""

    module: ModuleType
    library: Any


@functools.cache
def load(name: str) -> Package:
    """The builds of a package below kernels-community."""
    folder = ROOT / "kernels-community" / name
    (library,) = (folder / "build").glob("tvm-ffi*-cpu-*/*.so")
    module = kernels.get_local_kernel(folder, backend="cpu")
    return Package(module, tvm_ffi.load_module(str(library)))


def turn_of(calls: Sequence[Call], seconds: float) -> Turn:
    """A turn of about `seconds`, at least one call, each on the next set of buffers.

    Results are kept for as many calls, so that an allocated one comes to lie elsewhere each time.
    """
    rotating, kept = itertools.cycle(calls), deque[object](maxlen=len(calls))

    def turn() -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            call = next(rotating)
            start = time.perf_counter_ns()
            result = call()
            times.append((time.perf_counter_ns() - start) / 1e3)
            kept.append(result)
        return times

    return turn


def packed_turn(call: Call, seconds: float) -> Turn:
    """A turn of about `seconds` of calls that are so short that the clock needs many of them."""

    def timed() -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    pack = max(1, min(1000, int(50e-6 / max(min(timed() for _ in range(5)), 1e-9))))

    def turn() -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter_ns()
            for _ in range(pack):
                call()
            times.append((time.perf_counter_ns() - start) / 1e3 / pack)
        return times

    return turn


def touched(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor whose pages are there, poisoned with NaN."""
    return torch.full(shape, float("nan"), dtype=dtype)


def ceilings() -> dict[str, float]:
    """GB/s of a copy, of an addition and of reading over buffers that exceed the caches.

    Of torch's reductions the largest element is found at the speed of memory; a sum is slower.
    """
    count = max(1 << 24, machine.last_level_cache() * TIMES_CACHE // 8 + 1)
    a, b, c = (touched((count,), torch.float32) for _ in range(3))
    turns = {
        "copy": turn_of([lambda: c.copy_(a)], 0.1),
        "add": turn_of([lambda: torch.add(a, b, out=c)], 0.1),
        READ: turn_of([a.amax], 0.1),
    }
    timings = interleaved(turns)
    return {
        "copy": 8 * count / timings["copy"].us_median / 1e3,
        "add": 12 * count / timings["add"].us_median / 1e3,
        READ: 4 * count / timings[READ].us_median / 1e3,
    }


class Rotation:
    """Sets of buffers that problems and copies take turns in."""

    def __init__(self) -> None:
        self.is_capped = False
        self._source = self._target = torch.empty(0, dtype=torch.uint8)

    def sets(self, problem: Problem, buffers: Buffers) -> list[Buffers]:
        """`buffers`, and as many clones as the caches ask for and memory allows."""
        if problem.bytes < ROTATED:
            return [buffers]
        wanted = math.ceil(TIMES_CACHE * machine.last_level_cache() / problem.bytes)
        # Ours and torch's op may each have a result of every set.
        possible = machine.memory() // PART_OF_MEMORY // (3 * buffers.nbytes)
        self.is_capped = self.is_capped or possible < wanted
        return [buffers, *(buffers.clone() for _ in range(1, min(wanted, possible)))]

    def copies(self, problem: Problem, sets: int) -> tuple[list[Call], int]:
        """Copies that move what the problem moves, each elsewhere; and the bytes of one."""
        size = max(64, problem.bytes // 2 & ~63)
        self._grow(sets * size)
        pieces = [
            memory[: sets * size].view(problem.dtype).view(sets, -1)
            for memory in (self._target, self._source)
        ]
        return [partial(to.copy_, it) for to, it in zip(*pieces, strict=True)], 2 * size

    def reads(self, problem: Problem, sets: int) -> tuple[list[Call], int]:
        """Reductions that read what the problem moves, each elsewhere; and the bytes of one."""
        size = max(64, problem.bytes & ~63)
        self._grow(sets * size)
        pieces = self._source[: sets * size].view(torch.float32).view(sets, -1)
        return [piece.amax for piece in pieces], size

    def _grow(self, size: int) -> None:
        """Makes source and target of the yardsticks at least so many bytes, whole floats."""
        if len(self._source) >= size:
            return
        floats = (size // 4,)
        self._source = touched(floats, torch.float32).view(torch.uint8)
        self._target = touched(floats, torch.float32).view(torch.uint8)


def in_cache(problem: Problem) -> Problem:
    """The first rows of a problem, so few that the cache of a core holds all that is moved."""
    size = machine.second_level_cache() // PART_OF_CACHE
    rows = max(1, problem.shape[0] * size // problem.bytes)
    moved = problem.bytes * rows // problem.shape[0]
    return replace(problem, shape=(rows, *problem.shape[1:]), bytes=moved)


def on_one_thread(turn: Turn, threads: int) -> Turn:
    """A turn of calls that wake no other thread, which takes a tenth of so short a call."""

    def alone() -> list[float]:
        torch.set_num_threads(1)
        try:
            return turn()
        finally:
            torch.set_num_threads(threads)

    return alone


def compiled(formula: Callable[..., object], sets: Sequence[Buffers]) -> list[Call]:
    """torch.compile of the formula, written into memory that is there already."""

    def into(outputs: tuple[torch.Tensor, ...], inputs: tuple[torch.Tensor, ...]) -> None:
        found = formula(*inputs)
        for out, one in zip(outputs, found if isinstance(found, tuple) else (found,), strict=True):
            out.copy_(one)

    function = torch.compile(into, fullgraph=True, dynamic=False)
    return [partial(function, one.outputs, (*one.inputs, *one.shared)) for one in sets]


def c_call(family: Family, problem: Problem, library: Any, buffers: Buffers) -> Call:
    """Our C call on what it takes, DLPack tensors: a C++ program has those, and what tvm_ffi pays
    for seeing torch's as such, three times the call itself, is not in it.
    """
    arguments = (
        tvm_ffi.from_dlpack(one) if isinstance(one, torch.Tensor) else one
        for one in family.c_arguments(problem, library, buffers)
    )
    return partial(getattr(library, family.c_op(problem.op)), *arguments)


def candidates(
    family: Family, problem: Problem, sets: Sequence[Buffers], scope: Scope
) -> dict[str, list[Call] | str]:
    """Every way to compute the problem, on every set; a text says why one is absent."""
    package = load(family.package)
    calls: dict[str, list[Call] | str] = {
        OURS: [family.ours(problem, package.module, one) for one in sets]
    }
    if problem.bytes <= CPU_SMALL:
        has_c_call = hasattr(package.library, family.c_op(problem.op))
        calls[OURS_C] = (
            [c_call(family, problem, package.library, one) for one in sets]
            if has_c_call
            else "no C call"
        )
    composed, fused, formula = (
        family.composed(problem),
        family.fused(problem),
        family.formula(problem),
    )
    if not scope.best:
        calls[COMPOSED] = "timed with the best instruction set on all threads"
    elif composed:
        calls[COMPOSED] = [composed(one) for one in sets[:COMPOSED_SETS]]
    else:
        calls[COMPOSED] = "torch has no formula for it"
    if not scope.references:
        calls[FUSED] = "timed with the best instruction set"
    elif problem.op in family.compute_bound and not scope.best:
        calls[FUSED] = "timed on all threads: these rows show how ours scales"
    else:
        calls[FUSED] = [fused(one) for one in sets] if fused else "torch has no such op"
    is_compiled = problem.op in family.headline and problem.dtype == torch.bfloat16
    if formula and scope.best and not scope.quick and is_compiled and problem.bytes >= CPU_LARGE:
        calls[COMPILED] = compiled(formula, sets)
    else:
        calls[COMPILED] = "timed for large bfloat16 inputs of the headline ops, not with --quick"
    return calls


def worst_error(family: Family, problem: Problem, buffers: Buffers) -> float:
    """Relative error of ours on `buffers`; inf for a value that was not written."""
    step = max(1, problem.shape[0] // SAMPLED_ROWS) if family.rowwise else 1
    expected = family.exact(problem, buffers.every(step))
    found = results(family.ours(problem, load(family.package).module, buffers)(), buffers)
    if any(bool(result.isnan().any()) for result in found):
        return float("inf")
    pairs = zip(found, expected, strict=True)
    return max(precision.relative_error(result[::step], exact) for result, exact in pairs)


def measure(
    family: Family, problem: Problem, setting: dict[str, Any], scope: Scope, rotation: Rotation
) -> list[Row]:
    """All candidates of one problem, correctness first."""
    checked = family.checked_as(problem)
    buffers = family.buffers(checked, "cpu")
    err, bound = worst_error(family, checked, buffers), family.bound(problem)
    if not err <= bound:
        reason = f"relative error {err:.1e}, at most {bound:.1e}; nothing was timed"
        return [replace(problem.row(OURS, **setting), status=FAILED, reason=reason, err=err)]
    if checked != problem:
        buffers = family.buffers(problem, "cpu")
    sets = rotation.sets(problem, buffers)
    is_small = problem.bytes <= CPU_SMALL
    turn = partial(_small_turn, seconds=SMALL_TURN) if is_small else partial(turn_of, seconds=TURN)
    copies, copied = rotation.copies(problem, len(sets))
    turns = {COPY: turn(copies)}
    moved = {COPY: copied}
    if problem.op in family.read_bound:
        reads, moved[READ] = rotation.reads(problem, len(sets))
        turns[READ] = turn(reads)
    is_large = family.is_memory_bound(problem.op) and problem.bytes >= CPU_LARGE
    if is_large and machine.second_level_cache() > 0:
        few = in_cache(problem)
        calls = [family.ours(few, load(family.package).module, family.buffers(few, "cpu"))]
        turns[OURS_CACHED] = on_one_thread(turn(calls), int(setting["threads"]))
        moved[OURS_CACHED] = few.bytes
    absent = []
    for name, calls in candidates(family, problem, sets, scope).items():
        if isinstance(calls, str):
            absent.append(replace(problem.row(name, **setting), status=ABSENT, reason=calls))
        else:
            calls[0]()  # compiles, or makes tables
            # Elsewhere than the candidate before it, whose buffers the caches may still hold.
            start = len(turns) * len(calls) // CANDIDATES % len(calls)
            turns[name] = turn([*calls[start:], *calls[:start]])
    if is_small:
        source = touched(buffers.outputs[0].shape, problem.dtype)
        for name, neg in ((NEG, torch.neg), (NEG_OP, torch.ops.aten.neg.out)):
            turns[name] = turn([partial(neg, source, out=torch.empty_like(source))])
    rounds, most = (3, 5) if scope.quick else (5, 9)
    timings = interleaved(turns, rounds, most)
    copy_gbps = copied / timings[COPY].us_median / 1e3
    measured = [
        replace(
            problem.row(name, **setting),
            copy_gbps=None if name == OURS_CACHED else copy_gbps,
            err=err if name == OURS else None,
            **vars(timing) | {"bytes": moved.get(name, problem.bytes)},
        )
        for name, timing in timings.items()
    ]
    return measured + absent


def _small_turn(calls: Sequence[Call], seconds: float) -> Turn:
    (call,) = calls
    return packed_turn(call, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("isa")
    parser.add_argument("threads", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--references", action="store_true")
    parser.add_argument("--op", action="append")
    arguments = parser.parse_args()
    torch.manual_seed(12)
    torch.set_num_threads(arguments.threads)
    setting: dict[str, str | int] = {"isa": arguments.isa, "threads": arguments.threads}
    scope = Scope(arguments.quick, arguments.best, arguments.references)
    rows: list[Row] = []
    rotation = Rotation()
    with torch.inference_mode():
        touched((min(READY, machine.memory() // PART_OF_MEMORY) // 4,), torch.float32)
        document: dict[str, object] = {"ceilings": ceilings()}
        for family, op in selected(arguments.op, arguments.quick):
            for problem in family.cpu_problems(op, scope):
                began = time.monotonic()
                rows += measure(family, problem, setting, scope, rotation)
                seconds = time.monotonic() - began
                words = f"{op} {problem.dtype_name} {problem.shape}: {seconds:.1f} s"
                print(f"  {words}", file=sys.stderr, flush=True)
    document["rows"] = [row.as_json() for row in rows]
    document["is_capped"] = rotation.is_capped
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
