# SPDX-License-Identifier: Apache-2.0
"""Imports a verified package: every module from the bytes that were judged, none by path.

No bytecode is read or written, `sys.path` is not touched, and an import that would leave the
verified files of the package fails.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from kernelhub import _kernelhub
from kernelhub.errors import id_conflict
from kernelhub.package_modules import PackageModules

_packages: dict[str, PackageModules] = {}
_lock = threading.Lock()


class VerifiedFinder:
    """Entry of `sys.meta_path` that answers for the ids of verified packages only."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of a module of a verified package; None for every other name."""
        package = _packages.get(fullname.partition(".")[0])
        return package.find_spec(fullname) if package is not None else None


def import_package(verified: _kernelhub.VerifiedPackage, origin: str) -> tuple[ModuleType, bool]:
    """Execute the package and return its module, and whether this call executed it.

    Concurrent callers get one execution and one module. A failure leaves no module behind and the
    exception carries a note with `origin`. Raises KernelIdConflict when the id is taken.
    """
    package_id = verified.package_id
    with _lock:
        package = _packages.get(package_id)
        if package is None:
            foreign = sys.modules.get(package_id)
            package = PackageModules(verified, origin)
            if foreign is not None and package.is_same_file(foreign):
                return foreign, False
            _require_free(package_id, verified.directory, foreign)
            _packages[package_id] = package
            if VerifiedFinder not in sys.meta_path:
                sys.meta_path.insert(0, VerifiedFinder)
        elif package.variant_digest != verified.variant_digest:
            raise id_conflict(
                package_id,
                verified.directory,
                f"that of the package loaded from {package.directory}, with other content",
            )
        package.pending += 1
        was_loaded = package.loaded
    try:
        module = importlib.import_module(package_id)
    finally:
        with _lock:
            package.pending -= 1
            if not package.loaded and package.pending == 0:
                del _packages[package_id]
                package.release()
    return module, not was_loaded


def _require_free(package_id: str, directory: str, foreign: ModuleType | None) -> None:
    if foreign is not None:
        origin = getattr(foreign, "__file__", None) or "built in"
        raise id_conflict(package_id, directory, f"an imported module ({origin})")
    if package_id in sys.stdlib_module_names:
        raise id_conflict(package_id, directory, "a module of the standard library")
    spec = importlib.util.find_spec(package_id)
    if spec is not None:
        owner = spec.origin or os.pathsep.join(spec.submodule_search_locations or [])
        raise id_conflict(package_id, directory, f"an importable module ({owner})")
