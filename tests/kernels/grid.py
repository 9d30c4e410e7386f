# SPDX-License-Identifier: Apache-2.0
"""The property grid of the element-wise packages: shapes, layouts, and covers of their pairs."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch

ROWS = (0, 1, 7, 83, 2048)
COLS = (1, 2, 7, 8, 63, 64, 512, 1023, 4096, 13824, 65537)
LAYOUTS = ("contiguous", "strided_rows", "offset_by_one")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CANARY = 77.0


def placed(rows: int, cols: int, layout: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """A view [rows, cols] of the asked layout, and the canary-filled buffer around it."""
    pitch = cols + 5 if layout == "strided_rows" else cols
    start = 3 if layout == "strided_rows" else 1 if layout == "offset_by_one" else 0
    buffer = torch.full((start + rows * pitch + 9,), CANARY, dtype=dtype)
    return buffer.as_strided((rows, cols), (pitch, 1), start), buffer


def random_rows(rows: int, cols: int, layout: str, dtype: torch.dtype) -> torch.Tensor:
    """Values N(0, 1) in the asked layout."""
    return placed(rows, cols, layout, dtype)[0].copy_(torch.randn(rows, cols))


def _gain(missing: set[tuple[int, ...]], chosen: dict[int, int], k: int, value: int) -> int:
    """How many missing pairs factor `k` would complete with the chosen ones by taking `value`."""
    return sum(
        ((f, v, k, value) if f < k else (k, value, f, v)) in missing for f, v in chosen.items()
    )


def pairwise(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Tuples that hold every pair of values of any two factors at least once.

    Greedy: each tuple starts with a missing pair and takes, factor by factor, the value that covers
    most of the missing ones; among equals the one that was used least, or the triples would lie on
    few of the values.
    """
    indices = range(len(factors))
    missing = {
        (i, a, j, b)
        for i, j in itertools.combinations(indices, 2)
        for a in range(len(factors[i]))
        for b in range(len(factors[j]))
    }
    used = [[0] * len(values) for values in factors]
    cases = []
    while missing:
        i, a, j, b = min(missing)
        chosen = {i: a, j: b}

        for k in indices:
            if k not in chosen:
                values = range(len(factors[k]))
                chosen[k] = max(
                    values, key=lambda v, k=k: (_gain(missing, chosen, k, v), -used[k][v])
                )
        missing -= {(i, chosen[i], j, chosen[j]) for i, j in itertools.combinations(indices, 2)}
        for k in indices:
            used[k][chosen[k]] += 1
        cases.append(tuple(factors[k][chosen[k]] for k in indices))
    return cases
