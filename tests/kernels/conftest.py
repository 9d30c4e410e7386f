# SPDX-License-Identifier: Apache-2.0
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import kernels
import pytest
import sass
import torch
from flash_attention_emulator import CUDA_INCLUDE, Emulator


@pytest.fixture(scope="session")
def load_package() -> Callable[[str], ModuleType]:
    """Loads the CPU build of a package below KERNELHUB_PACKAGES_DIR with the peer's client."""
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    return lambda name: kernels.get_local_kernel(Path(root) / name, backend="cpu")


@pytest.fixture(scope="session")
def cuda_library() -> Callable[[str], Path]:
    """The CUDA library of a package that knows no torch: its kernels, and less around them."""

    def find(package: str) -> Path:
        if sass.tool("cuobjdump") is None:
            pytest.skip("cuobjdump is absent")
        root = os.environ.get("KERNELHUB_PACKAGES_DIR")
        build = Path(root or ".") / package / "build"
        found = sorted(build.glob("tvm-ffi*-cu*/*.so")) if root else []
        if not found:
            if shutil.which("nvcc"):
                pytest.fail(f"nvcc is there, but no CUDA build of {package} is")
            pytest.skip(f"no CUDA build of {package}, and no nvcc to make one")
        return found[-1]

    return find


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> None:
    """Reproducible inputs; the tests that are about threads ask for more."""
    torch.manual_seed(20)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The CUDA forward of flash-attention on emulated instructions, compiled once a run."""
    if not (CUDA_INCLUDE / "cuda_bf16.h").is_file():
        pytest.skip("the CUDA headers are absent")
    own = tmp_path_factory.getbasetemp()
    return Emulator(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)
