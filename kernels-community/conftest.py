# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the packages' own tests: `kernel` is the package whose tests/ a test lies in."""

import os
import tomllib
from pathlib import Path

import kernels
import pytest
import torch

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture
def kernel(request, device):
    """KERNELHUB_PACKAGES_DIR names the folder of built projects; without it the package comes from
    the Hub, or from where LOCAL_KERNELS says."""
    project = request.path.parents[1]
    built = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if built:
        return kernels.get_local_kernel(Path(built) / project.name, backend=device)
    version = tomllib.loads((project / "build.toml").read_text())["general"]["version"]
    return kernels.get_kernel(f"kernels-community/{project.name}", version=version, backend=device)
