# SPDX-License-Identifier: Apache-2.0
"""What the CUDA build of activation holds, read from the binary: nothing here needs a GPU."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sass
from sass import ARCHS

# In the order of enum Op.
OPS = (
    *("silu", "gelu", "gelu_tanh", "gelu_quick", "gelu_fast", "gelu_new"),
    *("silu_and_mul", "mul_and_silu", "gelu_and_mul", "gelu_tanh_and_mul", "fatrelu_and_mul"),
)

# Most instructions per output element of a 16-bit op that a thread executes from its entry to its
# exit in a large call: one long row where the op is unary, many whose ends are aligned where it is
# gated. Some 30 issue slots are what an H200 has while memory moves an element of a unary op, and
# half as much again of a gated one.
# A gradient moves three tensors where it is unary, five where it is gated: 46 slots and 77.
BUDGET = {
    "forward": {
        **{"silu": 17.5, "gelu": 27, "gelu_tanh": 24, "gelu_quick": 10},
        **{"gelu_fast": 15, "gelu_new": 14},
        **{"silu_and_mul": 20, "mul_and_silu": 20, "gelu_and_mul": 30},
        **{"gelu_tanh_and_mul": 27, "fatrelu_and_mul": 9},
    },
    # gelu_fast and gelu_new have the gradient of gelu_tanh.
    "backward": {
        **{"silu": 34.5, "gelu": 26.5, "gelu_tanh": 42, "gelu_quick": 35.5},
        **{"silu_and_mul": 48, "mul_and_silu": 48, "gelu_and_mul": 40.5},
        **{"gelu_tanh_and_mul": 56, "fatrelu_and_mul": 22},
    },
}
# The same of a float32 op, whose elements take memory twice as long: 60 slots, gated 90; 92 and 154
# of a gradient. A library function that a slow path calls is not counted.
FP32_BUDGET = {
    "forward": {
        **{"silu": 24.5, "gelu": 27.5, "gelu_tanh": 26.5, "gelu_quick": 25.5},
        **{"gelu_fast": 27.5, "gelu_new": 27.5},
        **{"silu_and_mul": 31, "mul_and_silu": 31, "gelu_and_mul": 34},
        **{"gelu_tanh_and_mul": 33, "fatrelu_and_mul": 13},
    },
    "backward": {
        **{"silu": 33.5, "gelu": 26, "gelu_tanh": 40.5, "gelu_quick": 34.5},
        **{"silu_and_mul": 52.5, "mul_and_silu": 52.5, "gelu_and_mul": 44.5},
        **{"gelu_tanh_and_mul": 59.5, "fatrelu_and_mul": 27},
    },
}
# The kernels on 16-byte groups by arch, direction, op, dtype and edges.
Kernels = dict[tuple[str, str, str, str, str], sass.Kernel]
# In the order of enum RowEdges.
EDGES = ("one row", "aligned", "any")
LANES = {"fp32": 4, "fp16": 8, "bf16": 8}


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("activation")


@pytest.fixture(scope="module")
def vectorized(library: Path) -> Kernels:
    kernels = {}
    for arch in ARCHS:
        for kernel in sass.kernels(library, arch):
            op = re.search(r"\d(Activation|\w{5}Backward)ILNS\w*?2OpE(\d+)E", kernel.name)
            edges = re.search(r"elementwise_vectorsI\w*?8RowEdgesE(\d)E", kernel.name)
            if op is None or edges is None:
                continue
            direction = "forward" if op[1] == "Activation" else "backward"
            dtype = "bf16" if "bfloat16" in kernel.name else "fp16"
            dtype = dtype if re.search(r"half|bfloat16", kernel.name) else "fp32"
            kernels[arch, direction, OPS[int(op[2])], dtype, EDGES[int(edges[1])]] = kernel
    return kernels


def test_every_op_has_a_kernel_for_every_dtype(vectorized: Kernels) -> None:
    ops = [(direction, op) for direction in BUDGET for op in BUDGET[direction]]
    dtypes = ("fp32", "fp16", "bf16")
    assert set(vectorized) == {
        (arch, *op, dtype, edges)
        for arch in ARCHS
        for op in ops
        for dtype in dtypes
        for edges in EDGES
    }


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("direction", "op"), [(direction, op) for direction in BUDGET for op in BUDGET[direction]]
)
def test_large_calls_move_16_bytes_at_a_time_within_the_budget(
    vectorized: Kernels, arch: str, direction: str, op: str
) -> None:
    is_gated, is_backward = op.endswith("_and_mul") or op == "mul_and_silu", direction == "backward"
    inputs, outputs = 1 + is_gated + is_backward, 1 + (is_gated and is_backward)
    for dtype, lanes in LANES.items():
        kernel = vectorized[arch, direction, op, dtype, "aligned" if is_gated else "one row"]
        groups = kernel.loads_in_flight() // inputs
        assert groups == (1 if is_gated and is_backward else 2)
        per_element = kernel.executed(stores=groups * outputs) / (groups * lanes)
        budget = (FP32_BUDGET if dtype == "fp32" else BUDGET)[direction][op]
        assert per_element <= budget, f"{dtype}: {per_element:.2f} instructions per element"
