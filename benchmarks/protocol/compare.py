# SPDX-License-Identifier: Apache-2.0
"""What became slower since an earlier run."""

from __future__ import annotations

from typing import Any

from protocol.rows import Result, Row

REGRESSION = 0.03


def regressions(old: Result, new: Result) -> list[str]:
    """Our rows that lost more than REGRESSION beyond the noise of both runs, as lines.

    Times are divided by those of the copy in the same row where both runs have one, so that a
    machine that is slower today is no regression.
    """
    before = _timed(old)
    lines = []
    for key, row in _timed(new).items():
        past = before.get(key)
        if past is None:
            continue
        change = _cost(row, past) / _cost(past, row) - 1
        if change > REGRESSION + (row.spread or 0) + (past.spread or 0):
            lines.append(
                f"SLOWER {row.op} {row.dtype} {row.shape} {row.setting} {row.candidate}: "
                f"{change:+.1%} ({past.us_median:.2f} us before, {row.us_median:.2f} us now)"
            )
    return lines


def unmatched(old: Result, new: Result) -> int:
    """How many of our timed rows the earlier run lacks: another machine, or another setting."""
    return len(_timed(new).keys() - _timed(old).keys())


def _timed(result: Result) -> dict[tuple[Any, ...], Row]:
    return {
        (row.problem, row.candidate): row
        for row in result.rows
        if row.candidate.startswith("ours") and row.us_median is not None
    }


def _cost(row: Row, other: Row) -> float:
    assert row.us_median is not None
    if row.copy_gbps and other.copy_gbps:
        return row.us_median * row.copy_gbps
    return row.us_median
