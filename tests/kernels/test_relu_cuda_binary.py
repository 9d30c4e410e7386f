# SPDX-License-Identifier: Apache-2.0
"""What the CUDA build of relu holds, read from the binary: nothing here needs a GPU."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sass
from sass import ARCHS

LANES = {"fp32": 4, "fp16": 8, "bf16": 8}
# Most instructions per element that a thread executes from its entry to its exit in a large call of
# one long row, by the tensors read: the op or its gradient. An H200 has some 30 issue slots while
# memory moves an element of 16 bits twice, and as many again for each further pass or 16 bits.
BUDGET = {("fp32", 1): 5.5, ("fp32", 2): 7.5, ("fp16", 1): 6.5, ("fp16", 2): 7.5}
# In the order of enum RowEdges.
EDGES = ("one row", "aligned", "any")


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("relu")


def vectorized(library: Path, arch: str) -> dict[tuple[str, int, str], sass.Kernel]:
    """The kernels on 16-byte groups by dtype, inputs and edges."""
    kernels = {}
    for kernel in sass.kernels(library, arch):
        edges = re.search(r"elementwise_vectorsI\w*?8RowEdgesE(\d)E", kernel.name)
        inputs = re.search(r"6SelectI\w*?Li(\d)E", kernel.name)
        if edges is None or inputs is None:
            continue
        dtype = "bf16" if "bfloat16" in kernel.name else "fp16" if "half" in kernel.name else "fp32"
        kernels[dtype, int(inputs[1]), EDGES[int(edges[1])]] = kernel
    return kernels


@pytest.mark.parametrize("arch", ARCHS)
def test_large_calls_move_16_bytes_at_a_time_within_the_budget(library: Path, arch: str) -> None:
    kernels = vectorized(library, arch)
    assert set(kernels) == {(d, n, edges) for d in LANES for n in (1, 2) for edges in EDGES}
    for (dtype, inputs, edges), kernel in kernels.items():
        if edges != "one row":
            continue
        groups = kernel.loads_in_flight() // inputs
        assert groups == 2
        per_element = kernel.executed(stores=groups) / (groups * LANES[dtype])
        budget = BUDGET["fp32" if dtype == "fp32" else "fp16", inputs]
        assert per_element <= budget, f"{kernel.name}: {per_element:.2f}"
