# SPDX-License-Identifier: Apache-2.0
"""The AMX kernels of flash-attention without such a CPU: their own source on emulated tiles, the
machine code of the real ones, and which level is chosen where.
"""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from amx_emulator import TileEmulator
from attention_grid import (
    DIMS,
    HEADS,
    LAYOUTS,
    MASKS,
    NAN_PLACES,
    NAN_RULES,
    SIZES,
    SMALL_DIMS,
    SMALL_SIZES,
    SPLITS,
    compare,
    compare_nan,
)
from attention_reference import BF16, FP16, FP32, Rule, check
from grid import pairwise

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ("flash-attn2", "flash-attn3", "vllm-flash-attn3")
CPU_FLAGS = set(Path("/proc/cpuinfo").read_text().split())
Attend = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> TileEmulator:
    if "avx512_bf16" not in CPU_FLAGS:
        pytest.skip("this CPU has no avx512_bf16, which the code around the tiles needs")
    own = tmp_path_factory.getbasetemp()
    return TileEmulator(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="module")
def attend(emulator: TileEmulator) -> Attend:
    return emulator.attend


# ------------------------------------------------------------------- attention on emulated tiles


COVER = pairwise(SIZES, DIMS, LAYOUTS, MASKS, HEADS, SPLITS)
SMALL = pairwise(SMALL_SIZES, SMALL_DIMS, LAYOUTS, MASKS, HEADS, SPLITS)


@pytest.mark.parametrize("case", COVER + SMALL, ids=str)
def test_every_pair_of_the_grid_keeps_the_bounds(attend: Attend, case: tuple[Any, ...]) -> None:
    compare(attend, *case, BF16)


@pytest.mark.parametrize("dim_v", [1, 8, 33, 128, 256])
@pytest.mark.parametrize("dim", [1, 7, 192])
def test_dimensions_may_be_any(attend: Attend, dim: int, dim_v: int) -> None:
    q = torch.randn(1, 70, 2, dim).to(BF16)
    k, v = torch.randn(1, 150, 1, dim).to(BF16), torch.randn(1, 150, 1, dim_v).to(BF16)
    check(*attend(q, k, v, causal=True), q, k, v, Rule(causal=True))


@pytest.mark.parametrize("dtype", [FP32, FP16])
def test_other_dtypes_are_computed_too(attend: Attend, dtype: torch.dtype) -> None:
    compare(attend, (70, 150), 40, "dense", "causal", (4, 2), 1, dtype)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("rule", NAN_RULES)
@pytest.mark.parametrize("where", NAN_PLACES, ids=str)
def test_nan_comes_out_where_it_is_seen_and_nowhere_else(
    attend: Attend, where: dict[str, int], rule: Rule, splits: int
) -> None:
    compare_nan(attend, 70, BF16, where, rule, splits)


def test_a_row_has_the_same_bits_in_any_batch_and_on_any_thread(attend: Attend) -> None:
    """Pieces of four blocks of rows in the batch, of one in the sequence alone."""
    q = torch.randn(32, 150, 4, 32).to(BF16)
    k, v = torch.randn(2, 32, 170, 2, 32).to(BF16)
    out, lse = attend(q, k, v, causal=True)
    on_threads = attend(q, k, v, causal=True, on_threads=True)
    assert torch.equal(on_threads[0], out)
    assert torch.equal(on_threads[1], lse)
    for b in (0, 31):
        alone, alone_lse = attend(*(one[b : b + 1] for one in (q, k, v)), causal=True)
        assert torch.equal(alone, out[b : b + 1])
        assert torch.equal(alone_lse, lse[b : b + 1])


# ------------------------------------------------------------------- the emulated instructions


def config(tiles: dict[int, tuple[int, int]], palette: int = 1, **bytes_at: int) -> bytes:
    """A palette with (rows, bytes of a row) by tile; `at_N` sets byte N."""
    memory = bytearray(64)
    memory[0] = palette
    for tile, (rows, row_bytes) in tiles.items():
        memory[48 + tile] = rows
        memory[16 + 2 * tile : 18 + 2 * tile] = row_bytes.to_bytes(2, "little")
    for name, value in bytes_at.items():
        memory[int(name.removeprefix("at_"))] = value
    return bytes(memory)


WHOLE = {tile: (16, 64) for tile in range(8)}


@pytest.mark.parametrize(
    ("memory", "fault"),
    [
        (config(WHOLE, palette=2), "#GP: LDTILECFG of an unknown palette"),
        (config(WHOLE, at_2=1), "#GP: LDTILECFG with a reserved byte"),
        (config(WHOLE, at_40=1), "#GP: LDTILECFG with a reserved byte"),
        (config({8: (16, 64)}), "#GP: LDTILECFG with a reserved byte"),
        (config({0: (17, 64)}), "#GP: LDTILECFG of a tile beyond"),
        (config({7: (16, 65)}), "#GP: LDTILECFG of a tile beyond"),
        (config({7: (16, 256)}), "#GP: LDTILECFG of a tile beyond"),
        (config({3: (16, 0)}), "#GP: LDTILECFG of rows without bytes"),
        (config({3: (0, 4)}), "#GP: LDTILECFG of rows without bytes"),
    ],
)
def test_a_bad_configuration_faults(emulator: TileEmulator, memory: bytes, fault: str) -> None:
    emulator.library.tile_release()
    assert emulator.library.tile_configure(memory).decode().startswith(fault)
    assert emulator.library.tile_zero(0) == b"#UD: tiles are not configured"


def test_a_tile_without_a_shape_faults(emulator: TileEmulator) -> None:
    library, memory = emulator.library, ctypes.create_string_buffer(1024)
    assert library.tile_configure(config({0: (16, 64)})) is None
    assert library.tile_zero(0) is None
    assert library.tile_zero(1) == b"#UD: tile 1 is not configured"
    assert library.tile_load(1, memory, ctypes.c_int64(64)) == b"#UD: tile 1 is not configured"
    assert library.tile_store(7, memory, ctypes.c_int64(64)) == b"#UD: tile 7 is not configured"
    assert library.tile_add_product(0, 1, 2) == b"#UD: tile 1 is not configured"
    for leave in (library.tile_release, lambda: library.tile_configure(config({}, palette=0))):
        assert leave() is None
        assert library.tile_zero(0) == b"#UD: tiles are not configured"
        library.tile_configure(config({0: (16, 64)}))
    library.tile_release()


@pytest.mark.parametrize(
    ("tiles", "operands", "fault"),
    [
        (WHOLE, (0, 0, 1), "of the same tile twice"),
        (WHOLE, (0, 1, 1), "of the same tile twice"),
        ({**WHOLE, 0: (15, 64)}, (0, 1, 2), "of tiles whose shapes do not match"),
        ({**WHOLE, 0: (16, 60)}, (0, 1, 2), "of tiles whose shapes do not match"),
        ({**WHOLE, 1: (16, 60)}, (0, 1, 2), "of tiles whose shapes do not match"),
        ({**WHOLE, 2: (15, 64)}, (0, 1, 2), "of tiles whose shapes do not match"),
        ({**WHOLE, 1: (16, 62)}, (0, 1, 2), "of rows that hold no whole number of words"),
    ],
)
def test_tiles_that_do_not_fit_fault(
    emulator: TileEmulator,
    tiles: dict[int, tuple[int, int]],
    operands: tuple[int, int, int],
    fault: str,
) -> None:
    assert emulator.library.tile_configure(config(tiles)) is None
    found = emulator.library.tile_add_product(*operands)
    emulator.library.tile_release()
    assert found.decode() == f"#UD: TDPBF16PS {fault}"


def multiplied(
    emulator: TileEmulator, total: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """total + a b for fp32 [m, n], bf16 [m, 2 k] and bf16 pairs [k, n, 2], from rows that lie 80
    bytes apart in total and b.
    """
    library, pitch = emulator.library, ctypes.c_int64(80)
    m, n = total.shape
    k = b.shape[0]
    memory = torch.full((m, 20), 7.0)
    memory[:, :n] = total
    wide = torch.zeros(k, 40, dtype=BF16)
    wide[:, : 2 * n] = b.reshape(k, 2 * n)
    shapes = {0: (m, 4 * n), 1: (m, 4 * k), 2: (k, 4 * n)}
    assert library.tile_configure(config(shapes)) is None
    at = ctypes.c_void_p
    assert library.tile_load(0, at(memory.data_ptr()), pitch) is None
    assert library.tile_load(1, at(a.data_ptr()), ctypes.c_int64(4 * k)) is None
    assert library.tile_load(2, at(wide.data_ptr()), pitch) is None
    assert library.tile_add_product(0, 1, 2) is None
    assert library.tile_store(0, at(memory.data_ptr()), pitch) is None
    library.tile_release()
    assert (memory[:, n:] == 7).all()
    return memory[:, :n]


@pytest.mark.parametrize(("m", "k", "n"), [(16, 16, 16), (5, 3, 7), (1, 1, 1)])
def test_products_are_those_of_pairs(emulator: TileEmulator, m: int, k: int, n: int) -> None:
    """Small whole numbers: exact in any order."""
    total, a, b = (torch.randint(-8, 9, s).float() for s in ((m, n), (m, 2 * k), (k, n, 2)))
    expected = total + torch.einsum("mkp,knp->mn", a.reshape(m, k, 2), b)
    assert torch.equal(multiplied(emulator, total, a.to(BF16), b.to(BF16)), expected)


def test_sums_have_the_order_and_the_roundings_of_the_manual(emulator: TileEmulator) -> None:
    def product(total: float, pairs: list[tuple[float, float]]) -> float:
        a = torch.tensor([[x for pair in pairs for x in pair]]).to(BF16)
        b = torch.ones(len(pairs), 1, 2, dtype=BF16)
        return multiplied(emulator, torch.tensor([[total]]), a, b).item()

    big, tiny = 2.0**24, 2.0**-130
    # Even and odd steps are summed apart, and meet before they meet the old value.
    assert product(0.0, [(big, 1.0), (1.0, -big), (0.0, 1.0)]) == 2.0
    assert product(big, [(1.0, 1.0)]) == big + 2.0
    assert product(big, [(1.0, 0.0)]) == big
    # Subnormal numbers are zeros, on the way in and on the way out.
    assert product(0.0, [(tiny, 0.0)]) == 0.0
    assert product(tiny, [(0.0, 0.0)]) == 0.0
    assert product(-(2.0**-126), [(1.5 * 2.0**-126, 0.0)]) == 0.0
    assert product(2.0**-126, [(2.0**-126, 0.0)]) == 2.0**-125


# ------------------------------------------------------------------- the real instructions


@pytest.mark.parametrize("project", PROJECTS)
def test_the_builds_hold_the_instructions_of_every_level(project: str) -> None:
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    libraries = sorted((Path(root) / project / "build").glob("*-cpu-*/**/*.so"))
    assert libraries
    for library in libraries:
        listing = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", library],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        found = set(re.findall(r"^\s*[0-9a-f]+:\s+(\w+)", listing, re.MULTILINE))
        tiles = {"ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored", "tdpbf16ps"}
        assert tiles | {"vdpbf16ps", "vcvtne2ps2bf16"} <= found
        names = re.findall(r"tdpbf16ps (%tmm\d),(%tmm\d),(%tmm\d)", listing)
        # Two tiles of b, two of a, four of sums, in the order of the assembler.
        assert set(names) <= {
            (f"%tmm{b}", f"%tmm{a}", f"%tmm{2 * (a - 4) + b - 6}") for a in (4, 5) for b in (6, 7)
        }


# ------------------------------------------------------------------- which level is chosen


@pytest.fixture(scope="module")
def choose(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Level, or error, for the facts of a CPU; and how often tiles were requested."""
    program = tmp_path_factory.mktemp("levels") / "cpu_levels"
    source = Path(__file__).with_name("cpu_levels.cpp")
    packages = ROOT / "kernels-community"
    include = ["-I", packages, "-I", packages / "flash-attention"]
    command = ["c++", "-std=c++17", "-O1", "-Wall", "-Werror", *include, source, "-o", program]
    subprocess.run(command, check=True)

    def run(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return run


AVX512 = "avx2,avx512"
INTEL = f"{AVX512},avx512_bf16"
SAPPHIRE = f"{INTEL},amx,tiles"
ZEN4 = f"{INTEL},fast_bf16"
OLD = "scalar, avx2, avx512, avx512_bf16"


@pytest.mark.parametrize(
    ("facts", "refusal", "asked", "outcome"),
    [
        (SAPPHIRE, "0", "", "amx, 1 requests"),
        (SAPPHIRE, "22", "", "avx512, 1 requests"),
        (f"{INTEL},amx", "0", "", "avx512, 0 requests"),
        (f"{INTEL},tiles", "0", "", "avx512, 0 requests"),
        (f"{ZEN4},amx,tiles", "22", "", "avx512_bf16, 1 requests"),
        (ZEN4, "0", "", "avx512_bf16, 0 requests"),
        (AVX512, "0", "", "avx512, 0 requests"),
        ("avx2", "0", "", "avx2, 0 requests"),
        ("", "0", "", "scalar, 0 requests"),
        (SAPPHIRE, "0", "amx", "amx, 1 requests"),
        (SAPPHIRE, "0", "avx512_bf16", "avx512_bf16, 0 requests"),
        (SAPPHIRE, "0", "avx512", "avx512, 0 requests"),
        (SAPPHIRE, "0", "scalar", "scalar, 0 requests"),
        (SAPPHIRE, "none", "amx", "amx, 0 requests"),
        (ZEN4, "0", "amx", f"{OLD}, got amx (the CPU has no amx-tile and amx-bf16)"),
        (f"{AVX512},amx,tiles", "0", "amx",
         "scalar, avx2, avx512, got amx (the CPU has no avx512_bf16)"),
        (f"{INTEL},amx", "0", "amx",
         f"{OLD}, got amx (the operating system does not enable tile state in XCR0)"),
        (SAPPHIRE, "22", "amx",
         f"{OLD}, got amx (the operating system refuses tile data: Invalid argument)"),
        (SAPPHIRE, "0", "mmx", f"{OLD}, amx, got mmx"),
        (AVX512, "0", "avx512_bf16", "scalar, avx2, avx512, got avx512_bf16"),
    ],
)  # fmt: skip
def test_the_best_level_that_can_run_is_chosen(
    choose: Callable[..., str], facts: str, refusal: str, asked: str, outcome: str
) -> None:
    if "got" in outcome:
        outcome = f"test: KERNELHUB_CPU_ISA names no level of this CPU: expected {outcome}"
    assert choose(facts, refusal, asked) == outcome


def test_the_facts_are_those_of_the_system(choose: Callable[..., str]) -> None:
    """Linux names tiles among a CPU's flags only where it switches them, too."""
    facts = set(choose("this").split(","))
    words = {"avx2": "avx2", "avx512": "avx512bw", "avx512_bf16": "avx512_bf16"}
    for fact, flag in words.items():
        assert (fact in facts) == (flag in CPU_FLAGS)
    assert ("fast_bf16" in facts) == ({"avx512_bf16", "AuthenticAMD"} <= CPU_FLAGS)
    assert ({"amx", "tiles"} <= facts) == ("amx_bf16" in CPU_FLAGS)
    assert (choose("request") == "0") == ("amx_bf16" in CPU_FLAGS)


@pytest.mark.skipif("amx_bf16" in CPU_FLAGS, reason="this CPU has AMX")
@pytest.mark.usefixtures("load_package")
def test_forced_tiles_say_what_is_missing() -> None:
    folder = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / "flash-attn2"
    program = (
        "import kernels, pathlib, torch\n"
        f"kernel = kernels.get_local_kernel(pathlib.Path({str(folder)!r}), backend='cpu')\n"
        "q = torch.zeros(1, 9, 2, 16).bfloat16()\n"
        "try:\n    kernel.flash_attn_func(q, q, q)\n"
        "except RuntimeError as failure:\n    print(failure)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERNELHUB_CPU_ISA": "amx"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "flash_attention: KERNELHUB_CPU_ISA names no level of this CPU" in child.stdout
    assert "got amx (the CPU has no amx-tile and amx-bf16)" in child.stdout
