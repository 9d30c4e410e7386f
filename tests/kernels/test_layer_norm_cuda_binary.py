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


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("layer-norm")


def test_machine_code_for_every_architecture_and_ptx_for_later_ones(library: Path) -> None:
    machine_code, ptx = sass.architectures(library)
    assert machine_code == set(ARCHS)
    assert ptx == {"sm_120"}


@pytest.mark.parametrize("arch", ARCHS)
def test_no_kernel_touches_local_memory(library: Path, arch: str) -> None:
    kernels = sass.kernels(library, arch)
    assert kernels
    spills = {
        kernel.name
        for kernel in kernels
        if any(one.opcode.startswith(("LDL", "STL")) for one in kernel.code)
    }
    assert not spills


@pytest.mark.parametrize("arch", ARCHS)
def test_rows_move_in_16_bytes(library: Path, arch: str) -> None:
    kernels = sass.kernels(library, arch)
    for name in ROW_KERNELS:
        assert any(name in kernel.name for kernel in kernels), name
    for kernel in kernels:
        opcodes = {one.opcode for one in kernel.code}
        if any(name in kernel.name for name in ROW_KERNELS):
            assert any(opcode.startswith("LDG.E.128") for opcode in opcodes), kernel.name
            assert any(opcode.startswith("STG.E.128") for opcode in opcodes), kernel.name
