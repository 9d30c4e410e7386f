# SPDX-License-Identifier: Apache-2.0
"""Python packages that a kernel may depend on."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from kernelhub.errors import missing_python_package, unknown_python_dependency
from kernelhub.metadata import Metadata


@dataclass(frozen=True)
class PythonPackage:
    """Name on the package index, and the module to look for (None: nothing to import)."""

    package: str
    module: str | None


# The allow-list of the peer client (package spec 3.2).
_GENERAL = {
    "einops": PythonPackage("einops", "einops"),
    "helion": PythonPackage("helion", "helion"),
    "tvm-ffi": PythonPackage("apache-tvm-ffi", "tvm_ffi"),
}
_BY_BACKEND = {
    "cuda": {"nvidia-cutlass-dsl": PythonPackage("nvidia-cutlass-dsl", "cutlass")},
    "neuron": {"nki": PythonPackage("nki", "nki")},
    "xpu": {"onednn": PythonPackage("onednn-devel", None)},
}


def require_python_depends(canonical_metadata: str) -> None:
    """Check that each entry of `python-depends` is known and installed.

    Raises DependencyError naming the package to install.
    """
    metadata = Metadata.from_canonical(canonical_metadata)
    allowed = _GENERAL | _BY_BACKEND.get(metadata.backend.backend_type, {})
    for dependency in metadata.python_depends:
        package = allowed.get(dependency)
        if package is None:
            raise unknown_python_dependency(str(metadata.name), dependency)
        if package.module is not None and importlib.util.find_spec(package.module) is None:
            raise missing_python_package(str(metadata.name), package.package)
