# SPDX-License-Identifier: Apache-2.0
"""What the CUDA build of rotary holds, read from the binary: nothing here needs a GPU."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sass
from sass import ARCHS

# Of what is rotated and of cos and sin.
TYPES = (("f", "f"), ("half", "half"), ("half", "f"), ("bfloat16", "bfloat16"), ("bfloat16", "f"))
# Rows that a thread rotates by the same cos and sin.
ROWS = 4
# Most instructions per element, loads and stores of everything included; some 30 issue slots are
# what an H200 has while memory moves an element.
BUDGET = 14


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("rotary")


def form(name: str) -> tuple[str, str, bool, bool]:
    """dtype, dtype of the tables, interleaved, on 16-byte groups: of a mangled kernel."""
    types, interleaved, vectorized = re.search(
        r"rotary_kernelI(\w+?)Lb([01])ELb([01])E", name
    ).groups()  # type: ignore[union-attr]
    parts = re.findall(
        r"__nv_bfloat16|__half|f|S\d*_",
        types.replace("13__nv_bfloat16", " __nv_bfloat16 ").replace("6__half", " __half "),
    )
    first = parts[0].removeprefix("__").removeprefix("nv_")
    second = "f" if parts[1] == "f" else first
    return first, second, interleaved == "1", vectorized == "1"


@pytest.fixture(scope="module")
def kernels(library: Path) -> dict[tuple[str, str, str, bool, bool], sass.Kernel]:
    return {
        (arch, *form(kernel.name)): kernel
        for arch in ARCHS
        for kernel in sass.kernels(library, arch)
    }


def test_every_form_has_a_kernel(
    kernels: dict[tuple[str, str, str, bool, bool], sass.Kernel],
) -> None:
    flags = (False, True)
    expected = {(a, *t, i, v) for a in ARCHS for t in TYPES for i in flags for v in flags}
    assert set(kernels) == expected


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("types", TYPES, ids=str)
def test_hot_paths_move_16_bytes_at_a_time_within_the_budget(
    kernels: dict[tuple[str, str, str, bool, bool], sass.Kernel],
    arch: str,
    types: tuple[str, str],
    interleaved: bool,
) -> None:
    kernel = kernels[arch, *types, interleaved, True]
    # Both halves of every row, or the row.
    accesses = ROWS if interleaved else 2 * ROWS
    assert kernel.loads_in_flight() >= accesses
    lanes = 4 if types[0] == "f" else 8
    per_element = kernel.hot_path() / (accesses * lanes)
    assert per_element <= BUDGET, f"{per_element:.1f} instructions per element"
