# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import kernels
import pytest
import torch


@pytest.fixture(scope="session")
def load_package() -> Callable[[str], ModuleType]:
    """Loads the CPU build of a package below KERNELHUB_PACKAGES_DIR with the peer's client."""
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    return lambda name: kernels.get_local_kernel(Path(root) / name, backend="cpu")


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> None:
    """Reproducible inputs; the tests that are about threads ask for more."""
    torch.manual_seed(20)
    torch.set_num_threads(1)
