# SPDX-License-Identifier: Apache-2.0
"""The device code of rotary on the host: its index arithmetic, where no GPU is."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels-community"


def test_device_code_rotates_any_layout(tmp_path: Path) -> None:
    program = tmp_path / "rotary_on_host"
    command = ["c++", "-std=c++20", "-O1", "-pthread", "-ffp-contract=off", "-DNDEBUG"]
    # The stand-ins first: they have the names of CUDA's headers and of primitives/vec128.cuh.
    for folder in (ROOT / "tests/kernels/cuda_on_host", KERNELS / "rotary", KERNELS):
        command += ["-I", str(folder)]
    sources = [
        Path(__file__).with_name("rotary_on_host.cpp"),
        KERNELS / "rotary" / "rotary" / "checks.cpp",
        KERNELS / "primitives" / "strided_region.cpp",
        KERNELS / "primitives" / "tensor_check.cpp",
    ]
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    assert done.stdout == "cases 300 wrong 0\n"
