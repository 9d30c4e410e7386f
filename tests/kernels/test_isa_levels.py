# SPDX-License-Identifier: Apache-2.0
"""The numeric tests once more in processes that are held to one instruction set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEVELS = {"scalar": set(), "avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512bw", "avx512dq"}}
NUMERIC = (
    "test_activation_numerics.py",
    "test_gradient_numerics.py",
    "test_layer_norm_gradient_numerics.py",
    "test_layer_norm_numerics.py",
    "test_rmsnorm_numerics.py",
    "test_rotary_numerics.py",
)


def cpu_flags() -> set[str]:
    text = Path("/proc/cpuinfo").read_text()
    line = next(line for line in text.splitlines() if line.startswith("flags"))
    return set(line.split(":")[1].split())


@pytest.mark.usefixtures("load_package")
@pytest.mark.parametrize("level", LEVELS)
def test_each_isa_keeps_the_tolerances(level: str) -> None:
    if not LEVELS[level] <= cpu_flags():
        pytest.skip(f"this CPU has no {level}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    command += [str(HERE / name) for name in NUMERIC]
    child = subprocess.run(
        command, env=os.environ | {"KERNELHUB_CPU_ISA": level}, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stdout[-4000:]


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("activation", "kernel.gelu(torch.empty(4), torch.empty(4))"),
        ("layer-norm", "kernel.layer_norm(torch.empty(4), torch.empty(4))"),
        ("rmsnorm", "kernel.rms_norm(torch.empty(4), torch.empty(4), torch.empty(4))"),
        ("rotary", "kernel.rotary_embedding(*torch.zeros(4, 1, 1, 2))"),
    ],
)
@pytest.mark.usefixtures("load_package")
def test_an_unknown_isa_is_an_error_that_lists_the_levels(package: str, call: str) -> None:
    folder = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / package
    program = (
        "import kernels, pathlib, torch\n"
        f"kernel = kernels.get_local_kernel(pathlib.Path({str(folder)!r}), backend='cpu')\n"
        f"try:\n    {call}\n"
        "except RuntimeError as failure:\n    print(failure)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERNELHUB_CPU_ISA": "mmx"},
        capture_output=True,
        text=True,
        check=True,
    )
    name = package.replace("-", "_")
    assert f"{name}: KERNELHUB_CPU_ISA names no level of this CPU: expected scalar" in child.stdout
    assert ", got mmx" in child.stdout
