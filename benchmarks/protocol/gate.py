# SPDX-License-Identifier: Apache-2.0
"""Floors that a release must reach."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.rows import FAILED, NOT_RUN, OURS, Result

OK, MISSED, UNSURE = "ok", "MISSED", "unsure"


@dataclass(frozen=True)
class Floor:
    """`measured` must be at least (`at_most`: at most) `bound`; `what` says of which row. It is
    None where nothing was measured that would tell.

    `quartiles` are those of the same figure, turn by turn, where there are turns; `measured` is
    their median then. `in_cache` is what the figure would be if memory were no limit, where that
    was timed: a bound above it asks for less arithmetic, not for better use of memory.
    """

    what: str
    measured: float | None
    bound: float
    at_most: bool = False
    quartiles: tuple[float, float] | None = None
    in_cache: float | None = None

    @property
    def holds(self) -> bool:
        """True where the floor is reached."""
        if self.measured is None:
            return False
        if self.at_most:
            return self.measured <= self.bound
        return self.measured >= self.bound

    @property
    def verdict(self) -> str:
        """OK or MISSED; UNSURE where the quartiles lie on both sides of the bound: measured again,
        it could as well come out the other way; NOT_RUN without a figure.
        """
        if self.measured is None:
            return NOT_RUN
        if self.quartiles is not None and self.quartiles[0] < self.bound < self.quartiles[1]:
            return UNSURE
        return OK if self.holds else MISSED

    def __str__(self) -> str:
        """The floor as one line of the report."""
        if self.measured is None:
            return f"{NOT_RUN} {self.what}"
        sign = "<=" if self.at_most else ">="
        line = f"{self.verdict:<7}{self.what}: {self.measured:.2f} {sign} {self.bound:g}"
        remarks = []
        if self.quartiles is not None:
            remarks.append("quartiles {:.2f} to {:.2f}".format(*self.quartiles))
        if self.in_cache is not None:
            remarks.append(f"{self.in_cache:.2f} in cache")
        return f"{line} ({'; '.join(remarks)})" if remarks else line


def misses(result: Result, floors: list[Floor]) -> list[str]:
    """Every missed floor and every row of ours with wrong values, as lines."""
    wrong = [
        f"WRONG  {row.op} {row.dtype} {row.shape} {row.setting} {row.candidate}: {row.reason}"
        for row in result.rows
        if row.status == FAILED and row.candidate.startswith(OURS)
    ]
    return wrong + [str(floor) for floor in floors if floor.verdict == MISSED]


def doubts(floors: list[Floor]) -> list[str]:
    """Every floor that this run measured and cannot judge, as lines."""
    return [str(floor) for floor in floors if floor.verdict == UNSURE]


def unjudged(floors: list[Floor]) -> list[str]:
    """Every floor for which this run measured nothing, as lines."""
    return [str(floor) for floor in floors if floor.verdict == NOT_RUN]
