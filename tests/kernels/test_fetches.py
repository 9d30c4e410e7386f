# SPDX-License-Identifier: Apache-2.0
"""The CPU code of packages that read more than caches hold fetches ahead: a compiler may drop that
without a word, and no result shows it. All fetches of a package have been lost that way."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

PACKAGES = ("activation", "layer-norm", "relu", "rmsnorm", "rotary")


@pytest.mark.parametrize("package", PACKAGES)
def test_rows_are_fetched_ahead(package: str) -> None:
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is absent")
    (library,) = (Path(root) / package / "build").glob("tvm-ffi*-cpu-*/*.so")
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--demangle", library]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fetches = Counter()
    for function in listing.split("\n\n"):
        for level in ("N_AVX2", "N_AVX3"):
            if level in function.split("\n", 1)[0]:
                fetches[level] += function.count("\tprefetch")
        fetches["all"] += function.count("\tprefetch")
    assert fetches["all"] > 0
    if package != "relu":  # which has one code for every instruction set
        assert fetches["N_AVX2"] > 0
        assert fetches["N_AVX3"] > 0
