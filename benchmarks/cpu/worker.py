# SPDX-License-Identifier: Apache-2.0
"""Times one instruction set on a fixed number of pinned threads; prints rows as JSON.

worker.py ISA THREADS [--quick] [--best] [--op NAME ...]

Only the best instruction set of the machine on all threads (--best) is timed against everything;
the others skip the slow references, the gradients and the middle sizes.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
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
from protocol import precision
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
    Row,
)
from protocol.timing import Turn, interleaved

ROOT = Path(__file__).resolve().parents[2]


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


def call_for(seconds: float, call: Call) -> Turn:
    """A turn of about `seconds`, at least one call; short ones are timed in packs."""
    began = time.perf_counter()
    call()
    pack = max(1, min(1000, int(50e-6 / max(time.perf_counter() - began, 1e-9))))

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


def ceilings(quick: bool) -> dict[str, float]:
    """GB/s of a copy and of an addition over buffers far larger than the caches."""
    count = (1 << 24) if quick else (1 << 26)
    a, b, c = (touched((count,), torch.float32) for _ in range(3))
    turns = {
        "copy": call_for(0.1, lambda: c.copy_(a)),
        "add": call_for(0.1, lambda: torch.add(a, b, out=c)),
    }
    timings = interleaved(turns)
    return {
        "copy": 8 * count / timings["copy"].us_median / 1e3,
        "add": 12 * count / timings["add"].us_median / 1e3,
    }


def compiled(formula: Callable[..., object], buffers: Buffers) -> Call:
    """torch.compile of the formula, written into memory that is there already."""

    def into(*tensors: torch.Tensor) -> None:
        for out, found in zip(buffers.outputs, results(formula(*tensors), buffers), strict=True):
            out.copy_(found)

    return partial(
        torch.compile(into, fullgraph=True, dynamic=False), *buffers.inputs, *buffers.shared
    )


def candidates(
    family: Family, problem: Problem, buffers: Buffers, scope: Scope
) -> dict[str, Call | str]:
    """Every way to compute the problem; a text says why one is absent."""
    package = load(family.package)
    others = Buffers(buffers.inputs, tuple(map(torch.empty_like, buffers.outputs)), buffers.shared)
    calls: dict[str, Call | str] = {OURS: family.ours(problem, package.module, buffers)}
    if problem.bytes <= CPU_SMALL:
        c_call = getattr(package.library, problem.op, None)
        calls[OURS_C] = (
            partial(c_call, *family.arguments(problem, buffers)) if c_call else "no C call"
        )
    composed, fused = family.composed(problem), family.fused(problem)
    if not scope.best:
        calls[COMPOSED] = "timed with the best instruction set on all threads"
    else:
        calls[COMPOSED] = composed(others) if composed else "torch has no formula for it"
    for out in others.outputs:
        out.fill_(0)  # so that their pages are there
    calls[FUSED] = fused(others) if fused else "torch has no such op"
    formula = family.formula(problem)
    is_compiled = problem.op in family.headline and problem.dtype == torch.bfloat16
    if formula and scope.best and not scope.quick and is_compiled and problem.bytes >= CPU_LARGE:
        calls[COMPILED] = compiled(formula, others)
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


def measure(family: Family, problem: Problem, setting: dict[str, Any], scope: Scope) -> list[Row]:
    """All candidates of one problem, correctness first."""
    checked = family.checked_as(problem)
    buffers = family.buffers(checked, "cpu")
    err, bound = worst_error(family, checked, buffers), family.bound(problem)
    if not err <= bound:
        reason = f"relative error {err:.1e}, at most {bound:.1e}; nothing was timed"
        return [replace(problem.row(OURS, **setting), status=FAILED, reason=reason, err=err)]
    if checked != problem:
        buffers = family.buffers(problem, "cpu")
    seconds = 0.02
    shape, dtype = buffers.outputs[0].shape, buffers.outputs[0].dtype
    source, target = touched(shape, dtype), touched(shape, dtype)
    turns = {COPY: call_for(seconds, lambda: target.copy_(source))}
    absent = []
    for name, call in candidates(family, problem, buffers, scope).items():
        if isinstance(call, str):
            absent.append(replace(problem.row(name, **setting), status=ABSENT, reason=call))
        else:
            turns[name] = call_for(seconds, call)
    if problem.bytes <= CPU_SMALL:
        turns[NEG] = call_for(seconds, partial(torch.neg, source, out=target))
        neg = torch.ops.aten.neg.out
        turns[NEG_OP] = call_for(seconds, partial(neg, source, out=target))
    timings = interleaved(turns, rounds=3 if scope.quick else 5)
    copy_gbps = 2 * target.nbytes / timings[COPY].us_median / 1e3
    measured = [
        replace(
            problem.row(name, **setting),
            copy_gbps=copy_gbps,
            err=err if name == OURS else None,
            **vars(timing),
        )
        for name, timing in timings.items()
        if name != COPY
    ]
    return measured + absent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("isa")
    parser.add_argument("threads", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--op", action="append")
    arguments = parser.parse_args()
    torch.manual_seed(12)
    torch.set_num_threads(arguments.threads)
    setting: dict[str, str | int] = {"isa": arguments.isa, "threads": arguments.threads}
    document: dict[str, object] = {"ceilings": ceilings(arguments.quick)}
    scope = Scope(arguments.quick, arguments.best)
    rows: list[Row] = []
    with torch.inference_mode():
        for family, op in selected(arguments.op, arguments.quick):
            for problem in family.cpu_problems(op, scope):
                rows += measure(family, problem, setting, scope)
                print(f"  {op} {problem.dtype_name} {problem.shape}", file=sys.stderr)
                torch.compiler.reset()
    document["rows"] = [row.as_json() for row in rows]
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
