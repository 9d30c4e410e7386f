# SPDX-License-Identifier: Apache-2.0
"""Which memory strided tensors share, against every byte of them."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels-community"


def test_regions_of_random_layouts_are_exact(tmp_path: Path) -> None:
    program = tmp_path / "strided_region_overlaps"
    sources = [
        Path(__file__).with_name("strided_region_overlaps.cpp"),
        KERNELS / "primitives" / "strided_region.cpp",
        KERNELS / "primitives" / "tensor_check.cpp",
    ]
    flags = ["-std=c++17", "-O1", "-Wall", "-Werror", "-fsanitize=undefined", "-I", KERNELS]
    subprocess.run(["c++", *flags, *sources, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    counts = re.findall(r"\d+", done.stdout)
    cases, injective, shared, apart, *rows, given_up, wrong = (int(count) for count in counts)
    assert wrong == 0, done.stdout
    assert done.stderr == ""
    assert given_up == 1
    assert cases == 20_000
    assert min(injective, cases - injective, shared, apart, *rows) > 1000
