# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import kernels
import pytest
import torch

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture
def rmsnorm(device):
    """KERNELHUB_TEST_BUILD names a built project; without it the package comes from the Hub, or
    from where LOCAL_KERNELS says."""
    build = os.environ.get("KERNELHUB_TEST_BUILD")
    if build:
        return kernels.get_local_kernel(Path(build), backend=device)
    return kernels.get_kernel("kernels-community/rmsnorm", version=1, backend=device)
