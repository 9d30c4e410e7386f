# SPDX-License-Identifier: Apache-2.0
"""Times one instruction set on a fixed number of pinned threads; prints rows as JSON.

worker.py ISA THREADS [--quick] [--best] [--op NAME ...]

Only the best instruction set of the machine (--best) is timed against everything; the others skip
what does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import kernels
import torch
import tvm_ffi
from protocol import activation_ops, precision
from protocol.rows import ABSENT, FAILED, Row
from protocol.timing import Turn, interleaved
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Timed also with --quick, in a middle size, and compiled.
HEADLINE_OPS = ("gelu_fast", "gelu", "silu_and_mul")
EPSILON = 1e-12
SAMPLED_ROWS = 64
Call = Callable[[], object]


@dataclass(frozen=True)
class Problem:
    """One op on one input: `calls` by candidate, all writing memory that was touched before.

    `run(out, x)` is what `ours` calls, for the comparison with `reference(x)` in fp64; `bound` is
    the largest relative error with which `ours` may be timed.
    """

    op: str
    x: torch.Tensor
    out: torch.Tensor
    bytes: int
    run: Callable[[torch.Tensor, torch.Tensor], object]
    reference: Callable[[torch.Tensor], torch.Tensor]
    bound: float
    calls: dict[str, Call | str]  # a text: why this candidate is absent


@dataclass(frozen=True)
class Package:
    """A built package: the torch ops, and the library whose ops are C calls on DLPack tensors."""

    module: ModuleType
    library: Any


def load(name: str) -> Package:
    """The builds of a package below kernels-community."""
    folder = ROOT / "kernels-community" / name
    (library,) = (folder / "build").glob("tvm-ffi*-cpu-*/*.so")
    module = kernels.get_local_kernel(folder, backend="cpu")
    return Package(module, tvm_ffi.load_module(str(library)))


@dataclass(frozen=True)
class Scope:
    """How much is timed."""

    quick: bool
    best: bool

    @property
    def compiles(self) -> bool:
        """True where torch.compile and middle sizes are timed too."""
        return self.best and not self.quick


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


def shapes(size: int, middle: bool) -> Iterator[tuple[int, int]]:
    """Output shapes for elements of `size` bytes: small, perhaps one for the caches, large."""
    yield 1, 1024 // size  # a gated op moves three such buffers: less than 4 KiB
    if middle:
        yield 128, 1536
    yield (32 << 20) // size // 1536 + 1, 1536  # more than 64 MiB moved


def compiled(formula: activation_ops.Function) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """torch.compile of the formula, written into memory that is there already."""

    def into(x: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(formula(x))

    return torch.compile(into, fullgraph=True, dynamic=False)


def activation(
    package: Package, op: str, dtype: torch.dtype, shape: tuple[int, int], scope: Scope
) -> Problem:
    """An op of the activation package and everything that computes the same."""
    gate = 2 if op in activation_ops.GATED else 1
    x = torch.randn(shape[0], shape[1] * gate).to(dtype)
    out, other = touched(shape, dtype), touched(shape, dtype)
    extra = (activation_ops.THRESHOLD,) if op == "fatrelu_and_mul" else ()
    ours = getattr(package.module, op)
    formula, fused = activation_ops.composed(op), activation_ops.fused(op)
    calls: dict[str, Call | str] = {
        "ours": lambda: ours(out, x, *extra),
        "torch composed": lambda: formula(x),
        "torch fused": (lambda: fused(x, other)) if fused else "torch has no such op",
    }
    if shape[0] == 1:
        c_call = getattr(package.library, op)
        calls["ours, C ABI"] = lambda: c_call(out, x, *extra)
    if not scope.best:
        calls["torch composed"] = "timed with the best instruction set"
    if scope.compiles and op in HEADLINE_OPS and shape[0] > 128:
        whole = compiled(formula)
        calls["torch.compile"] = lambda: whole(x, other)
    else:
        calls["torch.compile"] = "timed for large inputs of the headline ops, not with --quick"
    return Problem(
        op,
        x,
        out,
        shape[0] * shape[1] * dtype.itemsize * activation_ops.passes(op),
        lambda to, rows: ours(to, rows, *extra),
        lambda rows: activation_ops.exact(op, rows),
        activation_ops.bounds(op)[dtype],
        calls,
    )


def layer_norm(package: Package, dtype: torch.dtype, shape: tuple[int, int]) -> Problem:
    """layer_norm with weight and bias; torch has no form of it that writes into a tensor."""
    x = torch.randn(shape).to(dtype)
    out, hidden = touched(shape, dtype), shape[1:]
    weight, bias = torch.randn(hidden).to(dtype), torch.randn(hidden).to(dtype)

    def exact(rows: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(rows.double(), hidden, weight.double(), bias.double(), EPSILON)

    calls: dict[str, Call | str] = {
        "ours": lambda: package.module.layer_norm(out, x, weight, bias, EPSILON),
        "torch fused": lambda: functional.layer_norm(x, hidden, weight, bias, EPSILON),
    }

    def run(to: torch.Tensor, rows: torch.Tensor) -> object:
        return package.module.layer_norm(to, rows, weight, bias, EPSILON)

    size = 2 * out.nbytes
    return Problem("layer_norm", x, out, size, run, exact, precision.LAYER_NORM[dtype], calls)


def measure(problem: Problem, setting: dict[str, str | int], quick: bool) -> list[Row]:
    """All candidates of one problem, correctness first."""
    op, dtype = problem.op, str(problem.x.dtype).removeprefix("torch.")
    shape = tuple(problem.out.shape)

    def row(candidate: str, **facts: object) -> Row:
        return Row(op, dtype, shape, candidate, setting, bytes=problem.bytes, **facts)  # type: ignore[arg-type]

    x, out = problem.x, problem.out
    if shape[0] == 1:  # too few values for the bound, which is one of a mean
        x = torch.randn(SAMPLED_ROWS, x.shape[1]).to(x.dtype)
        out = touched((SAMPLED_ROWS, shape[1]), x.dtype)
    problem.run(out, x)
    rows = slice(None, None, max(1, len(x) // SAMPLED_ROWS))
    err = precision.relative_error(out[rows], problem.reference(x[rows]))
    if out.isnan().any() or not err <= problem.bound:
        reason = f"relative error {err:.1e}, at most {problem.bound:.1e}; nothing was timed"
        return [row("ours", status=FAILED, reason=reason, err=err)]
    seconds = 0.02 if quick else 0.03
    source, target = touched(shape, problem.x.dtype), touched(shape, problem.x.dtype)
    turns = {"copy": call_for(seconds, lambda: target.copy_(source))}
    absent = []
    for name, call in problem.calls.items():
        if isinstance(call, str):
            absent.append(row(name, status=ABSENT, reason=call))
        else:
            turns[name] = call_for(seconds, call)
    if problem.bytes <= 4096:
        turns["torch.neg"] = call_for(seconds, lambda: torch.neg(source, out=target))
    timings = interleaved(turns, rounds=3 if quick else 5)
    copy_gbps = 2 * target.nbytes / timings["copy"].us_median / 1e3
    measured = [
        row(name, copy_gbps=copy_gbps, err=err if name == "ours" else None, **vars(timing))
        for name, timing in timings.items()
        if name != "copy"
    ]
    return measured + absent


def problems(asked: list[str] | None, scope: Scope) -> Iterator[Problem]:
    """Everything to be measured, one after the other: only one problem's memory at a time."""
    packages = {"activation": activation_ops.ALL, "layer_norm": ("layer_norm",)}
    unknown = set(asked or ()) - packages.keys() - set(sum(packages.values(), ()))
    if unknown:
        raise SystemExit(f"--op: expected a package or an op, got {', '.join(sorted(unknown))}")
    if asked:
        chosen = [op for name, ops in packages.items() for op in ops if {name, op} & set(asked)]
    else:
        chosen = list(HEADLINE_OPS) if scope.quick else [*activation_ops.ALL, "layer_norm"]
    activation_package, norm_package = load("activation"), load("layer-norm")
    for op in chosen:
        middle = scope.compiles and op in HEADLINE_OPS
        for dtype in DTYPES:
            for shape in shapes(dtype.itemsize, middle):
                if op == "layer_norm":
                    yield layer_norm(norm_package, dtype, shape)
                else:
                    yield activation(activation_package, op, dtype, shape, scope)
                torch.compiler.reset()


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
        for problem in problems(arguments.op, scope):
            rows += measure(problem, setting, arguments.quick)
            print(f"  {problem.op} {rows[-1].dtype} {rows[-1].shape}", file=sys.stderr)
    document["rows"] = [row.as_json() for row in rows]
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
