# SPDX-License-Identifier: Apache-2.0
"""Candidates take turns, so that a machine's drift meets all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# One turn of a candidate: microseconds of each of its calls.
Turn = Callable[[], list[float]]

# A candidate whose calls take longer takes no more than FEW turns, whatever the others take.
SLOW_US, FEW = 1e5, 3
# Quartiles this close to each other are as good as a quiet machine gives.
CLOSE = 0.02


@dataclass(frozen=True)
class Timing:
    """Microseconds per call. `us_median` is the least of the medians of the `turns`."""

    us_median: float
    p10: float
    p90: float
    us_min: float
    spread: float
    turns: tuple[float, ...]


def interleaved(
    turns: Mapping[str, Turn], rounds: int = 5, most: int | None = None
) -> dict[str, Timing]:
    """Times every candidate in turn, A B C A B C, after one turn each that does not count.

    After `rounds` it goes on, up to `most` of them, while the ratio of a candidate to the first one
    that is not slow is not settled. The spread compares the even with the odd turns: the same
    candidate twice.
    """
    medians: dict[str, list[float]] = {name: [] for name in turns}
    calls: dict[str, list[float]] = {name: [] for name in turns}
    slow = set()
    for name, turn in turns.items():
        # A first call may be slow for being the first.
        if min(turn()) > SLOW_US and min(turn()) > SLOW_US:
            slow.add(name)
    for done in range(most or rounds):
        if done >= rounds and _are_settled(medians, slow):
            break
        for name, turn in turns.items():
            if name in slow and done >= FEW:
                continue
            times = turn()
            medians[name].append(statistics.median(times))
            calls[name] += times
    return {name: _timing(medians[name], sorted(calls[name])) for name in turns}


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third; of a single value that value."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _are_settled(medians: Mapping[str, list[float]], slow: set[str]) -> bool:
    quick = [values for name, values in medians.items() if name not in slow]
    if not quick:
        return True
    yardstick, *others = quick
    for values in others or [yardstick]:
        ratios = [one / other for one, other in zip(values, yardstick, strict=True)]
        low, high = quartiles(ratios if others else values)
        if high > low * (1 + CLOSE):
            return False
    return True


def _timing(medians: list[float], calls: list[float]) -> Timing:
    first, second = min(medians[::2]), min(medians[1::2], default=medians[0])
    at = lambda share: calls[min(int(share * len(calls)), len(calls) - 1)]  # noqa: E731
    spread = abs(first - second) / min(first, second)
    return Timing(min(medians), at(0.1), at(0.9), calls[0], spread, tuple(medians))
