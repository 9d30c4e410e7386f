# SPDX-License-Identifier: Apache-2.0
"""Machine code of the attention kernels, compiled here for two head dimensions."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import sass

PACKAGES = Path(__file__).resolve().parents[2] / "kernels-community"
SOURCES = PACKAGES / "flash-attention" / "flash_attention_cuda"
UNITS = ("sm80_forward_d128_bf16", "sm80_forward_d64_fp16")
ARCHS = ("80", "90")
PROJECTS = ("flash-attn2", "flash-attn3", "vllm-flash-attn3")


def nvcc() -> str:
    found = shutil.which("nvcc") or os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/bin/nvcc"
    if not Path(found).is_file():
        pytest.skip("nvcc is absent")
    return found


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[sass.Kernel]:
    """The forward kernels of UNITS: a wide and a narrow one each, for every arch."""
    program = nvcc()
    if sass.tool("cuobjdump") is None:
        pytest.skip("cuobjdump is absent")
    folder = tmp_path_factory.mktemp("attention")
    found = []
    for unit in UNITS:
        target = folder / f"{unit}.o"
        command = [program, "-std=c++17", "-O3", "--expt-relaxed-constexpr", "-c"]
        command += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHS]
        include = ["-I", PACKAGES / "flash-attention", "-I", PACKAGES]
        subprocess.run([*command, *include, SOURCES / f"{unit}.cu", "-o", target], check=True)
        for arch in ARCHS:
            found += sass.kernels(target, f"sm_{arch}")
    assert len(found) == 2 * len(UNITS) * len(ARCHS)
    return found


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


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_builds_all_heavy_units_for_all_archs(project: str) -> None:
    toml = tomllib.loads((PACKAGES / project / "build.toml").read_text())
    components = [one for one in toml["kernel"].values() if one["backend"] == "cuda"]
    units = {Path(source).name for one in components for source in one["src"]}
    heavy = {path.name for path in SOURCES.glob("sm80_forward_*.cu")}
    assert heavy <= units
    assert len(heavy) <= 14
    assert {tuple(one["cuda-capabilities"]) for one in components} == {("8.0", "9.0+PTX")}
    text = (SOURCES / "check_status.h").read_text()
    assert all(f"sm_{arch}" in text for arch in ARCHS)
