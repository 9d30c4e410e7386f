# SPDX-License-Identifier: Apache-2.0
"""What the CUDA build of layer-norm holds, read from the binary: nothing here needs a GPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sass

ARCHS = ("sm_80", "sm_90", "sm_100", "sm_120")
ROW_KERNELS = (
    "normalize_held_rows",
    "differentiate_held_rows",
    "fused_rows",
    "fused_backward_rows",
)

# Local-memory instructions that nvcc 13.0 leaves in kernels for rows too wide for the registers,
# and on sm_120 in two others: (architecture, part of a kernel name) -> how many. None elsewhere.
SPILLS = {
    ("sm_80", "fused_backward_rowsI13__nv_bfloat16Li0E"): 17,
    ("sm_80", "fused_backward_rowsI6__halfLi0E"): 17,
    ("sm_90", "normalize_wide_rowsIf"): 4,
    ("sm_120", "normalize_wide_rowsIf"): 7,
    ("sm_120", "fused_backward_columnsI13__nv_bfloat16E"): 12,
    ("sm_120", "fused_backward_columnsI6__halfE"): 12,
    ("sm_120", "differentiate_held_rowsI13__nv_bfloat16Li1E"): 4,
    ("sm_120", "differentiate_held_rowsI6__halfLi1E"): 4,
}


def allowed_spills(arch: str, name: str) -> int:
    return next((n for (a, part), n in SPILLS.items() if a == arch and part in name), 0)


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("layer-norm")


def test_machine_code_for_every_architecture_and_ptx_for_later_ones(library: Path) -> None:
    machine_code, ptx = sass.architectures(library)
    assert machine_code == set(ARCHS)
    assert ptx == {"sm_120"}


@pytest.mark.parametrize("arch", ARCHS)
def test_no_kernel_spills_more_than_is_known_and_rows_move_in_16_bytes(
    library: Path, arch: str
) -> None:
    kernels = sass.kernels(library, arch)
    for name in ROW_KERNELS:
        assert any(name in kernel.name for kernel in kernels), name
    for kernel in kernels:
        opcodes = {one.opcode for one in kernel.code}
        spills = sum(one.opcode.startswith(("LDL", "STL")) for one in kernel.code)
        assert spills <= allowed_spills(arch, kernel.name), f"{kernel.name}: {spills}"
        if any(name in kernel.name for name in ROW_KERNELS):
            assert any(opcode.startswith("LDG.E.128") for opcode in opcodes), kernel.name
            assert any(opcode.startswith("STG.E.128") for opcode in opcodes), kernel.name
