# SPDX-License-Identifier: Apache-2.0
"""Floors that several families share, each judged on the candidates of one problem."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.gate import Floor
from protocol.rows import COMPOSED, COPY, FUSED, MEASURED, NEG, NEG_OP, OURS, OURS_C, Row
from protocol.timing import quartiles

Rows = Mapping[str, Row]

# Bytes moved on a CPU up to which a problem is small, and from which it is large.
CPU_SMALL, CPU_LARGE = 4 << 10, 64 << 20
# The same on a GPU.
GPU_SMALL, GPU_LARGE = 64 << 10, 256 << 20
CPU_SMALL_CALL = 1.5
CPU_SHARE_FP32, CPU_SHARE_HALVES = 0.7, 0.5
CPU_TIMES_SINGLE_OP, CPU_TIMES_COMPOSED = 1.2, 5.0
CPU_AT_COPY = 90.0  # percent
CPU_SCALING, CPU_SCALING_THREADS = 0.85, 8
NOT_SLOWER = 0.98
LATENCY_BESIDE_EMPTY = 0.7
LATENCY_BESIDE_NEG = 1.1
HOST_BESIDE_NEG = 1.2
MISALIGNED = 60.0


def label(row: Row) -> str:
    """Which problem a floor is about."""
    setting = row.setting
    where = f" {setting['isa']} {setting['threads']} threads" if "isa" in setting else ""
    return f"{row.op} {row.dtype} {'x'.join(map(str, row.shape))}{where}"


def ratio(candidates: Rows, first: str, second: str) -> float | None:
    """Time of one candidate over another's; None where either was not timed."""
    times = [candidates[name].us_median if name in candidates else None for name in (first, second)]
    return times[0] / times[1] if times[0] and times[1] else None


def ratio_quartiles(candidates: Rows, first: str, second: str) -> tuple[float, float] | None:
    """The quartiles of `ratio`, taken turn by turn; None where there are no turns."""
    pairs = list(zip(candidates[first].turns, candidates[second].turns, strict=False))
    return quartiles([one / other for one, other in pairs]) if len(pairs) > 1 else None


def against(candidates: Rows, other: str, least: float) -> list[Floor]:
    """Ours must be `least` times as fast as `other`, where that was timed."""
    speed = ratio(candidates, other, OURS)
    if speed is None:
        return []
    what = f"{label(candidates[OURS])}: speed against {other}"
    return [Floor(what, speed, least, quartiles=ratio_quartiles(candidates, other, OURS))]


def beside(candidates: Rows, name: str, yardstick: str, most: float, what: str) -> list[Floor]:
    """A candidate may take `most` times as long as a yardstick."""
    cost = ratio(candidates, name, yardstick)
    if cost is None:
        return []
    what, spread = f"{label(candidates[OURS])}{what}", ratio_quartiles(candidates, name, yardstick)
    return [Floor(what, cost, most, at_most=True, quartiles=spread)]


def cpu_small_calls(candidates: Rows) -> list[Floor]:
    """What a call of ours costs on a few values, beside torch's negation.

    Our Python function calls an op of a library, which torch dispatches by its schema; torch.neg is
    bound by generated code. torch.ops.aten.neg.out, torch's own op called as ours is, shows how
    much of the cost that is.
    """
    pairs = ((OURS_C, NEG), (OURS, NEG), (OURS, NEG_OP))
    return [
        floor
        for name, yardstick in pairs
        for floor in beside(
            candidates, name, yardstick, CPU_SMALL_CALL, f": {name} over {yardstick}"
        )
    ]


def share_of_copy(candidates: Rows, what: str, scale: float, bound: float) -> list[Floor]:
    """Our bandwidth over that of the copy, times `scale`."""
    ours = candidates[OURS]
    if ours.pct_copy is None:
        return []
    spread = None
    if COPY in candidates and (of_time := ratio_quartiles(candidates, COPY, OURS)):
        more = scale * ours.bytes / candidates[COPY].bytes
        spread = more * of_time[0], more * of_time[1]
    share = scale * ours.pct_copy / 100
    return [Floor(f"{label(ours)}{what}", share, bound, quartiles=spread)]


def cpu_share_of_copy(candidates: Rows, cores: int) -> list[Floor]:
    """The share of the copy's bandwidth that a large problem reaches on all cores."""
    ours = candidates[OURS]
    if ours.setting["threads"] != cores:
        return []
    bound = CPU_SHARE_FP32 if ours.dtype == "float32" else CPU_SHARE_HALVES
    return share_of_copy(candidates, ": share of copy", 1.0, bound)


def cpu_beside_torch(candidates: Rows, has_single_op: bool) -> list[Floor]:
    """Ours beside torch's single op, or where it has none beside the composed formula.

    What runs at the speed of the copy has nothing to gain.
    """
    if (candidates[OURS].pct_copy or 0) >= CPU_AT_COPY:
        return []
    if has_single_op:
        return against(candidates, FUSED, CPU_TIMES_SINGLE_OP)
    return against(candidates, COMPOSED, CPU_TIMES_COMPOSED)


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
        if not name.startswith(OURS) and name not in (COPY, NEG)
    }
    if not others:
        return []
    best = min(others, key=others.__getitem__)
    return against(candidates, best, NOT_SLOWER)


def gpu_latency(candidates: Rows, ceilings: Mapping[str, float]) -> list[Floor]:
    """Time of a small problem in a graph, beside an empty kernel's and torch.neg's."""
    ours = candidates[OURS]
    found = []
    empty = ceilings.get("empty kernel, us")
    if ours.us_median is not None and empty is not None:
        what, bound = f"{label(ours)}, us in a graph", empty + LATENCY_BESIDE_EMPTY
        spread = quartiles(ours.turns) if ours.turns else None
        found.append(Floor(what, ours.us_median, bound, at_most=True, quartiles=spread))
    what = f", us in a graph over {NEG}'s"
    return found + beside(candidates, OURS, NEG, LATENCY_BESIDE_NEG, what)


def gpu_host(candidates: Rows) -> list[Floor]:
    """Time that the caller spends in a call, beside torch.neg's."""
    return beside(candidates, OURS, NEG, HOST_BESIDE_NEG, f", host time over {NEG}'s")


def gpu_misaligned(ours: Row, aligned: Row | None) -> list[Floor]:
    """Bandwidth on misaligned rows, beside that on aligned ones."""
    if aligned is None or aligned.gbps is None or ours.gbps is None:
        return []
    share = 100 * ours.gbps / aligned.gbps
    return [Floor(f"{label(ours)}, misaligned, % of aligned", share, MISALIGNED)]
