# SPDX-License-Identifier: Apache-2.0
"""What the CUDA build of layer-norm holds, read from the binary: nothing here needs a GPU."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sass
from sass import ARCHS

ROW_KERNELS = (
    "normalize_held_rows",
    "differentiate_held_rows",
    "fused_rows",
    "fused_aligned_rows",
    "fused_backward_rows",
)
# Aligned rows of the forward, by the units of 16 bytes that a thread holds.
FORWARD = re.compile(r"19normalize_held_rowsI(.*?)Li(\d)ELb[01]ELb1EE")
# Most instructions per element and row on every path, sums and barriers included. An H200 has some
# 28 issue slots while memory moves an element of 16 bits at the copy's speed.
# By the dtype's bytes and the units; sm_120 makes more of the same code.
FORWARD_BUDGET = {(2, 4): 26, (2, 8): 27, (4, 4): 35, (4, 8): 37}
SM_120_BUDGET = FORWARD_BUDGET | {(2, 4): 29, (4, 4): 38}
# Aligned rows of the gradient that one block adds up once: most instructions per element of a turn
# of a thread, what it adds to the sums over rows included. Some 46 issue slots are what an H200 has
# while memory moves x, dz and dx of 16 bits.
BACKWARD = re.compile(r"23differentiate_held_rowsI(.*?)Li(\d)ELb([01])ELb1EE")
BACKWARD_BUDGET = {"bfloat16": 33, "half": 29, "float": 30}
# The fused op's aligned rows, with residual, x and parameters of fp32 beside 16-bit rows: twelve
# bytes an element, some 90 issue slots.
FUSED = re.compile(r"18fused_aligned_rowsI(.*?)Li(\d)EE")
FUSED_BUDGET = {2: 35, 4: 42}
# Two blocks of 512 threads share the 65,536 registers of a multiprocessor; of 8 units one does.
FORWARD_REGISTERS = {1: 40, 4: 64, 8: 128}


@pytest.fixture(scope="module")
def library(cuda_library: Callable[[str], Path]) -> Path:
    return cuda_library("layer-norm")


@pytest.mark.parametrize("arch", ARCHS)
def test_rows_move_in_16_bytes(library: Path, arch: str) -> None:
    kernels = sass.kernels(library, arch)
    for name in ROW_KERNELS:
        assert any(name in kernel.name for kernel in kernels), name
    for kernel in kernels:
        if arch in ("sm_80", "sm_120") and re.search(
            r"differentiate_held_rowsI.*Li\dELb1E", kernel.name
        ):
            continue  # never launched: the body is empty where there are no clusters
        opcodes = {one.opcode for one in kernel.code}
        if any(name in kernel.name for name in ROW_KERNELS):
            assert any(opcode.startswith("LDG.E.128") for opcode in opcodes), kernel.name
            assert any(opcode.startswith("STG.E.128") for opcode in opcodes), kernel.name


def backward_kernels(library: Path, arch: str) -> list[tuple[str, int, bool, sass.Kernel]]:
    """(dtype, units, clustered, kernel) of those for aligned rows that are launched."""
    found = []
    for kernel in sass.kernels(library, arch):
        match = BACKWARD.search(kernel.name)
        if match is None or (match[3] == "1" and arch in ("sm_80", "sm_120")):
            continue  # the body is empty where there are no clusters
        dtype = next(name for name in ("bfloat16", "half", "f") if name in match[1])
        found.append(("float" if dtype == "f" else dtype, int(match[2]), match[3] == "1", kernel))
    return found


@pytest.mark.parametrize("arch", ARCHS)
def test_aligned_rows_of_the_gradient_stay_within_their_budgets(library: Path, arch: str) -> None:
    seen = []
    for dtype, units, clustered, kernel in backward_kernels(library, arch):
        seen.append((dtype, units, clustered))
        if units == 1:
            continue
        columns = units * 16 / (4 if dtype == "float" else 2)
        assert columns == 16
        per_element = kernel.turn(stores=units, barriers=1) / columns
        assert per_element <= BACKWARD_BUDGET[dtype], f"{kernel.name}: {per_element}"
    wide = {(dtype, 4 if dtype == "float" else 2) for dtype in BACKWARD_BUDGET}
    expected = {(*one, False) for one in wide} | {(dtype, 1, False) for dtype in BACKWARD_BUDGET}
    if arch in ("sm_90", "sm_100"):
        expected |= {(*one, True) for one in wide}
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("arch", ARCHS)
def test_rows_of_the_gradient_are_on_their_way_before_threads_wait_for_a_sum(
    library: Path, arch: str
) -> None:
    for dtype, units, _, kernel in backward_kernels(library, arch):
        loads = kernel.loads_before_a_sum()
        is_ahead = dtype != "float" or units == 1
        # x and dz, of the next row as well where it is loaded ahead, and the weight once.
        assert loads == (5 if is_ahead else 3) * units, kernel.name


@pytest.mark.parametrize("arch", ARCHS)
def test_aligned_rows_of_the_fused_op_are_on_their_way_together(library: Path, arch: str) -> None:
    seen = []
    for kernel in sass.kernels(library, arch):
        found = FUSED.search(kernel.name)
        if found is None:
            continue
        size, units = 4 if found[1] == "f" else 2, int(found[2])
        seen.append((size, units))
        loads = kernel.loads_before_a_sum()
        # x0, and the residual of the rows' dtype or of fp32.
        assert loads == units * (4 if size == 2 else 2), kernel.name
        if units > 1:
            per_element = kernel.longest_path() / (units * 16 / size)
            assert per_element <= FUSED_BUDGET[size], f"{kernel.name}: {per_element}"
    assert sorted(seen) == [(2, 1), (2, 1), (2, 4), (2, 4), (4, 1), (4, 4)]


@pytest.mark.parametrize("arch", ARCHS)
def test_aligned_rows_of_the_forward_stay_within_their_budgets(library: Path, arch: str) -> None:
    registers = sass.registers(library, arch)
    budget = SM_120_BUDGET if arch == "sm_120" else FORWARD_BUDGET
    seen = []
    for kernel in sass.kernels(library, arch):
        found = FORWARD.search(kernel.name)
        if found is None:
            continue
        size, units = 4 if found[1] == "f" else 2, int(found[2])
        seen.append((size, units))
        assert registers[kernel.name] <= FORWARD_REGISTERS[units], kernel.name
        if units > 1:
            per_element = kernel.longest_path() / (units * 16 / size)
            assert per_element <= budget[size, units], f"{kernel.name}: {per_element}"
    assert sorted(seen) == [*((2, n) for n in (1, 1, 4, 4, 8, 8)), *((4, n) for n in (1, 4, 8))]
