# SPDX-License-Identifier: Apache-2.0
"""Both ways of looking up values, of which a CPU runs one, the lines of loops, and steps that must
not be subnormal, at every instruction set."""

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kernels-community" / "activation"
COMPONENTS = {
    "activation_cpu": set(),
    "activation_cpu_avx2": {"avx2", "fma", "f16c"},
    "activation_cpu_avx512": {"avx512bw", "avx512dq"},
}


@pytest.mark.parametrize("component", COMPONENTS)
def test_look_ups_lines_and_exponentials(component: str, tmp_path: Path) -> None:
    flags = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    )
    if not COMPONENTS[component] <= set(flags.split()):
        pytest.skip(f"this CPU cannot run {component}")
    project = tomllib.loads((PACKAGE / "build.toml").read_text())
    own = project["kernel"][component]["cxx-flags"]
    command = ["c++", "-std=c++17", "-O2", *own, "-I", PACKAGE, "-I", PACKAGE.parent]
    program = tmp_path / "look_up"
    source = Path(__file__).with_name("look_up.cpp")
    subprocess.run([*command, source, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
