# SPDX-License-Identifier: Apache-2.0
"""Compute kernels from the Hub: found, verified, loaded.

import kernelhub
activation = kernelhub.get_kernel("kernels-community/activation", version=1)
"""

from kernelhub._kernelhub import __version__
from kernelhub.errors import (
    ArgumentError,
    DependencyError,
    HubError,
    Incompatible,
    IntegrityError,
    InvalidFile,
    KernelHubError,
    KernelIdConflict,
    LoadError,
    NotCached,
    NotLocked,
    NoVariant,
    StorageError,
    Untrusted,
    VersionNotFound,
)
from kernelhub.loaded import LoadedKernel, RepoInfo, get_loaded_kernels
from kernelhub.loading import (
    get_kernel,
    get_kernel_variants,
    get_local_kernel,
    has_kernel,
    install_kernel,
)
from kernelhub.metadata import Metadata
from kernelhub.variants import VariantAccepted, VariantRejected

# Level of the `kernels` client whose behaviour is offered; `kernels-minver` is compared with it.
KERNELS_API_VERSION = "0.17.2"

__all__ = [
    "KERNELS_API_VERSION",
    "ArgumentError",
    "DependencyError",
    "HubError",
    "Incompatible",
    "IntegrityError",
    "InvalidFile",
    "KernelHubError",
    "KernelIdConflict",
    "LoadError",
    "LoadedKernel",
    "Metadata",
    "NoVariant",
    "NotCached",
    "NotLocked",
    "RepoInfo",
    "StorageError",
    "Untrusted",
    "VariantAccepted",
    "VariantRejected",
    "VersionNotFound",
    "__version__",
    "get_kernel",
    "get_kernel_variants",
    "get_loaded_kernels",
    "get_local_kernel",
    "has_kernel",
    "install_kernel",
]
