# SPDX-License-Identifier: Apache-2.0
"""The device guard of calls through the C ABI, on a runtime that counts."""

import os
import subprocess
from pathlib import Path

import tvm_ffi

ROOT = Path(__file__).resolve().parents[2]


def test_a_device_is_set_only_where_another_is_current(tmp_path: Path) -> None:
    dlpack = Path(os.path.dirname(tvm_ffi.__file__)) / "3rdparty" / "dlpack" / "include"
    folders = ("tests/kernels/cuda_on_host", "kernels-community", "abi/include")
    command = ["c++", "-std=c++20", "-O1", "-pthread", "-I", dlpack]
    for folder in folders:
        command += ["-I", ROOT / folder]
    program = tmp_path / "device_guard"
    source = Path(__file__).with_name("device_guard.cpp")
    subprocess.run([*command, source, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        current, wanted, inside, after, devices_set = (int(value) for value in line.split())
        assert inside == wanted
        assert after == current
        assert devices_set == (0 if wanted == current else 2)
    assert len(done.stdout.splitlines()) == 4
