# SPDX-License-Identifier: Apache-2.0
"""Floors that a release must reach."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.rows import FAILED, Result


@dataclass(frozen=True)
class Floor:
    """`measured` must be at least (`at_most`: at most) `bound`; `what` says of which row."""

    what: str
    measured: float
    bound: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """True where the floor is reached."""
        if self.at_most:
            return self.measured <= self.bound
        return self.measured >= self.bound

    def __str__(self) -> str:
        """The floor as one line of the report."""
        sign = "<=" if self.at_most else ">="
        verdict = "ok" if self.holds else "MISSED"
        return f"{verdict:<7}{self.what}: {self.measured:.2f} {sign} {self.bound:g}"


def misses(result: Result, floors: list[Floor]) -> list[str]:
    """Every missed floor and every row with wrong values, as lines."""
    wrong = [
        f"WRONG  {row.op} {row.dtype} {row.shape} {row.setting} {row.candidate}: {row.reason}"
        for row in result.rows
        if row.status == FAILED
    ]
    return wrong + [str(floor) for floor in floors if not floor.holds]
