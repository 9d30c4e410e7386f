# SPDX-License-Identifier: Apache-2.0
"""The modules of one verified package: where they are, and how each is executed."""

from __future__ import annotations

import builtins
import linecache
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import decode_source
from types import CodeType, ModuleType
from typing import Any

from kernelhub import _kernelhub
from kernelhub.binary_descriptor import BinaryDescriptor

# Descriptors of binaries that were handed to dlopen: it finds a library by its name first, so the
# number behind /proc/<pid>/fd/N must never be given to another file (loader spec T2).
_pinned: list[BinaryDescriptor] = []


class PackageModules:
    """Finds and loads the modules of one package; `pending` and `loaded` belong to the importer."""

    def __init__(self, verified: _kernelhub.VerifiedPackage, origin: str) -> None:
        """Take over the verified files; `origin` is named when an import fails."""
        self.verified: _kernelhub.VerifiedPackage | None = verified
        self.package_id = verified.package_id
        self.directory = verified.directory
        self.variant_digest = verified.variant_digest
        self.origin = origin
        self.pending = 0
        self.loaded = False
        self._paths = frozenset(verified.paths)
        self._root = self._find_root(verified)

    def files(self) -> _kernelhub.VerifiedPackage:
        """The verified files; only between construction and `release`."""
        if self.verified is None:
            raise ImportError(f"package {self.package_id} was given up", name=self.package_id)
        return self.verified

    def release(self) -> None:
        """Close the descriptors; tracebacks may keep this object alive after a failure."""
        self.verified = None

    def is_same_file(self, module: ModuleType) -> bool:
        """Whether a module that somebody else imported is this package's file."""
        path = getattr(module, "__file__", None)
        if path is None or not os.path.exists(path):
            return False
        entry = self.files().descriptor(self._root + "__init__.py")
        return os.path.samestat(os.stat(path), os.fstat(entry))

    def find_spec(self, fullname: str) -> ModuleSpec:
        """Spec of one module; raises ModuleNotFoundError outside the verified files."""
        inner = fullname[len(self.package_id) + 1 :].replace(".", "/")
        stem = self._root + inner
        package_file = f"{stem}/__init__.py" if inner else f"{stem}__init__.py"
        if package_file in self._paths:
            return self._source_spec(fullname, package_file, is_package=True)
        for suffix in EXTENSION_SUFFIXES:
            if stem + suffix in self._paths:
                return self._extension_spec(fullname, stem + suffix)
        if f"{stem}.py" in self._paths:
            return self._source_spec(fullname, f"{stem}.py", is_package=False)
        if any(path.startswith(f"{stem}/") for path in self._paths):
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [os.path.join(self.directory, stem)]
            return spec
        raise ModuleNotFoundError(
            f"no module {fullname} among the verified files of {self.directory}", name=fullname
        )

    def code_of(self, path: str) -> CodeType:
        """Compiled source of one file."""
        filename = os.path.join(self.directory, path)
        source = self.files().read(path)
        # Compilers that read source through `inspect` get these bytes too, not what the disk has
        # by then; without a time stamp linecache keeps them.
        lines = decode_source(source).splitlines(keepends=True)
        linecache.cache[filename] = (len(source), None, lines, filename)
        return compile(source, filename, "exec", dont_inherit=True)

    def globals_of(self) -> dict[str, Any]:
        """Names that every module of the package starts with.

        Only tvm-ffi packages get an `__import__` of their own: tracing compilers expect the
        built-in names of a torch package to be the usual ones.
        """
        if not self.files().variant.startswith("tvm-ffi"):
            return {}
        from kernelhub.tvm_ffi_modules import import_for_package

        own_import = import_for_package(self.directory, self._library_path, self.require_unchanged)
        return {"__builtins__": vars(builtins) | {"__import__": own_import}}

    def open_binary(self, path: str) -> str:
        """A path that dlopen may take: judged by the ELF checks, and pinned for the process."""
        files = self.files()
        files.require_loadable(path)
        op_namespace = path.rpartition("/")[2].partition(".")[0]
        if files.variant.startswith("torch") and _is_registered(op_namespace):
            return files.require_mapped_copy(path, op_namespace)
        self.require_unchanged(path)
        binary = BinaryDescriptor.of(files, path)
        _pinned.append(binary)
        return binary.proc_path()

    def require_unchanged(self, path: str) -> None:
        """Raise IntegrityError when a binary was written since it was judged; a copy cannot be."""
        files = self.files()
        if not files.needs_sealed:
            files.require_unchanged(path)

    def _library_path(self, name: str) -> str:
        if name not in self._paths:
            raise ImportError(
                f"no file {name} among the verified files of {self.directory}", name=self.package_id
            )
        return self.open_binary(name)

    def _find_root(self, verified: _kernelhub.VerifiedPackage) -> str:
        """Folder of `__init__.py`: the variant, or (older layout) one named after the kernel."""
        if "__init__.py" in self._paths:
            return ""
        older = f"{verified.python_name}/"
        if older + "__init__.py" in self._paths:
            return older
        raise FileNotFoundError(
            f"no Python module in {self.directory}: neither __init__.py nor {older}__init__.py"
        )

    def _source_spec(self, fullname: str, path: str, *, is_package: bool) -> ModuleSpec:
        loader = SourceLoader(self, path)
        filename = os.path.join(self.directory, path)
        spec = ModuleSpec(fullname, loader, origin=filename, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(filename)]
        return spec

    def _extension_spec(self, fullname: str, path: str) -> ModuleSpec:
        loader = ExtensionLoader(fullname, self, path)
        return ModuleSpec(fullname, loader, origin=os.path.join(self.directory, path))


class SourceLoader:
    """Executes one source file of a package from its verified bytes."""

    def __init__(self, package: PackageModules, path: str) -> None:
        """`path` is relative to the variant."""
        self._package = package
        self._path = path

    def create_module(self, spec: ModuleSpec) -> None:
        """Ask for an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the source; a failing package leaves no submodule behind."""
        package = self._package
        is_root = module.__name__ == package.package_id
        module.__dict__.update(package.globals_of())
        try:
            exec(package.code_of(self._path), module.__dict__)
        except BaseException as error:
            if is_root:
                _forget_submodules(package.package_id)
                error.add_note(f"while importing {package.origin}")
            raise
        if is_root:
            package.loaded = True

    def get_source(self, fullname: str) -> str:
        """Verified source text, for tracebacks and inspect."""
        return self._package.files().read(self._path).decode()

    def get_data(self, path: str) -> bytes:
        """Verified content of a file of the package, for pkgutil."""
        return self._package.files().read(os.path.relpath(path, self._package.directory))


class ExtensionLoader(ExtensionFileLoader):
    """Opens one binary of a package through its verified descriptor."""

    def __init__(self, fullname: str, package: PackageModules, path: str) -> None:
        """`path` is relative to the variant."""
        super().__init__(fullname, os.path.join(package.directory, path))
        self._package = package
        self._path = path

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Judge the binary, then let dlopen see it; other modules are imported by now."""
        spec.origin = self.path = self._package.open_binary(self._path)
        module = super().create_module(spec)
        try:
            self._package.require_unchanged(self._path)
        except BaseException:
            # An extension of one phase has entered itself by now.
            sys.modules.pop(spec.name, None)
            raise
        return module


def _is_registered(op_namespace: str) -> bool:
    """Whether a library has this namespace in torch; opening a second one ends the process."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    try:
        library = torch._C._dispatch_library("DEF", op_namespace, "", __file__, 0)
    except RuntimeError:
        return True
    library.reset()  # the question registered it
    return False


def _forget_submodules(package_id: str) -> None:
    for name in [name for name in sys.modules if name.startswith(package_id + ".")]:
        del sys.modules[name]
