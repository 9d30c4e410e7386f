# SPDX-License-Identifier: Apache-2.0
"""The committed stubs are those of the extension, and the package type-checks with them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_committed_stubs_are_current(tmp_path: Path) -> None:
    made = tmp_path / "made.pyi"
    subprocess.run([sys.executable, ROOT / "tools" / "make_stubs", "--output", made], check=True)
    committed = ROOT / "python" / "kernelhub" / "_kernelhub.pyi"
    assert made.read_text() == committed.read_text(), "run tools/make_stubs"


def test_package_type_checks(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, "python/kernelhub"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


# What pybind11 gives every class: its own metaclass, and an __init__ that takes anything and
# refuses by overload resolution; `__all__` is the stub's.
PYBIND11_FACTS = r"""
kernelhub\._kernelhub\.[A-Z][A-Za-z]+
kernelhub\._kernelhub\.[A-Z][A-Za-z]+\.__init__
kernelhub\._kernelhub\.__all__
"""


def test_stubs_agree_with_the_running_extension(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(PYBIND11_FACTS)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "kernelhub._kernelhub"),
            *("--allowlist", allowed, "--ignore-unused-allowlist"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
