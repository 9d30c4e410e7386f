# SPDX-License-Identifier: Apache-2.0
"""The numeric tests once more in processes that are held to one instruction set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEVELS = {"scalar": set(), "avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512bw", "avx512dq"}}
# What only flash-attention has code of its own for, in test_flash_attention_numerics.py.
BEYOND = {"avx512_bf16": {"avx512_bf16"}, "amx": {"avx512_bf16", "amx_tile", "amx_bf16"}}
NUMERIC = (
    "test_activation_numerics.py",
    "test_gradient_numerics.py",
    "test_layer_norm_gradient_numerics.py",
    "test_layer_norm_numerics.py",
    "test_layer_norm_sum_numerics.py",
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


# Of enough elements for several threads, which an error must not meet before it is told.
CALLS = {
    "activation": "kernel.gelu(*torch.ones(2, 4096, 64))",
    "layer-norm": "kernel.layer_norm(*torch.ones(2, 4096, 64))",
    "rmsnorm": "kernel.rms_norm(*torch.ones(2, 4096, 64), torch.ones(64))",
    "rotary": "kernel.rotary_embedding(*torch.zeros(4, 1, 4096, 64))",
}


def called(package: str, level: str) -> str:
    """Nothing, or the error of the package's call in a process that is held to a level."""
    folder = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / package
    program = (
        "import kernels, pathlib, torch\n"
        f"kernel = kernels.get_local_kernel(pathlib.Path({str(folder)!r}), backend='cpu')\n"
        f"try:\n    {CALLS[package]}\n"
        "except RuntimeError as failure:\n    print(failure)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERNELHUB_CPU_ISA": level},
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout


@pytest.mark.parametrize("package", CALLS)
@pytest.mark.usefixtures("load_package")
def test_an_unknown_isa_is_an_error_that_lists_the_levels(package: str) -> None:
    error = called(package, "mmx")
    name = package.replace("-", "_")
    assert f"{name}: KERNELHUB_CPU_ISA names no level of this CPU: expected scalar" in error
    assert ", got mmx" in error


@pytest.mark.parametrize("level", BEYOND)
@pytest.mark.parametrize("package", CALLS)
@pytest.mark.usefixtures("load_package")
def test_levels_beyond_a_package_run_its_best_code_where_the_cpu_has_them(
    package: str, level: str
) -> None:
    error = called(package, level)
    if BEYOND[level] <= cpu_flags():
        assert error == ""
    else:
        assert f", got {level}" in error
