# SPDX-License-Identifier: Apache-2.0
"""The wheel builds, installs into an empty environment, and works there and beside a torch."""

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packages import write_package

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "--no-build-isolation"),
            *("-w", folder, "-Cbuild-dir=" + str(folder / "build"), "--quiet"),
            "-Ccmake.define.CMAKE_CXX_COMPILER_LAUNCHER=ccache",
        ],
        check=True,
        env=os.environ | {"CMAKE_BUILD_PARALLEL_LEVEL": "2"},
    )
    (made,) = folder.glob("kernelhub-*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"),
            *("--no-deps", "--no-index", "--quiet", wheel),
        ],
        check=True,
    )
    return folder


def run(command: list[str | Path]) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_holds_the_libraries_stubs_and_marker(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for expected in ("py.typed", "_kernelhub.pyi", "lib/libkernelhub.so.0"):
        assert f"kernelhub/{expected}" in names
    assert any(name.endswith("scripts/kernelhub") for name in names)
    assert not [name for name in names if "torch" in name or name.endswith((".h", ".cmake"))]


@pytest.mark.slow
def test_installed_package_loads_a_kernel(environment: Path, tmp_path: Path) -> None:
    # A variant is chosen for a torch; the packages of the tests stand behind the environment's own.
    torch = importlib.util.find_spec("torch")
    assert torch is not None and torch.origin is not None
    (packages,) = (environment / "lib").glob("python3*/site-packages")
    (packages / "torch.pth").write_text(str(Path(torch.origin).parents[1]))
    write_package(tmp_path, {"__init__.py": "value = 11\n"}, package_id="_toy_cpu_wheel")
    script = "import kernelhub, sys; print(kernelhub.get_local_kernel(sys.argv[1]).value)"
    assert run([environment / "bin" / "python", "-c", script, tmp_path]).strip() == "11"


@pytest.mark.slow
def test_installed_program_runs(environment: Path) -> None:
    assert "serve" in run([environment / "bin" / "kernelhub", "--help"])
