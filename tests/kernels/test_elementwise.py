# SPDX-License-Identifier: Apache-2.0
"""The device code of element-wise kernels and its launch shapes, on the host."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_element_of_any_layout_is_written_once_and_nothing_beside_it(tmp_path: Path) -> None:
    command = ["c++", "-std=c++20", "-O1", "-pthread"]
    # The stand-ins first: they have the names of CUDA's headers and of primitives/vec128.cuh.
    for folder in ("tests/kernels/cuda_on_host", "kernels-community"):
        command += ["-I", str(ROOT / folder)]
    source = Path(__file__).with_name("elementwise_on_host.cpp")
    program = tmp_path / "elementwise_on_host"
    subprocess.run([*command, source, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    cases, wrong = done.stdout.split()[-3::2]
    assert int(cases) > 1_500
    assert int(wrong) == 0, done.stdout
