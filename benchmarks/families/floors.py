# SPDX-License-Identifier: Apache-2.0
"""Floors that several families share, each judged on the candidates of one problem."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from protocol.gate import Floor
from protocol.rows import (
    COMPOSED,
    COPY,
    FUSED,
    MEASURED,
    NEG,
    NEG_OP,
    OURS,
    OURS_C,
    OURS_CACHED,
    YARDSTICKS,
    Row,
    turn_ratios,
)
from protocol.timing import quartiles

Rows = Mapping[str, Row]

# Bytes moved on a CPU up to which a problem is small, and from which it is large.
CPU_SMALL, CPU_LARGE = 4 << 10, 64 << 20
# The same on a GPU.
GPU_SMALL, GPU_LARGE = 64 << 10, 256 << 20
CPU_SMALL_CALL = 1.5
CPU_SHARE_FP32, CPU_SHARE_HALVES = 0.7, 0.5
CPU_TIMES_SINGLE_OP, CPU_TIMES_COMPOSED = 1.2, 5.0
CPU_AT_MEMORY = 0.9
CPU_SCALING, CPU_SCALING_THREADS = 0.85, 8
NOT_SLOWER = 0.98
LATENCY_BESIDE_EMPTY = 0.7
LATENCY_BESIDE_NEG = 1.1
HOST_BESIDE_NEG = 1.2
MISALIGNED = 60.0
# The ceiling that latencies stand beside.
EMPTY_KERNEL = "empty kernel, us"


def label(row: Row) -> str:
    """Which problem a floor is about."""
    setting = row.setting
    where = f" {setting['isa']} {setting['threads']} threads" if "isa" in setting else ""
    return f"{row.op} {row.dtype} {'x'.join(map(str, row.shape))}{where}"


def ratio(candidates: Rows, first: str, second: str) -> float | None:
    """The median of `turn_ratios`; None where either candidate was not timed."""
    ratios = turn_ratios(candidates.get(first), candidates.get(second))
    return statistics.median(ratios) if ratios else None


def turn_shares(candidates: Rows, yardstick: str = COPY) -> list[float]:
    """Our bandwidth over that of a yardstick, turn by turn; empty where either is not known."""
    ours, other = candidates[OURS], candidates.get(yardstick)
    if yardstick == COPY and ours.pct_copy is None:
        return []
    if other is not None and other.bytes:
        return [ours.bytes / other.bytes * time for time in turn_ratios(other, ours)]
    return [ours.pct_copy / 100] if yardstick == COPY and ours.pct_copy else []


def judged(what: str, values: Sequence[float], bound: float, at_most: bool = False) -> list[Floor]:
    """A floor on the median of `values`, one of each turn; none where there are no values."""
    if not values:
        return []
    spread = quartiles(values) if len(values) > 1 else None
    return [Floor(what, statistics.median(values), bound, at_most, spread)]


def beyond_memory(candidates: Rows, found: list[Floor]) -> list[Floor]:
    """Floors on our speed with what they would show if memory were no limit."""
    reached, ours = cached_gbps(candidates), candidates[OURS].gbps
    if reached is None or ours is None:
        return found
    return [replace(floor, in_cache=reached / ours * floor.measured) for floor in found]


def cached_gbps(candidates: Rows) -> float | None:
    """Bandwidth of as many threads as took part, each at the speed of one whose rows are in its
    cache; None where that was not timed.
    """
    cached = candidates.get(OURS_CACHED)
    if cached is None or cached.gbps is None:
        return None
    return int(cached.setting["threads"]) * cached.gbps


def against(candidates: Rows, other: str, least: float) -> list[Floor]:
    """Ours must be `least` times as fast as `other`, where that was timed."""
    what = f"{label(candidates[OURS])}: speed against {other}"
    return judged(what, turn_ratios(candidates.get(other), candidates[OURS]), least)


def beside(candidates: Rows, name: str, yardstick: str, most: float, what: str) -> list[Floor]:
    """A candidate may take `most` times as long as a yardstick."""
    costs = turn_ratios(candidates.get(name), candidates.get(yardstick))
    return judged(f"{label(candidates[OURS])}{what}", costs, most, at_most=True)


def small_calls(candidates: Rows, most: float, what: str = "") -> list[Floor]:
    """What a call of ours costs on a few values, beside torch's negation called the same way.

    The C call, made from Python too, on a CPU with DLPack tensors, is bound to its function, as
    generated code binds torch.neg.
    The torch op is called as ops of any library are: by its schema, through torch.ops. That alone
    costs twice what torch.neg does, as torch.ops.aten.neg.out shows, so that this is its yardstick.
    """
    pairs = ((OURS_C, NEG), (OURS, NEG_OP))
    return [
        floor
        for name, yardstick in pairs
        for floor in beside(candidates, name, yardstick, most, f"{what}: {name} over {yardstick}")
    ]


def share_of_copy(candidates: Rows, what: str, scale: float, bound: float) -> list[Floor]:
    """Our bandwidth over that of the copy, times `scale`."""
    shares = [scale * share for share in turn_shares(candidates)]
    return judged(f"{label(candidates[OURS])}{what}", shares, bound)


def cpu_share_of_copy(candidates: Rows, cores: int) -> list[Floor]:
    """The share of the copy's bandwidth that a large problem reaches on all cores."""
    ours = candidates[OURS]
    if ours.setting["threads"] != cores:
        return []
    bound = CPU_SHARE_FP32 if ours.dtype == "float32" else CPU_SHARE_HALVES
    return share_of_copy(candidates, ": share of copy", 1.0, bound)


def cpu_memory_bound(candidates: Rows, cores: int, has_single_op: bool) -> list[Floor]:
    """What is asked of an op whose limit is memory: small calls cost little, large problems move as
    much as a copy and leave torch behind. Between the two caches decide, and nothing is asked.
    """
    moved = candidates[OURS].bytes
    if moved <= CPU_SMALL:
        return small_calls(candidates, CPU_SMALL_CALL)
    if moved < CPU_LARGE:
        return []
    asked = cpu_share_of_copy(candidates, cores) + cpu_beside_torch(candidates, has_single_op)
    return beyond_memory(candidates, asked)


def cpu_beside_torch(candidates: Rows, has_single_op: bool) -> list[Floor]:
    """Ours beside torch's single op, or where it has none beside the composed formula."""
    if has_single_op:
        return cpu_ahead_or_at_memory(candidates, FUSED, CPU_TIMES_SINGLE_OP, COPY)
    return cpu_ahead_or_at_memory(candidates, COMPOSED, CPU_TIMES_COMPOSED, COPY)


def cpu_ahead_or_at_memory(
    candidates: Rows, other: str, least: float, yardstick: str
) -> list[Floor]:
    """Ours must be `least` times as fast as `other`, or as fast as memory: as a yardstick that
    moves the same bytes.

    Nothing is faster than that, and torch can be near it: operators that write into given memory
    reach the copy themselves, a composed gated op moves no more than 5/3 of ours, and decoding
    with as many key heads as heads is read at more than a third of a plain reduction's speed.
    """
    times = turn_ratios(candidates.get(other), candidates[OURS])
    shares = turn_shares(candidates, yardstick)
    if not times or not shares:
        return against(candidates, other, least)
    reached = [
        max(time / least, share / CPU_AT_MEMORY) for time, share in zip(times, shares, strict=False)
    ]
    what = (
        f"{label(candidates[OURS])}: speed over {least:g} x {other}'s "
        f"or {CPU_AT_MEMORY:g} x the {yardstick}'s"
    )
    return judged(what, reached, 1.0)


def gpu_share_of_copy(candidates: Rows, percent: float) -> list[Floor]:
    """The share of the copy's bandwidth, two points more for fp32."""
    bound = percent + (2.0 if candidates[OURS].dtype == "float32" else 0.0)
    return share_of_copy(candidates, ", % of copy", 100.0, bound)


def gpu_keeps_up(candidates: Rows) -> list[Floor]:
    """Ours against the best of all references."""
    others = {
        name: row.us_median
        for name, row in candidates.items()
        if row.status == MEASURED and row.us_median
        if not name.startswith(OURS) and name not in YARDSTICKS
    }
    if not others:
        return []
    best = min(others, key=others.__getitem__)
    return against(candidates, best, NOT_SLOWER)


def gpu_latency(candidates: Rows, ceilings: Mapping[str, float]) -> list[Floor]:
    """Time of a small problem in a graph, beside an empty kernel's and torch.neg's.

    The former can't be judged where the empty kernel was not timed.
    """
    ours = candidates[OURS]
    what, empty = f"{label(ours)}, us in a graph", ceilings.get(EMPTY_KERNEL)
    spread = quartiles(ours.turns) if ours.turns else None
    if empty is None:
        found = Floor(what, None, LATENCY_BESIDE_EMPTY, at_most=True)
    else:
        bound = empty + LATENCY_BESIDE_EMPTY
        found = Floor(what, ours.us_median, bound, at_most=True, quartiles=spread)
    beside_neg = f", us in a graph over {NEG}'s"
    return [found, *beside(candidates, OURS, NEG, LATENCY_BESIDE_NEG, beside_neg)]


def gpu_misaligned(ours: Row, aligned: Row | None) -> list[Floor]:
    """Bandwidth on misaligned rows, beside that on aligned ones."""
    if aligned is None or aligned.gbps is None or ours.gbps is None:
        return []
    share = 100 * ours.gbps / aligned.gbps
    return [Floor(f"{label(ours)}, misaligned, % of aligned", share, MISALIGNED)]


def gpu_memory_bound(
    candidates: Rows,
    ceilings: Mapping[str, float],
    aligned: Row | None,
    percent: float | None,
) -> list[Floor]:
    """What is asked of an op whose limit is memory: calls cost little, small problems are done at
    once, large ones reach `percent` of the copy (where that is given) and nobody is faster.
    """
    ours = candidates[OURS]
    if ours.setting.get("launch") == "host":
        return small_calls(candidates, HOST_BESIDE_NEG, ", host time")
    if ours.setting.get("layout") == "misaligned":
        return gpu_misaligned(ours, aligned)
    if ours.bytes >= GPU_LARGE:
        share = [] if percent is None else gpu_share_of_copy(candidates, percent)
        return share + gpu_keeps_up(candidates)
    if ours.bytes <= GPU_SMALL and ours.setting.get("launch") == "graph":
        return gpu_latency(candidates, ceilings)
    return []
