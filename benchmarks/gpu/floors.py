# SPDX-License-Identifier: Apache-2.0
"""The floors that CUDA kernels must reach, judged on the rows of a run."""

from __future__ import annotations

import families
from protocol.gate import Floor
from protocol.rows import MEASURED, OURS, Result


def floors(result: Result) -> list[Floor]:
    """Every floor that the measured rows allow to judge."""
    groups = [rows for rows in result.group().values() if OURS in rows]
    aligned = {
        (row.op, row.dtype, row.shape, row.setting.get("launch")): row
        for row in (rows[OURS] for rows in groups)
        if row.setting.get("layout") == "aligned"
    }
    found: list[Floor] = []
    for candidates in groups:
        ours = candidates[OURS]
        if ours.status == MEASURED and ours.us_median:
            same = (ours.op, ours.dtype, ours.shape, ours.setting.get("launch"))
            family = families.of(ours.op)
            found += family.gpu_floors(candidates, result.ceilings, aligned.get(same))
    return found
