# SPDX-License-Identifier: Apache-2.0
"""What the CUDA builds of element-wise, norm and rotary packages have in common, read from the
binaries: nothing here needs a GPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sass
from sass import ARCHS

PACKAGES = ("activation", "layer-norm", "relu", "rmsnorm", "rotary")


@pytest.mark.parametrize("package", PACKAGES)
def test_machine_code_for_every_architecture_and_ptx_for_later_ones(
    cuda_library: Callable[[str], Path], package: str
) -> None:
    machine_code, ptx = sass.architectures(cuda_library(package))
    assert machine_code == set(ARCHS)
    assert ptx == {ARCHS[-1]}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("package", PACKAGES)
def test_no_kernel_touches_local_memory(
    cuda_library: Callable[[str], Path], package: str, arch: str
) -> None:
    kernels = sass.kernels(cuda_library(package), arch)
    assert kernels
    assert [kernel.name for kernel in kernels if kernel.touches_local_memory] == []
