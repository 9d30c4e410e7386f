# SPDX-License-Identifier: Apache-2.0
"""Machine code of the attention kernels, compiled here for two head dimensions."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import sass

PACKAGES = Path(__file__).resolve().parents[2] / "kernels-community"
SOURCES = PACKAGES / "flash-attention" / "flash_attention_cuda"
UNITS = ("sm80_forward_d128_bf16", "sm80_forward_d64_fp16")
ARCHS = ("80", "90")
SM90_UNIT = "sm90_forward_d128_bf16"
PROJECTS = ("flash-attn2", "flash-attn3", "vllm-flash-attn3")


def nvcc() -> str:
    found = shutil.which("nvcc") or os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin/nvcc"
    if not Path(found).is_file():
        pytest.skip("nvcc is absent")
    return found


def compiled(unit: str, folder: Path, archs: tuple[str, ...]) -> Path:
    """An object file of one unit."""
    program = nvcc()
    if sass.tool("cuobjdump") is None:
        pytest.skip("cuobjdump is absent")
    target = folder / f"{unit}.o"
    command = [program, "-std=c++17", "-O3", "--expt-relaxed-constexpr", "-c"]
    command += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    include = ["-I", PACKAGES / "flash-attention", "-I", PACKAGES]
    subprocess.run([*command, *include, SOURCES / f"{unit}.cu", "-o", target], check=True)
    return target


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[sass.Kernel]:
    """The forward kernels of UNITS: a wide and a narrow one each, for every arch."""
    folder = tmp_path_factory.mktemp("attention")
    found = []
    for unit in UNITS:
        target = compiled(unit, folder, ARCHS)
        for arch in ARCHS:
            found += sass.kernels(target, f"sm_{arch}")
    assert len(found) == 2 * len(UNITS) * len(ARCHS)
    return found


@pytest.fixture(scope="module")
def sm90_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SM90_UNIT, compiled."""
    return compiled(SM90_UNIT, tmp_path_factory.mktemp("sm90"), ("90a",))


def loop_of(kernel: sass.Kernel, opcode: str) -> list[sass.Instruction]:
    """The widest loop that holds an instruction `opcode`: all between a backward branch's target
    and the branch.
    """
    wanted = [one.address for one in kernel.code if one.opcode.startswith(opcode)]
    loops = [
        (one.target, one.address)
        for one in kernel.code
        if one.target is not None and one.target < one.address
    ]
    loops = [(a, b) for a, b in loops if any(a <= address <= b for address in wanted)]
    assert loops, f"{kernel.name}: no loop around {opcode}"
    begin, end = max(loops, key=lambda loop: loop[1] - loop[0])
    return [one for one in kernel.code if begin <= one.address <= end]


def test_tiles_are_multiplied_and_copied_by_the_instructions_of_sm_80(
    kernels: list[sass.Kernel],
) -> None:
    for kernel in kernels:
        loop = {one.opcode for one in loop_of(kernel, "HMMA")}
        dtype = "BF16" if "bfloat16" in kernel.name else "F32"
        assert any(
            re.match(rf"HMMA\.16816\.F32.*{'BF16' if dtype == 'BF16' else ''}", one) for one in loop
        )
        assert any(one.startswith("LDSM.16.M88.4") for one in loop)
        assert any(one.startswith("LDSM.16.MT88.4") for one in loop)
        assert any(one.startswith("LDGSTS.E.BYPASS.128") for one in loop)
        assert "MUFU.EX2" in loop


def test_no_loop_over_tiles_touches_local_memory(kernels: list[sass.Kernel]) -> None:
    spills = {
        f"{kernel.name} {kernel.arch}: {one.text}"
        for kernel in kernels
        for one in loop_of(kernel, "HMMA")
        if one.opcode.startswith(("LDL", "STL"))
    }
    assert not spills


def test_the_sm_90a_kernel_multiplies_by_warpgroups_and_copies_boxes(sm90_object: Path) -> None:
    [kernel] = sass.kernels(sm90_object, "sm_90a")
    loop = [one.text for one in loop_of(kernel, "HGMMA")]
    products = [text for text in loop if text.startswith("HGMMA.64x128x16.F32.BF16")]
    from_registers = [text for text in products if re.search(r"R\d+, R\d+, gdesc", text)]
    # Per tile Q K^T takes 128 / 16 steps and P V 128 / 16, the latter from registers and N-major;
    # the loop over works holds the first and the last product of a work beside those of its tiles.
    assert len(products) == 2 * (8 + 8)
    assert len(from_registers) == 2 * 8
    assert all(".tnspB" in text for text in from_registers)
    # Between the products and the softmax only S is waited for.
    waits = [text.split()[-1] for text in loop if text.startswith("WARPGROUP.DEPBAR")]
    assert waits.count("0x1") == 1
    # A box for each panel: of Q of both warpgroups, and of K and V wherever they are copied.
    assert sum(one.opcode.startswith("UTMALDG.5D") for one in kernel.code) >= 4 + 2 + 2
    assert any(text.startswith("MUFU.EX2") for text in loop)


def test_the_softmax_of_a_tile_runs_under_the_product_with_values_before_it(
    sm90_object: Path,
) -> None:
    """Between the wait that leaves P V under way and the next, for it: a thread's 64 weights."""
    [kernel] = sass.kernels(sm90_object, "sm_90a")
    waits = [one for one in kernel.code if one.opcode.startswith("WARPGROUP.DEPBAR")]
    [first] = [i for i, one in enumerate(waits) if one.text.split()[-1] == "0x1"]
    begin, end = waits[first : first + 2]
    assert end.text.split()[-1] == "0x0"
    between = [one for one in kernel.code if begin.address < one.address < end.address]
    # The soft cap, which few calls have, ends with reciprocals; the softmax comes behind it.
    cap_end = max(one.address for one in between if one.opcode.startswith("MUFU.RCP"))
    assert sum(one.opcode.startswith("MUFU.EX2") for one in between if one.address > cap_end) >= 64


def test_the_sm_90a_kernel_keeps_to_its_registers(sm90_object: Path) -> None:
    """168 a thread at the start; then 40 in the producer and 232 in the consumers."""
    [kernel] = sass.kernels(sm90_object, "sm_90a")
    local = [one.text for one in kernel.code if one.opcode.startswith(("LDL", "STL"))]
    assert not local
    usage = sass.cuobjdump(sm90_object, "-res-usage")
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None
    assert [int(one) for one in found.groups()] == [168, 0]
    budgets = {
        int(one.text.split()[-1], 16): one.address
        for one in kernel.code
        if one.opcode.startswith("USETMAXREG")
    }
    assert sorted(budgets) == [40, 232]
    assert most_register(kernel.code) < 232
    # The producer's code lies between its instruction and the last exit; divisions follow.
    end = max(one.address for one in kernel.code if one.opcode.startswith("EXIT"))
    producer = [one for one in kernel.code if budgets[40] < one.address < end]
    assert any(one.opcode.startswith("UTMALDG") for one in producer)
    assert most_register(producer) < 40


def most_register(code: Iterable[sass.Instruction]) -> int:
    """The highest number of a register that is named."""
    return max(int(number) for one in code for number in re.findall(r"\bR(\d+)", one.text))


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_builds_all_heavy_units_for_all_archs(project: str) -> None:
    toml = tomllib.loads((PACKAGES / project / "build.toml").read_text())
    components = [one for one in toml["kernel"].values() if one["backend"] == "cuda"]
    units = {Path(source).name for one in components for source in one["src"]}
    heavy = {path.name for path in SOURCES.glob("sm??_forward_*.cu")}
    assert heavy <= units
    assert len(heavy) <= 14
    for one in components:
        is_sm90 = any(
            "/sm90_forward_" in source and source.endswith(".cu") for source in one["src"]
        )
        assert one["cuda-capabilities"] == (["9.0a"] if is_sm90 else ["8.0", "9.0+PTX"])
    text = (SOURCES / "check_status.h").read_text()
    assert all(f"sm_{arch}" in text for arch in ARCHS)
