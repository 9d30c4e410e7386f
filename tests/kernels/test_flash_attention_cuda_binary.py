# SPDX-License-Identifier: Apache-2.0
"""Machine code of the attention kernels, compiled here: of sm_80 for two head dimensions, of sm_90a
for all.
"""

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sass

PACKAGES = Path(__file__).resolve().parents[2] / "kernels-community"
SOURCES = PACKAGES / "flash-attention" / "flash_attention_cuda"
UNITS = ("sm80_forward_d128_bf16", "sm80_forward_d64_fp16")
ARCHS = ("80", "90")
# The sm_90a tiles of every unit: head dimension of q and k, of v, keys.
SM90_UNITS = {
    "sm90_forward_d64_d96": {(64, 64, 128), (96, 96, 128)},
    "sm90_forward_d128": {(128, 128, 128)},
    "sm90_forward_d192": {(192, 128, 128), (192, 192, 112)},
    "sm90_forward_d256": {(256, 256, 80)},
}
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


@dataclass(frozen=True)
class Warpgroups:
    """A kernel of sm_90a, and what its name says of it."""

    kernel: sass.Kernel
    usage: tuple[int, int]  # registers at the start, bytes of stack

    @property
    def dtype(self) -> str:
        return "bf16" if "bfloat16" in self.kernel.name else "fp16"

    @property
    def tile(self) -> tuple[int, int, int]:
        """Head dimension of q and k, of v, keys."""
        found = re.search(r"WarpgroupTileILi(\d+)ELi(\d+)ELi(\d+)E", self.kernel.name)
        assert found is not None
        dim, dim_v, keys = (int(one) for one in found.groups())
        return dim, dim_v, keys


@pytest.fixture(scope="module", params=SM90_UNITS)
def warpgroups(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Warpgroups]:
    """The kernels of one sm_90a unit: every tile for both dtypes."""
    target = compiled(request.param, tmp_path_factory.mktemp("sm90"), ("90a",))
    usage = {
        name: (int(registers), int(stack))
        for name, registers, stack in re.findall(
            r"Function (\S+):\s+REG:(\d+) STACK:(\d+)", sass.cuobjdump(target, "-res-usage")
        )
    }
    found = [Warpgroups(one, usage[one.name]) for one in sass.kernels(target, "sm_90a")]
    expected = itertools.product(("bf16", "fp16"), SM90_UNITS[request.param])
    assert sorted((one.dtype, one.tile) for one in found) == sorted(expected)
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


def test_the_sm_90a_kernels_multiply_by_warpgroups_and_copy_boxes(
    warpgroups: list[Warpgroups],
) -> None:
    for one in warpgroups:
        dim, dim_v, keys = one.tile
        loop = [line.text for line in loop_of(one.kernel, "HGMMA")]
        products = [text for text in loop if text.startswith("HGMMA")]
        from_registers = [text for text in products if re.search(r"R\d+, R\d+, gdesc", text)]
        from_shared = [text for text in products if text not in from_registers]
        # Steps of 16 columns of Q K^T and of 16 keys of P V, the latter from registers and N-major;
        # the loop over works holds the first and the last product of a work beside those of its
        # tiles.
        assert len(from_shared) == 2 * dim // 16
        assert len(from_registers) == 2 * keys // 16
        dtype = ".BF16" if one.dtype == "bf16" else ""
        assert {text.split()[0] for text in from_shared} == {f"HGMMA.64x{keys}x16.F32{dtype}"}
        assert {text.split()[0] for text in from_registers} == {f"HGMMA.64x{dim_v}x16.F32{dtype}"}
        assert all(".tnspB" in text for text in from_registers)
        # Between the products and the softmax only S is waited for.
        waits = [text.split()[-1] for text in loop if text.startswith("WARPGROUP.DEPBAR")]
        assert waits.count("0x1") == 1
        # A box for each panel: of Q of both warpgroups, and of K and V wherever they are copied.
        cols = 64 if dim % 64 == dim_v % 64 == 0 else 32
        boxes = sum(line.opcode.startswith("UTMALDG.5D") for line in one.kernel.code)
        assert boxes >= (3 * dim + dim_v) // cols
        assert any(text.startswith("MUFU.EX2") for text in loop)


def test_the_softmax_of_a_tile_runs_under_the_product_with_values_before_it(
    warpgroups: list[Warpgroups],
) -> None:
    """Between the wait that leaves P V under way and the next, for it: all weights of a thread."""
    for one in warpgroups:
        code = one.kernel.code
        waits = [line for line in code if line.opcode.startswith("WARPGROUP.DEPBAR")]
        [first] = [i for i, line in enumerate(waits) if line.text.split()[-1] == "0x1"]
        begin, end = waits[first : first + 2]
        assert end.text.split()[-1] == "0x0"
        between = [line for line in code if begin.address < line.address < end.address]
        # The soft cap, which few calls have, ends with reciprocals; the softmax comes behind it.
        cap_end = max(line.address for line in between if line.opcode.startswith("MUFU.RCP"))
        powers = [line for line in between if line.opcode.startswith("MUFU.EX2")]
        keys = one.tile[2]
        assert sum(line.address > cap_end for line in powers) >= keys // 2, one.tile


def test_the_sm_90a_kernels_keep_to_their_registers(warpgroups: list[Warpgroups]) -> None:
    """168 a thread at the start; then 40 in the producer and 232 in the consumers."""
    for one in warpgroups:
        code = one.kernel.code
        local = [line.text for line in code if line.opcode.startswith(("LDL", "STL"))]
        assert not local, one.tile
        assert one.usage == (168, 0)
        budgets = {
            int(line.text.split()[-1], 16): line.address
            for line in code
            if line.opcode.startswith("USETMAXREG")
        }
        assert sorted(budgets) == [40, 232]
        assert most_register(code) < 232
        # The producer's code lies between its instruction and the last exit; divisions follow.
        end = max(line.address for line in code if line.opcode.startswith("EXIT"))
        producer = [line for line in code if budgets[40] < line.address < end]
        assert any(line.opcode.startswith("UTMALDG") for line in producer)
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
    assert {f"{unit}.cu" for unit in SM90_UNITS} == {one for one in heavy if one.startswith("sm90")}
    assert heavy <= units
    assert len(heavy) <= 14
    for one in components:
        is_sm90 = any(
            "/sm90_forward_" in source and source.endswith(".cu") for source in one["src"]
        )
        assert one["cuda-capabilities"] == (["9.0a"] if is_sm90 else ["8.0", "9.0+PTX"])
    text = (SOURCES / "check_status.h").read_text()
    assert all(f"sm_{arch}" in text for arch in ARCHS)
