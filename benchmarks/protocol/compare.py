# SPDX-License-Identifier: Apache-2.0
"""What became slower since an earlier run."""

from __future__ import annotations

from protocol.rows import Result, Row

REGRESSION = 0.03


def regressions(old: Result, new: Result) -> list[str]:
    """Our rows that lost more than REGRESSION beyond the noise of both runs, as lines.

    Times are divided by those of the copy in the same row where both runs have one, so that a
    machine that is slower today is no regression.
    """
    before = {(row.problem, row.candidate): row for row in old.rows}
    lines = []
    for row in new.rows:
        past = before.get((row.problem, row.candidate))
        if not row.candidate.startswith("ours") or past is None:
            continue
        if row.us_median is None or past.us_median is None:
            continue
        change = _cost(row, past) / _cost(past, row) - 1
        if change > REGRESSION + (row.spread or 0) + (past.spread or 0):
            lines.append(
                f"SLOWER {row.op} {row.dtype} {row.shape} {row.setting} {row.candidate}: "
                f"{change:+.1%} ({past.us_median:.2f} us before, {row.us_median:.2f} us now)"
            )
    return lines


def _cost(row: Row, other: Row) -> float:
    assert row.us_median is not None
    if row.copy_gbps and other.copy_gbps:
        return row.us_median * row.copy_gbps
    return row.us_median
