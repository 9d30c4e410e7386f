# SPDX-License-Identifier: Apache-2.0
"""What the CUDA build of rmsnorm holds, read from the binary: nothing here needs a GPU."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sass
from sass import ARCHS

DTYPES = ("float", "half", "bfloat16")
FORWARD = re.compile(r"13rms_norm_rowsI(.*?)Li(\d)ELb([01])ELb([01])E")
# Two blocks of 512 threads share the 65,536 registers of a multiprocessor.
MOST_REGISTERS = 64
BACKWARD = re.compile(r"22rms_norm_backward_rowsI(.*?)Li(\d)ELb([01])ELb([01])E")


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("rmsnorm")


@pytest.fixture(scope="module")
def kernels(library: Path) -> dict[str, list[sass.Kernel]]:
    return {arch: sass.kernels(library, arch) for arch in ARCHS}


def dtype_of(types: str) -> str:
    return "bfloat16" if "bfloat16" in types else "half" if "half" in types else "float"


def aligned(
    kernels: list[sass.Kernel], form: re.Pattern[str]
) -> list[tuple[str, int, bool, sass.Kernel]]:
    """(dtype, groups, clustered, kernel) of those for aligned rows."""
    found = []
    for kernel in kernels:
        match = form.search(kernel.name)
        if match and match[4] == "1":
            found.append((dtype_of(match[1]), int(match[2]), match[3] == "1", kernel))
    return found


@pytest.mark.parametrize("arch", ARCHS)
def test_aligned_rows_are_moved_16_bytes_at_a_time(
    kernels: dict[str, list[sass.Kernel]], arch: str
) -> None:
    for form, rows in ((FORWARD, 1), (BACKWARD, 2)):
        found = aligned(kernels[arch], form)
        assert {dtype for dtype, *_ in found} == set(DTYPES)
        for dtype, groups, clustered, kernel in found:
            if clustered and arch in ("sm_80", "sm_120"):
                continue  # never launched: the body is empty
            opcodes = [one.opcode for one in kernel.code]
            what = f"{kernel.name} {dtype}"
            assert sum(one.startswith("LDG.E.128") for one in opcodes) >= rows * groups, what
            assert sum(one.startswith("STG.E.128") for one in opcodes) >= groups, what
            narrow = [one for one in opcodes if re.match(r"(LDG|STG)\.E\.(U8|U16|S16)", one)]
            assert not narrow, what


@pytest.mark.parametrize("arch", ARCHS)
def test_two_blocks_of_aligned_rows_share_a_multiprocessor(
    library: Path, kernels: dict[str, list[sass.Kernel]], arch: str
) -> None:
    registers = sass.registers(library, arch)
    found = aligned(kernels[arch], FORWARD)
    assert len(found) == 3 * len(DTYPES)
    if arch in ("sm_80", "sm_90"):
        backward = aligned(kernels[arch], BACKWARD)
        found += [one for one in backward if one[0] != "float"]
        assert len(found) == 3 * len(DTYPES) + 2 * 2
    for *_, kernel in found:
        assert registers[kernel.name] <= MOST_REGISTERS, kernel.name


@pytest.mark.parametrize("arch", ARCHS)
def test_the_weight_is_on_its_way_before_threads_wait_for_a_sum(
    kernels: dict[str, list[sass.Kernel]], arch: str
) -> None:
    for _, groups, clustered, kernel in aligned(kernels[arch], FORWARD):
        if clustered and arch in ("sm_80", "sm_120"):
            continue  # never launched: the body is empty
        opcodes = [one.opcode for one in kernel.code]
        first_sum = next(i for i, opcode in enumerate(opcodes) if opcode.startswith("SHFL"))
        loads = sum(opcode.startswith("LDG.E.128") for opcode in opcodes[:first_sum])
        assert loads == 3 * groups, f"{kernel.name}: x, residual and weight"


@pytest.mark.parametrize("arch", ["sm_90", "sm_100"])
def test_wide_rows_share_the_memory_of_a_cluster(
    kernels: dict[str, list[sass.Kernel]], arch: str
) -> None:
    for form, rows in ((FORWARD, 1), (BACKWARD, 2)):
        clustered = [one for one in aligned(kernels[arch], form) if one[2]]
        assert len(clustered) == len(DTYPES)
        for _, groups, _, kernel in clustered:
            opcodes = [one.opcode for one in kernel.code]
            # Blocks wait for each other's start with their rows on the way, and without a fence.
            wait = opcodes.index("UCGABAR_WAIT")
            loads = sum(opcode.startswith("LDG.E.128") for opcode in opcodes[:wait])
            assert loads >= rows * groups, kernel.name
            assert not any(opcode.startswith("MEMBAR") for opcode in opcodes[:wait]), kernel.name
            assert any(opcode.startswith("MEMBAR") for opcode in opcodes[wait:]), kernel.name
