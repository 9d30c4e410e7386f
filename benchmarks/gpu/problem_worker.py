# SPDX-License-Identifier: Apache-2.0
"""The process in which problems are measured: it does those that driver.py sends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import families
import torch
from candidates import candidates
from device_build import Built, Packages
from device_timing import (
    buffer_sets,
    capture_stream,
    captures_are_clean,
    event_turn,
    flushed_turn,
    graph_turn,
    host_turn,
)
from families.family import Buffers, Call, Candidate, Family, Problem, Tensors, results
from families.floors import EMPTY_KERNEL
from own_process import gpu_is_usable, serve
from protocol import timing
from protocol.precision import relative_error
from protocol.rows import ABSENT, COPY, FAILED, NEG, NEG_OP, OURS, YARDSTICKS, Row
from scalar_baseline import load_baseline

DEVICE = "cuda"
MOST_SETS = 256
# References may round where they like; ours has the family's bound.
LENIENCE = 4


@dataclass(frozen=True)
class Setup:
    """What all problems of a run share; `baseline` is scalar_baseline.cu, compiled, `compiling` are
    the ways of torch.compile to time.
    """

    built: dict[str, Built]
    baseline: Path | None
    compiling: tuple[str, ...]
    is_quick: bool


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
    for out in given.buffers.outputs:
        out.fill_(float("nan"))
    try:
        found = results(candidate.bind(given.buffers)(), given.buffers)
        pairs = zip(found, given.expected, strict=True)
        error = max(relative_error(one, exact) for one, exact in pairs)
    except Exception as error:
        return broken(row, error)
    bound = family.bound(problem) * (1 if candidate.name.startswith(OURS) else LENIENCE)
    if not error <= bound:
        return replace(row, err=error, status=FAILED, reason=f"error {error:.1e} > {bound:.1e}")
    return replace(row, err=error)


def broken(row: Row, error: Exception) -> Row:
    """The row of a candidate that can't do the problem: ours has failed, another one is absent, as
    it may fail in its own way. Without a yardstick, or after a fault, nothing can be measured.
    """
    if row.candidate in YARDSTICKS or not gpu_is_usable():
        raise RuntimeError(f"{row.candidate}: {error}") from error
    status = FAILED if row.candidate.startswith(OURS) else ABSENT
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return replace(row, status=status, reason=reason, err=None)


def measure(family: Family, problem: Problem, everyone: list[Candidate]) -> list[Row]:
    """The rows of one problem: correctness first, then times in turn."""
    given = sample(family, problem)
    rows = {one.name: checked(one, family, problem, given) for one in everyone}
    del given
    launch = str(problem.setting["launch"])
    is_once = launch in ("host", "flushed")
    sets = 1 if is_once else min(buffer_sets(problem.bytes), MOST_SETS)
    buffers = [family.buffers(problem, DEVICE) for _ in range(sets)]
    turns = {}
    # What may fail comes last.
    for one in (*_yardsticks(problem, buffers, launch == "host"), *everyone):
        row = rows.setdefault(one.name, problem.row(one.name))
        if one.bind is None or row.status in (ABSENT, FAILED):
            continue
        try:
            turns[one.name] = _named(one.name, _turn(launch, one.bind, buffers))
        except Exception as error:
            rows[one.name] = broken(row, error)
    times = timing.interleaved(turns)
    moved = {
        COPY: _copied(problem),
        **dict.fromkeys((NEG, NEG_OP), 2 * buffers[0].outputs[0].nbytes),
    }
    copy_gbps = moved[COPY] / times[COPY].us_median / 1e3 if launch == "stream" else None
    for name, found in times.items():
        row = replace(rows[name], bytes=moved.get(name, problem.bytes), copy_gbps=copy_gbps)
        rows[name] = replace(row, **vars(found))
    return list(rows.values())


def _copied(problem: Problem) -> int:
    """Bytes that the copy beside a problem reads and writes."""
    return 2 * (problem.bytes // 2 // problem.dtype.itemsize) * problem.dtype.itemsize


def _yardsticks(problem: Problem, buffers: Sequence[Buffers], is_host: bool) -> list[Candidate]:
    """A copy of as much, and the negation of an output; as any op is called, too, on the host."""
    half = _copied(problem) // 2 // problem.dtype.itemsize

    def copy(_: Buffers) -> Call:
        to, source = _copy_buffers(half, problem.dtype)
        return partial(to.copy_, source)

    def negation(function: Callable[..., object], one: Buffers) -> Call:
        (out, *_) = one.outputs
        return partial(function, torch.randn_like(out), out=out)

    found = [Candidate(COPY, copy), Candidate(NEG, partial(negation, torch.neg))]
    if is_host:
        found.append(Candidate(NEG_OP, partial(negation, torch.ops.aten.neg.out)))
    return found


def _copy_buffers(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.empty(elements, dtype=dtype, device=DEVICE).normal_()
    return torch.empty_like(source), source


def _turn(launch: str, bind: Callable[[Buffers], Call], buffers: Sequence[Buffers]) -> timing.Turn:
    if launch == "host":
        return host_turn(bind(buffers[0]))
    if launch == "flushed":
        return flushed_turn(bind(buffers[0]))
    if launch == "stream":
        return event_turn([bind(each) for each in buffers])
    torch.cuda.synchronize()
    with torch.cuda.stream(capture_stream()):
        calls = [bind(each) for each in buffers]
    return graph_turn(calls)


def _named(name: str, turn: timing.Turn) -> timing.Turn:
    """A turn whose failure says whose it was."""

    def named() -> list[float]:
        try:
            return turn()
        except Exception as error:
            raise RuntimeError(f"{name}: {error}") from error

    return named


def ceilings(setup: Setup) -> dict[str, float]:
    """What this GPU can do: copy, read, an empty kernel, matrix products."""
    baseline = load_baseline(setup.baseline)

    def median(turn: timing.Turn) -> float:
        return timing.interleaved({"it": turn}, rounds=3)["it"].us_median

    to, source = _copy_buffers(1 << 29, torch.bfloat16)
    copy_us = median(event_turn([lambda: to.copy_(source)]))
    wide = source.view(torch.float32)
    read_us = median(event_turn([lambda: torch.amax(wide)]))
    side = 4096 if setup.is_quick else 8192
    a, b = (torch.randn(side, side, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    gemm_us = median(event_turn([lambda: a @ b]))

    def empty() -> None:
        baseline.empty_launch(torch.cuda.current_stream().cuda_stream)

    return {
        "copy, GB/s": 2 * source.nbytes / copy_us / 1e3,
        "read (amax), GB/s": source.nbytes / read_us / 1e3,
        "bf16 matrix product, TFLOP/s": 2 * side**3 / gemm_us / 1e6,
        EMPTY_KERNEL: median(graph_turn([empty])),
    }


def measuring(setup: Setup) -> Callable[[Problem | None], object]:
    """What gives the rows of a problem, or the ceilings without one."""
    packages = Packages(setup.built)
    torch.manual_seed(20)

    def run(problem: Problem | None) -> object:
        if problem is None:
            return ceilings(setup)
        torch.cuda.empty_cache()
        family = families.of(problem.op)
        module = packages[family.package]
        everyone = candidates(family, problem, module, setup.baseline, setup.compiling)
        return measure(family, problem, everyone)

    return run


if __name__ == "__main__":
    serve(sys.argv[1], measuring, lambda: captures_are_clean() and gpu_is_usable())
