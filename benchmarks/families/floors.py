# SPDX-License-Identifier: Apache-2.0
"""Floors that several families share, each judged on the candidates of one problem."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.gate import Floor
from protocol.rows import COPY, MEASURED, NEG, NEG_OP, OURS, OURS_C, Row

Rows = Mapping[str, Row]

# Bytes moved on a CPU up to which a problem is small, and from which it is large.
CPU_SMALL, CPU_LARGE = 4 << 10, 64 << 20
# The same on a GPU.
GPU_SMALL, GPU_LARGE = 64 << 10, 256 << 20
CPU_SMALL_CALL = 1.5
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


def against(candidates: Rows, other: str, least: float) -> list[Floor]:
    """Ours must be `least` times as fast as `other`, where that was timed."""
    speed = ratio(candidates, other, OURS)
    if speed is None:
        return []
    return [Floor(f"{label(candidates[OURS])}: speed against {other}", speed, least)]


def cpu_small_calls(candidates: Rows) -> list[Floor]:
    """What a call of ours costs on a few values, beside torch's negation called the same way.

    A C call is held against torch.neg, whose arguments generated code of torch parses. Our Python
    function calls an op of a library, which torch dispatches by its schema, as it does its own
    aten ops that are called through torch.ops: nothing of a package can make that faster.
    """
    found = []
    for name, yardstick in ((OURS_C, NEG), (OURS, NEG_OP)):
        cost = ratio(candidates, name, yardstick)
        if cost is not None:
            what = f"{label(candidates[OURS])}: {name} over {yardstick}"
            found.append(Floor(what, cost, CPU_SMALL_CALL, at_most=True))
    return found


def cpu_share_of_copy(ours: Row, cores: int, fp32: float = 0.7, halves: float = 0.5) -> list[Floor]:
    """The share of the copy's bandwidth that a large problem reaches on all cores."""
    if ours.setting["threads"] != cores or ours.pct_copy is None:
        return []
    bound = fp32 if ours.dtype == "float32" else halves
    return [Floor(f"{label(ours)}: share of copy", ours.pct_copy / 100, bound)]


def gpu_share_of_copy(ours: Row, percent: float) -> list[Floor]:
    """The share of the copy's bandwidth, two points more for fp32."""
    if ours.pct_copy is None:
        return []
    bound = percent + (2.0 if ours.dtype == "float32" else 0.0)
    return [Floor(f"{label(ours)}, % of copy", ours.pct_copy, bound)]


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


def gpu_latency(candidates: Rows, ceilings: Mapping[str, float], beside_neg: bool) -> list[Floor]:
    """Time of a small problem in a graph, beside an empty kernel's and torch.neg's."""
    ours = candidates[OURS]
    found = []
    empty = ceilings.get("empty kernel, us")
    if ours.us_median is not None and empty is not None:
        what, bound = f"{label(ours)}, us in a graph", empty + LATENCY_BESIDE_EMPTY
        found.append(Floor(what, ours.us_median, bound, at_most=True))
    cost = ratio(candidates, OURS, NEG)
    if beside_neg and cost is not None:
        what = f"{label(ours)}, us in a graph over {NEG}'s"
        found.append(Floor(what, cost, LATENCY_BESIDE_NEG, at_most=True))
    return found


def gpu_host(candidates: Rows) -> list[Floor]:
    """Time that the caller spends in a call, beside torch.neg's."""
    cost = ratio(candidates, OURS, NEG)
    if cost is None:
        return []
    what = f"{label(candidates[OURS])}, host time over {NEG}'s"
    return [Floor(what, cost, HOST_BESIDE_NEG, at_most=True)]


def gpu_misaligned(ours: Row, aligned: Row | None) -> list[Floor]:
    """Bandwidth on misaligned rows, beside that on aligned ones."""
    if aligned is None or aligned.gbps is None or ours.gbps is None:
        return []
    share = 100 * ours.gbps / aligned.gbps
    return [Floor(f"{label(ours)}, misaligned, % of aligned", share, MISALIGNED)]
