# SPDX-License-Identifier: Apache-2.0
"""Candidates take turns, so that a machine's drift meets all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# One turn of a candidate: microseconds of each of its calls.
Turn = Callable[[], list[float]]


@dataclass(frozen=True)
class Timing:
    """Microseconds per call. `us_median` is the least of the turns' medians."""

    us_median: float
    p10: float
    p90: float
    us_min: float
    spread: float


def interleaved(turns: Mapping[str, Turn], rounds: int = 5) -> dict[str, Timing]:
    """Times every candidate in turn, A B C A B C, after one turn each that does not count.

    The spread compares the even with the odd turns: the same candidate measured twice.
    """
    medians: dict[str, list[float]] = {name: [] for name in turns}
    calls: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn()
    for _ in range(rounds):
        for name, turn in turns.items():
            times = turn()
            medians[name].append(statistics.median(times))
            calls[name] += times
    return {name: _timing(medians[name], sorted(calls[name])) for name in turns}


def _timing(medians: list[float], calls: list[float]) -> Timing:
    first, second = min(medians[::2]), min(medians[1::2], default=medians[0])
    at = lambda share: calls[min(int(share * len(calls)), len(calls) - 1)]  # noqa: E731
    spread = abs(first - second) / min(first, second)
    return Timing(min(medians), at(0.1), at(0.9), calls[0], spread)
