# SPDX-License-Identifier: Apache-2.0
"""The floors that CUDA kernels must reach, judged on the rows of a run."""

from __future__ import annotations

from dataclasses import replace

import families
from protocol.gate import Floor
from protocol.rows import COPY, MEASURED, NEG, NEG_OP, NOT_RUN, OURS, Result, Row


def unjudged(row: Row) -> list[Floor]:
    """The floors of a problem, by our row of it, beside what is timed on every machine; without a
    figure, as when it was not run.
    """
    row = replace(row, status=MEASURED, us_median=1.0, copy_gbps=1.0)
    candidates = {name: replace(row, candidate=name) for name in (OURS, COPY, NEG, NEG_OP)}
    found = families.of(row.op).gpu_floors(candidates, {}, row)
    return [replace(floor, measured=None, quartiles=None) for floor in found]


def floors(result: Result) -> list[Floor]:
    """Every floor that the rows allow to judge, and those of problems that were not run."""
    ops = {op for family in families.ALL for op in family.ops}  # no floor is the ceilings' own
    groups = [rows for rows in result.group().values() if OURS in rows and rows[OURS].op in ops]
    aligned = {
        (row.op, row.dtype, row.shape, row.setting.get("launch")): row
        for row in (rows[OURS] for rows in groups)
        if row.setting.get("layout") == "aligned"
    }
    found: list[Floor] = []
    for candidates in groups:
        ours = candidates[OURS]
        own: list[Floor] = []
        if ours.status == MEASURED and ours.us_median:
            same = (ours.op, ours.dtype, ours.shape, ours.setting.get("launch"))
            family = families.of(ours.op)
            own = family.gpu_floors(candidates, result.ceilings, aligned.get(same))
        elif ours.status != NOT_RUN:
            continue  # wrong, which is worse
        known = {floor.what for floor in own}
        found += [*own, *(floor for floor in unjudged(ours) if floor.what not in known)]
    return found
