# SPDX-License-Identifier: Apache-2.0
"""The floors that CUDA kernels must reach, judged on the rows of a run."""

from __future__ import annotations

from protocol.activation_ops import GATED
from protocol.gate import Floor
from protocol.rows import MEASURED, Result, Row

# Bytes moved from which a problem is large, and up to which it is small.
LARGE = 256 << 20
SMALL = 64 << 10
SHARE_OF_COPY = 92.0
SHARE_OF_COPY_ERF = 85.0
MORE_FOR_FP32 = 2.0
NOT_SLOWER = 0.98
LATENCY_BESIDE_EMPTY = 0.7
NOT_REFERENCES = ("copy", "torch.neg")


def floors(result: Result) -> list[Floor]:
    """Every floor that the measured rows allow to judge."""
    found: list[Floor] = []
    aligned = {
        (row.op, row.dtype, row.shape): row.gbps
        for row in result.rows
        if row.candidate == "ours" and row.setting.get("layout") == "aligned"
    }
    for candidates in result.group().values():
        ours = candidates.get("ours")
        if ours is None or ours.status != MEASURED or not ours.us_median:
            continue
        times = {
            name: row.us_median
            for name, row in candidates.items()
            if row.status == MEASURED and row.us_median
        }
        if ours.setting.get("launch") == "host":
            found += _host(ours, times)
        elif ours.setting.get("layout") == "misaligned":
            found += _misaligned(ours, aligned.get((ours.op, ours.dtype, ours.shape)))
        else:
            found += _device(ours, times, result.ceilings)
    return found


def _name(row: Row) -> str:
    return f"{row.op} {row.dtype} {'x'.join(map(str, row.shape))}"


def _device(ours: Row, times: dict[str, float], ceilings: dict[str, float]) -> list[Floor]:
    found = []
    name = _name(ours)
    mine = times["ours"]
    if ours.bytes >= LARGE:
        share = SHARE_OF_COPY_ERF if ours.op == "gelu" else SHARE_OF_COPY
        share += MORE_FOR_FP32 if ours.dtype == "float32" else 0.0
        if ours.pct_copy is not None:
            found.append(Floor(f"{name}, % of copy", ours.pct_copy, share))
        others = {
            other: time
            for other, time in times.items()
            if not other.startswith("ours") and other not in NOT_REFERENCES
        }
        if others:
            best = min(others, key=others.__getitem__)
            found.append(Floor(f"{name}, speed against {best}", others[best] / mine, NOT_SLOWER))
    if ours.op == "gelu_fast" and "composed" in times:
        bound = 8.0 if ours.bytes >= LARGE else 3.0
        found.append(Floor(f"{name}, speed against composed", times["composed"] / mine, bound))
    if ours.op in ("gelu_fast", "gelu_new") and ours.bytes >= LARGE and "fused" in times:
        found.append(Floor(f"{name}, speed against F.gelu", times["fused"] / mine, NOT_SLOWER))
    if ours.bytes <= SMALL and ours.setting.get("launch") == "graph":
        empty = ceilings.get("empty kernel, us")
        if empty is not None:
            bound = empty + LATENCY_BESIDE_EMPTY
            found.append(Floor(f"{name}, us in a graph", mine, bound, at_most=True))
        if "torch.neg" in times and ours.op not in GATED:
            bound = times["torch.neg"] * 1.1
            found.append(Floor(f"{name}, us beside neg's", mine, bound, at_most=True))
    return found


def _host(ours: Row, times: dict[str, float]) -> list[Floor]:
    if "torch.neg" not in times:
        return []
    ratio = times["ours"] / times["torch.neg"]
    return [Floor(f"{_name(ours)}, host time over torch.neg's", ratio, 1.2, at_most=True)]


def _misaligned(ours: Row, aligned: float | None) -> list[Floor]:
    if aligned is None or ours.gbps is None:
        return []
    return [Floor(f"{_name(ours)}, misaligned, % of aligned", 100 * ours.gbps / aligned, 60.0)]
