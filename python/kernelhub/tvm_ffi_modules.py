# SPDX-License-Identifier: Apache-2.0
"""tvm-ffi packages load their library by path; theirs is replaced by the verified descriptor."""

from __future__ import annotations

import builtins
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


class PackageTvmFfi(ModuleType):
    """`tvm_ffi` as a package sees it: the real module, but for `load_module`."""

    def __init__(
        self,
        real: ModuleType,
        directory: str,
        library_path: Callable[[str], str],
        require_unchanged: Callable[[str], None],
    ) -> None:
        """Take what opens files of the package in `directory`.

        `library_path` gives the path to open for a file; `require_unchanged` raises when the file
        was written meanwhile.
        """
        super().__init__(real.__name__, real.__doc__)
        self._real = real
        self._directory = directory
        self._library_path = library_path
        self._require_unchanged = require_unchanged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def load_module(self, path: str | os.PathLike[str], *args: Any, **options: Any) -> Any:
        """Load the package's own library through its descriptor, any other one by its path."""
        name = os.path.relpath(path, self._directory)
        if name.startswith(os.pardir):
            return self._real.load_module(path, *args, **options)
        # tvm-ffi goes by the suffix of the name, and a descriptor has none: a link in a folder
        # that only this user can write to leads to it.
        with tempfile.TemporaryDirectory(prefix="kernelhub-") as folder:
            link = os.path.join(folder, os.path.basename(name))
            os.symlink(self._library_path(name), link)
            module = self._real.load_module(link, *args, **options)
        self._require_unchanged(name)
        return module


def import_for_package(
    directory: str,
    library_path: Callable[[str], str],
    require_unchanged: Callable[[str], None],
) -> Callable[..., ModuleType]:
    """`__import__` of the modules of one package."""

    def import_module(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        module = builtins.__import__(name, globals, locals, fromlist, level)
        if name == "tvm_ffi" and level == 0:
            return PackageTvmFfi(module, directory, library_path, require_unchanged)
        return module

    return import_module
