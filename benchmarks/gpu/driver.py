# SPDX-License-Identifier: Apache-2.0
"""Measure the CUDA kernels of the op packages: ceilings, correctness, then times.

Exit status: 0 fine, 1 wrong values, a missed floor (--gate) or a regression (--compare), 77 no GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import device_build
import torch
from candidates import AUTOTUNED, Candidate, candidates, load_baseline
from device_timing import buffer_sets, event_turn, graph_turn, host_turn
from floors import LARGE, floors
from protocol import activation_ops, machine, report, timing
from protocol.precision import relative_error
from protocol.rows import ABSENT, FAILED, Result, Row

NO_GPU = 77
DEVICE = "cuda"
LARGE_ROWS, LARGE_COLS = 16384, 8192
SMALL_SHAPES = ((8, 512), (16, 1024))
MEDIUM_SHAPES = ((512, 4096), (4096, 4096))
QUICK_OPS = ("silu", "gelu_fast", "silu_and_mul")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Problem:
    """One op on one shape, launched one way."""

    op: str
    dtype: str
    shape: tuple[int, int]  # of the output
    launch: str  # stream, graph or host
    layout: str = "aligned"

    @property
    def bytes(self) -> int:
        """The least traffic."""
        rows, cols = self.shape
        return rows * cols * activation_ops.passes(self.op) * DTYPES[self.dtype].itemsize

    @property
    def row(self) -> Row:
        """A row without a candidate."""
        setting: dict[str, str | int] = {"launch": self.launch, "layout": self.layout}
        return Row(self.op, self.dtype, self.shape, "", setting, bytes=self.bytes)


def problems(ops: list[str], is_quick: bool) -> list[Problem]:
    """What a run measures."""
    large = (LARGE_ROWS, LARGE_COLS)
    found = []
    for op in ops:
        for dtype in ("bfloat16",) if is_quick else tuple(DTYPES):
            found.append(Problem(op, dtype, SMALL_SHAPES[0], "graph"))
            found.append(Problem(op, dtype, large, "stream"))
        if not is_quick:
            found += [Problem(op, "bfloat16", shape, "graph") for shape in SMALL_SHAPES[1:]]
            found += [Problem(op, "bfloat16", shape, "stream") for shape in MEDIUM_SHAPES]
        found.append(Problem(op, "bfloat16", large, "stream", "misaligned"))
        found.append(Problem(op, "bfloat16", SMALL_SHAPES[0], "host"))
    return found


def tensors(problem: Problem, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`count` pairs (out, x): random inputs, outputs poisoned with NaN."""
    rows, cols = problem.shape
    width = cols * (2 if problem.op in activation_ops.GATED else 1)
    dtype = DTYPES[problem.dtype]
    shift = 1 if problem.layout == "misaligned" else 0
    pairs = []
    for _ in range(count):
        memory = torch.empty(rows * width + shift, dtype=dtype, device=DEVICE).normal_()
        out = torch.full((rows, cols), float("nan"), dtype=dtype, device=DEVICE)
        pairs.append((out, memory[shift:].view(rows, width)))
    return pairs


def checked(candidate: Candidate, problem: Problem, row: Row) -> Row:
    """The row with its error, or marked as absent or wrong."""
    row = replace(row, candidate=candidate.name)
    if candidate.run is None:
        return replace(row, status=ABSENT, reason=candidate.reason)
    if skipped := _why_skipped(candidate, problem):
        return replace(row, status=ABSENT, reason=skipped)
    ((out, x),) = tensors(problem, 1)
    try:
        returned = candidate.run(out, x)
    except Exception as error:  # a reference of another project may fail in its own way
        if candidate.name.startswith("ours"):
            return replace(row, status=FAILED, reason=str(error).splitlines()[0])
        return replace(row, status=ABSENT, reason=f"{type(error).__name__}: {error}"[:120])
    result = returned if isinstance(returned, torch.Tensor) else out
    error = relative_error(result, activation_ops.exact(problem.op, x))
    # References may round where they like; ours has the table's bound.
    bound = activation_ops.bounds(problem.op)[x.dtype] * (
        1 if candidate.name.startswith("ours") else 4
    )
    if error > bound:
        return replace(row, err=error, status=FAILED, reason=f"error {error:.1e} > {bound:.1e}")
    return replace(row, err=error)


def _why_skipped(candidate: Candidate, problem: Problem) -> str:
    is_main = problem.bytes >= LARGE and problem.layout == "aligned"
    if candidate.name == AUTOTUNED and not (is_main and problem.dtype == "bfloat16"):
        return "timed on large bfloat16 rows only: tuning takes long"
    return ""


def measure(problem: Problem, everyone: list[Candidate]) -> list[Row]:
    """The rows of one problem: correctness first, then times in turn."""
    rows = {one.name: checked(one, problem, problem.row) for one in everyone}
    sets = 1 if problem.launch == "host" else buffer_sets(problem.bytes)
    pairs = tensors(problem, min(sets, 256))
    runs = {
        one.name: one.run
        for one in everyone
        if one.run is not None and rows[one.name].status not in (ABSENT, FAILED)
    }
    plain = [(out, x) for out, x in pairs]
    half = problem.bytes // 2 // DTYPES[problem.dtype].itemsize
    copies = [_copy_buffers(half, DTYPES[problem.dtype]) for _ in range(min(sets, 64))]
    calls: dict[str, list[Any]] = {
        name: [lambda run=run, out=out, x=x: run(out, x) for out, x in plain]
        for name, run in runs.items()
    }
    calls["copy"] = [lambda to=to, source=source: to.copy_(source) for to, source in copies]
    calls["torch.neg"] = [
        lambda out=out, x=x: torch.neg(x[:, : out.shape[1]], out=out) for out, x in plain
    ]
    turns = {}
    for name, sequence in calls.items():
        try:
            turns[name] = _turn(problem.launch, sequence)
        except RuntimeError as error:
            if name == "ours":
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            rows[name] = replace(problem.row, candidate=name, status=ABSENT, reason=reason)
            torch.cuda.synchronize()
    times = timing.interleaved(turns)
    copy_gbps = half * 2 * DTYPES[problem.dtype].itemsize / times["copy"].us_median / 1e3
    for name, found in times.items():
        row = rows.get(name, replace(problem.row, candidate=name))
        if name == "torch.neg" and problem.op in activation_ops.GATED:
            row = replace(row, bytes=2 * row.bytes // 3)
        rows[name] = replace(
            row,
            **{field: getattr(found, field) for field in ("us_median", "p10", "p90", "us_min")},
            spread=found.spread,
            copy_gbps=copy_gbps if problem.launch == "stream" else None,
        )
    return list(rows.values())


def _copy_buffers(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.empty(elements, dtype=dtype, device=DEVICE).normal_()
    return torch.empty_like(source), source


def _turn(launch: str, calls: list[Any]) -> timing.Turn:
    if launch == "graph":
        return graph_turn(calls)
    if launch == "host":
        return host_turn(calls[0])
    return event_turn(calls)


def ceilings(baseline: ctypes.CDLL, is_quick: bool) -> dict[str, float]:
    """What this GPU can do: copy, read, an empty kernel, matrix products."""

    def median(turn: timing.Turn) -> float:
        return timing.interleaved({"it": turn}, rounds=3)["it"].us_median

    to, source = _copy_buffers(1 << 29, torch.bfloat16)
    copy_us = median(event_turn([lambda: to.copy_(source)]))
    wide = source.view(torch.float32)
    read_us = median(event_turn([lambda: torch.amax(wide)]))
    side = 4096 if is_quick else 8192
    a, b = (torch.randn(side, side, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    gemm_us = median(event_turn([lambda: a @ b]))

    def empty() -> None:
        baseline.empty_launch(torch.cuda.current_stream().cuda_stream)

    return {
        "copy, GB/s": 2 * source.nbytes / copy_us / 1e3,
        "read (amax), GB/s": source.nbytes / read_us / 1e3,
        "bf16 matrix product, TFLOP/s": 2 * side**3 / gemm_us / 1e6,
        "empty kernel, us": median(graph_turn([empty])),
    }


def device() -> dict[str, Any]:
    """The GPU in words, beside the host."""
    properties = torch.cuda.get_device_properties(0)
    query = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,ecc.mode.current"
    facts = machine.first_line("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    return {
        "gpu": f"{properties.name}, {properties.multi_processor_count} multiprocessors",
        "gpu memory": f"{properties.total_memory >> 30} GiB",
        "gpu cache": f"{properties.L2_cache_size >> 20} MiB of L2",
        query: facts,
        "cuda": str(torch.version.cuda),
        **machine.host(),
    }


def selected(names: list[str] | None, is_quick: bool) -> list[str]:
    """The ops that --op names; a package stands for all of its ops."""
    if not names:
        return list(QUICK_OPS if is_quick else activation_ops.ALL)
    chosen = []
    for name in names:
        if name == "activation":
            chosen += activation_ops.ALL
        elif name in activation_ops.ALL:
            chosen.append(name)
        else:
            raise SystemExit(f"--op {name}: expected activation or one of its ops")
    return list(dict.fromkeys(chosen))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags of benchmarks/gpu/run."""
    parser = report.flags("Measure the CUDA kernels of the op packages on this GPU.")
    parser.add_argument("--list", action="store_true", help="name the problems and stop")
    parser.add_argument("--build-dir", type=Path, default=machine.ROOT / "build" / "gpu")
    options = parser.parse_args(arguments)
    options.output = options.output or options.build_dir / "results"
    return options


def run(options: argparse.Namespace, package: ModuleType) -> Result:
    """All rows, printed as they come."""
    baseline = load_baseline(options.build_dir)
    found = Result(device(), ceilings(baseline, options.quick), [])
    print("\n".join(f"{name}: {value:.4g}" for name, value in found.ceilings.items()), flush=True)
    ways: dict[str, list[Candidate]] = {}
    for problem in problems(selected(options.op, options.quick), options.quick):
        if problem.op not in ways:
            ways[problem.op] = candidates(problem.op, package, baseline, options.quick)
        rows = measure(problem, ways[problem.op])
        found.rows += rows
        best = {row.candidate: row.us_median for row in rows if row.us_median}
        times = ", ".join(f"{name} {value:.2f}" for name, value in best.items())
        print(f"{problem.op} {problem.dtype} {problem.shape} {problem.launch}: {times}", flush=True)
        torch.cuda.empty_cache()
    return found


def main(arguments: list[str]) -> int:
    """Build what is missing, measure, report."""
    options = parse(arguments)
    if options.list:
        for problem in problems(selected(options.op, options.quick), options.quick):
            size = "large" if problem.bytes >= LARGE else f"{problem.bytes >> 10} KiB"
            print(problem.op, problem.dtype, problem.shape, problem.launch, problem.layout, size)
        return 0
    if not torch.cuda.is_available():
        print(
            "benchmarks/gpu/run: no GPU that torch can use; nothing was measured", file=sys.stderr
        )
        return NO_GPU
    torch.manual_seed(20)
    loaded = device_build.load("activation", options.build_dir)
    print(f"activation: {loaded.origin}")
    result = run(options, loaded.module)
    return report.finish(options, result, floors(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
