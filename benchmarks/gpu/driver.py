# SPDX-License-Identifier: Apache-2.0
"""Measure the CUDA kernels of the op packages: ceilings, correctness, then times.

Exit status: 0 fine, 1 wrong values, a missed floor (--gate) or a regression (--compare), 77 no GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import device_build
import families
import torch
from candidates import candidates
from device_timing import buffer_sets, event_turn, graph_turn, host_turn
from families.family import Buffers, Call, Candidate, Family, Problem, Tensors, results
from families.floors import GPU_LARGE
from floors import floors
from protocol import machine, report, timing
from protocol.precision import relative_error
from protocol.rows import ABSENT, COPY, FAILED, NEG, OURS, Result, Row
from scalar_baseline import load_baseline

NO_GPU = 77
DEVICE = "cuda"
MOST_SETS = 256
METHOD = "Sets of buffers that exceed the L2 cache four times take turns, but for graphs' latency."
# References may round where they like; ours has the family's bound.
LENIENCE = 4


def problems(names: list[str] | None, is_quick: bool) -> list[tuple[Family, Problem]]:
    """What a run measures."""
    return [
        (family, problem)
        for family, op in families.selected(names, is_quick)
        for problem in family.gpu_problems(op, is_quick)
    ]


class Sample(NamedTuple):
    """Tensors of a problem, in the size at which values are compared, and the exact results."""

    buffers: Buffers
    expected: Tensors


def sample(family: Family, problem: Problem) -> Sample:
    """What every candidate for the problem is checked on."""
    problem = family.checked_as(problem)
    buffers = family.buffers(problem, DEVICE)
    return Sample(buffers, family.exact(problem, buffers))


def checked(candidate: Candidate, family: Family, problem: Problem, given: Sample) -> Row:
    """A row with the candidate's error, or marked as absent or wrong."""
    row = problem.row(candidate.name)
    if candidate.bind is None:
        return replace(row, status=ABSENT, reason=candidate.reason)
    is_ours = candidate.name.startswith(OURS)
    for out in given.buffers.outputs:
        out.fill_(float("nan"))
    try:
        found = results(candidate.bind(given.buffers)(), given.buffers)
    except Exception as error:  # a reference of another project may fail in its own way
        if is_ours:
            return replace(row, status=FAILED, reason=str(error).splitlines()[0])
        return replace(row, status=ABSENT, reason=f"{type(error).__name__}: {error}"[:120])
    pairs = zip(found, given.expected, strict=True)
    error = max(relative_error(one, exact) for one, exact in pairs)
    bound = family.bound(problem) * (1 if is_ours else LENIENCE)
    if not error <= bound:
        return replace(row, err=error, status=FAILED, reason=f"error {error:.1e} > {bound:.1e}")
    return replace(row, err=error)


def measure(family: Family, problem: Problem, everyone: list[Candidate]) -> list[Row]:
    """The rows of one problem: correctness first, then times in turn."""
    given = sample(family, problem)
    rows = {one.name: checked(one, family, problem, given) for one in everyone}
    del given
    launch = str(problem.setting["launch"])
    sets = 1 if launch == "host" else min(buffer_sets(problem.bytes), MOST_SETS)
    buffers = [family.buffers(problem, DEVICE) for _ in range(sets)]
    half = problem.bytes // 2 // problem.dtype.itemsize
    copies = [_copy_buffers(half, problem.dtype) for _ in range(min(sets, 64))]
    calls: dict[str, list[Call]] = {
        one.name: [one.bind(each) for each in buffers]
        for one in everyone
        if one.bind is not None and rows[one.name].status not in (ABSENT, FAILED)
    }
    calls[COPY] = [partial(to.copy_, source) for to, source in copies]
    negated = [each.outputs[0] for each in buffers]
    calls[NEG] = [partial(torch.neg, torch.randn_like(out), out=out) for out in negated]
    turns = {}
    for name, sequence in calls.items():
        try:
            turns[name] = _turn(launch, sequence)
        except RuntimeError as error:
            if name == OURS:
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            rows[name] = replace(problem.row(name), status=ABSENT, reason=reason)
            torch.cuda.synchronize()
    times = timing.interleaved(turns)
    copy_gbps = half * 2 * problem.dtype.itemsize / times[COPY].us_median / 1e3
    for name, found in times.items():
        row = rows.get(name, problem.row(name))
        if name == NEG:
            row = replace(row, bytes=2 * negated[0].nbytes)
        elif name == COPY:
            row = replace(row, bytes=2 * half * problem.dtype.itemsize)
        rows[name] = replace(
            row,
            **vars(found),
            copy_gbps=copy_gbps if launch == "stream" else None,
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


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags of benchmarks/gpu/run."""
    parser = report.flags("Measure the CUDA kernels of the op packages on this GPU.")
    parser.add_argument("--list", action="store_true", help="name the problems and stop")
    parser.add_argument("--build-dir", type=Path, default=machine.ROOT / "build" / "gpu")
    options = parser.parse_args(arguments)
    options.output = options.output or options.build_dir / "results"
    return options


def run(options: argparse.Namespace, packages: dict[str, ModuleType]) -> Result:
    """All rows, printed as they come."""
    baseline = load_baseline(options.build_dir)
    found = Result(device(), ceilings(baseline, options.quick), [])
    print("\n".join(f"{name}: {value:.4g}" for name, value in found.ceilings.items()), flush=True)
    for family, problem in problems(options.op, options.quick):
        module = packages[family.package]
        everyone = candidates(family, problem, module, options.build_dir, options.quick)
        rows = measure(family, problem, everyone)
        found.rows += rows
        best = {row.candidate: row.us_median for row in rows if row.us_median}
        times = ", ".join(f"{name} {value:.2f}" for name, value in best.items())
        print(f"{_words(problem)}: {times}", flush=True)
        torch.cuda.empty_cache()
    return found


def _words(problem: Problem) -> str:
    setting = " ".join(str(value) for value in problem.setting.values())
    return f"{problem.op} {problem.dtype_name} {problem.shape} {setting}"


def main(arguments: list[str]) -> int:
    """Build what is missing, measure, report."""
    options = parse(arguments)
    wanted = problems(options.op, options.quick)
    if not wanted:
        print(f"benchmarks/gpu/run: {families.nothing_selected(options.op)}", file=sys.stderr)
        return 2
    if options.list:
        for _, problem in wanted:
            size = "large" if problem.bytes >= GPU_LARGE else f"{problem.bytes >> 10} KiB"
            print(_words(problem), size)
        return 0
    if not torch.cuda.is_available():
        print(
            "benchmarks/gpu/run: no GPU that torch can use; nothing was measured", file=sys.stderr
        )
        return NO_GPU
    torch.manual_seed(20)
    packages = {}
    for name in dict.fromkeys(family.package for family, _ in wanted):
        loaded = device_build.load(name, options.build_dir)
        packages[name] = loaded.module
        print(f"{name}: {loaded.origin}")
    result = run(options, packages)
    return report.finish(options, result, floors(result), METHOD)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
