# SPDX-License-Identifier: Apache-2.0
"""Launch shapes of kernels that reduce rows, and their device code, on the host."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    program = tmp_path_factory.mktemp("rows") / "row_launch"
    command = ["c++", "-std=c++17", "-O1", "-Wall", "-Werror", "-I", ROOT / "kernels-community"]
    source = Path(__file__).with_name("row_launch.cpp")
    subprocess.run([*command, source, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_every_row_fits_its_threads_or_is_read_again(lines: list[list[str]]) -> None:
    launches = [[int(v) for v in line[1:]] for line in lines if line[0] == "launch"]
    assert len(launches) > 10_000
    for cols, element, max_groups, max_cluster, threads, rows, groups, cluster in launches:
        units = -(-cols * element // 16)
        assert threads & (threads - 1) == 0
        assert rows == 1 or (threads <= 32 and threads * rows == 128)
        assert threads * rows <= 512
        assert cluster & (cluster - 1) == 0
        if groups == 0:
            assert cluster == 1
            assert units > 512 * max_groups * max_cluster
            continue
        assert groups in (1, 4, max_groups)
        assert groups * threads * cluster >= units
        assert cluster <= max_cluster
        if cluster > 1:
            assert groups * threads * cluster // 2 < units, "half the cluster would do"


def test_rows_of_half_a_mebibyte_are_read_once_where_clusters_are(lines: list[list[str]]) -> None:
    for line in lines:
        if line[0] == "launch" and line[4] == "16":
            cols, element, groups = int(line[1]), int(line[2]), int(line[3])
            is_read_once = line[7] != "0"
            assert is_read_once == (cols * element <= groups << 17)


def test_blocks_and_chunks_follow_from_the_shape_and_stay_few(lines: list[list[str]]) -> None:
    shapes = [[int(v) for v in line[1:]] for line in lines if line[0] == "rows"]
    assert len(shapes) == 25
    for cols, rows, rows_per_block, cluster, blocks, chunks, size_bytes in shapes:
        assert blocks % cluster == 0
        assert blocks * rows_per_block // cluster >= min(rows, 1 << 16)
        assert 1 <= chunks <= min(rows, 128)
        assert size_bytes <= max(64 << 20, 12 * cols)


def test_partial_rows_are_as_many_as_the_device_holds_and_few_turns_pay_for(
    lines: list[list[str]],
) -> None:
    shapes = [[int(v) for v in line[1:]] for line in lines if line[0] == "partials"]
    assert len(shapes) == 50
    for cols, rows, rows_per_block, cluster, resident, partials in shapes:
        assert partials * cols * 4 <= 256 << 20
        if partials == (256 << 20) // (cols * 4):
            continue
        turns = -(-rows // rows_per_block)
        busy = 4 * 132 // cluster
        assert 1 <= partials <= min(resident, turns)
        assert partials >= min(resident, turns, busy), "multiprocessors are idle"
        assert partials <= max(busy, turns // 16), "partial rows cost more than they save"
        if turns >= 16 * resident:
            assert partials == resident


@pytest.mark.parametrize(("program", "cases"), [("rows_on_host", 284), ("rmsnorm_on_host", 132)])
def test_device_code_is_right_at_any_address(tmp_path: Path, program: str, cases: int) -> None:
    command = ["c++", "-std=c++20", "-O1", "-pthread"]
    for folder in ("tests/kernels/cuda_on_host", "kernels-community", "kernels-community/rmsnorm"):
        command += ["-I", str(ROOT / folder)]
    source = Path(__file__).with_name(f"{program}.cpp")
    subprocess.run([*command, source, "-o", tmp_path / program], check=True)
    done = subprocess.run([tmp_path / program], check=True, capture_output=True, text=True)
    assert done.stdout == f"cases {cases} wrong 0\n"
