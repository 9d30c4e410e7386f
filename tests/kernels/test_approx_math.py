# SPDX-License-Identifier: Apache-2.0
"""The 16-bit CUDA forms are exact whatever the approximate units do within their error bounds."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kernels-community" / "activation"

# Share of the inputs that may differ from the contract for some error of the units.
ALLOWED = {"silu": 0.0, "gelu_quick": 0.0, "tanh_range": 0.0, "gelu_fast": 1e-3, "gelu_new": 1e-3}


def constant_bits() -> list[str]:
    """The splits of activation.cu as macros, so that the bits under test are those that ship."""
    source = (PACKAGE / "activation_cuda" / "activation.cu").read_text()
    flags = []
    for dtype, suffix in (("__half", "FP16"), ("__nv_bfloat16", "BF16")):
        body = source.split(f"struct Bits<{dtype}> {{")[1].split("};\n};")[0]
        for name, macro in (("kSqrtTwoOverPi", "SQRT"), ("kCubic", "CUBIC")):
            high, low = re.findall(name + r"\[2\] = \{(\w+), (\w+)", body)[0]
            flags += [f"-D{macro}_HI_{suffix}={high}", f"-D{macro}_LO_{suffix}={low}"]
    return flags


@pytest.fixture(scope="module")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, int]]:
    """Wrong and tried inputs by format and check."""
    program = tmp_path_factory.mktemp("approx_math") / "approx_math"
    command = ["c++", "-std=c++17", "-O2", "-ffp-contract=off", "-I", PACKAGE, *constant_bits()]
    source = Path(__file__).with_name("approx_math.cpp")
    subprocess.run([*command, source, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows}


@pytest.mark.parametrize("form", ["fp16", "bf16"])
@pytest.mark.parametrize("check", sorted(ALLOWED))
def test_no_error_of_the_units_changes_a_rounded_result(
    tallies: dict[tuple[str, str], tuple[int, int]], check: str, form: str
) -> None:
    wrong, tried = tallies[form, check]
    assert tried >= 33_000
    assert wrong <= ALLOWED[check] * tried
