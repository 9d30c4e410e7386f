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


def output_of(source: str, component: str, folder: Path, *flags: str) -> str:
    """What the program prints, compiled with the flags of a component."""
    cpu = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    )
    if not COMPONENTS[component] <= set(cpu.split()):
        pytest.skip(f"this CPU cannot run {component}")
    project = tomllib.loads((PACKAGE / "build.toml").read_text())
    own = project["kernel"][component]["cxx-flags"]
    command = ["c++", "-std=c++17", "-O2", *own, *flags, "-I", PACKAGE, "-I", PACKAGE.parent]
    program = folder / "program"
    subprocess.run([*command, Path(__file__).with_name(source), "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("component", COMPONENTS)
def test_look_ups_find_every_value_and_loops_every_line(component: str, tmp_path: Path) -> None:
    assert output_of("look_up.cpp", component, tmp_path) == ""


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("flags", [(), ("-DGRADIENTS",)], ids=["forward", "gradients"])
def test_no_step_is_subnormal(flags: tuple[str, ...], component: str, tmp_path: Path) -> None:
    assert output_of("subnormal_steps.cpp", component, tmp_path, *flags) == ""
