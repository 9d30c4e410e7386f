# SPDX-License-Identifier: Apache-2.0
"""Op packages for the GPU of this machine: the built variant where it is newer than its sources,
else build.toml compiled here with nvcc and g++ for this GPU alone. Needs torch and CUDA only, and
the headers that a component depends on.

What was compiled is kept by what it was compiled from and with: copying a tree, or another time of
its files, compiles nothing anew, another compiler or torch all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from own_process import Budget, attempt, run_within

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "kernels-community"
# Where what is compiled here goes, unless told otherwise.
FOLDER = ROOT / "build" / "gpu"

# Whose change makes a built variant stale; a card's or a test's does not.
SOURCES = (".cpp", ".cu", ".cuh", ".h", ".py", ".toml")
# The largest units take less.
BYTES_PER_COMPILER = 1 << 30

# What torch-ext/torch_binding.cpp takes from the builder: torch's macros with the name expanded.
REGISTRATION = """#pragma once
#define STABLE_TORCH_LIBRARY_EXPAND(NAME, MODULE) STABLE_TORCH_LIBRARY(NAME, MODULE)
#define STABLE_TORCH_LIBRARY_IMPL_EXPAND(NAME, DEVICE, MODULE) \\
  STABLE_TORCH_LIBRARY_IMPL(NAME, DEVICE, MODULE)
#define REGISTER_EXTENSION(NAME)
"""

OPS = """from pathlib import Path

import torch

torch.ops.load_library(Path(__file__).with_name({library!r}))
ops = torch.ops.{name}


def add_op_namespace_prefix(op_name: str) -> str:
    return f"{name}::{{op_name}}"
"""

QUOTED = re.compile(rb'^ *# *include "([^"]+)"', re.MULTILINE)


class BuildError(RuntimeError):
    """What keeps a package from being there."""


@dataclass(frozen=True)
class Built:
    """What became of a package: the folder to import, or None; in words, how or why."""

    folder: Path | None
    origin: str


class Packages(Mapping[str, ModuleType]):
    """Built packages by name, imported where they are used; one that failed says why."""

    def __init__(self, built: Mapping[str, Built]) -> None:
        self._built = built
        self._modules: dict[str, ModuleType] = {}

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self._modules:
            built = self._built[name]
            if built.folder is None:
                raise BuildError(f"{name}: {built.origin}")
            self._modules[name] = _import(built.folder, name)
        return self._modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self._built

    def __iter__(self) -> Iterator[str]:
        return iter(self._built)

    def __len__(self) -> int:
        return len(self._built)


@dataclass(frozen=True)
class Toolchain:
    """The compilers and torch's folder; `versions` are theirs, in their own words."""

    nvcc: str
    cuda: Path
    cxx: str
    torch: Path
    arch: str
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """A source of a section of build.toml, and the command that compiles it, but for its output.

    `what` says all that the result depends on beside the files.
    """

    source: Path
    command: tuple[str, ...]
    includes: tuple[Path, ...]
    what: object


def toolchain(arch: str | None = None) -> Toolchain:
    """The compilers of this machine; `arch` ("90") is that of GPU 0 unless given."""
    import torch

    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    nvcc = shutil.which("nvcc") or str(cuda / "bin" / "nvcc")
    cxx = shutil.which("g++") or shutil.which("c++")
    if not Path(nvcc).is_file() or cxx is None:
        raise BuildError("compilers: expected nvcc and g++, got none; neither is a variant built")
    if arch is None:
        arch = "{}{}".format(*torch.cuda.get_device_capability(0))
    home = Path(nvcc).resolve().parents[1]
    versions = (_version(nvcc), _version(cxx), torch.__version__)
    return Toolchain(nvcc, home, cxx, Path(torch.__file__).parent, arch, versions)


def _version(compiler: str) -> str:
    return subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, text=True
    ).stdout


class Compiler:
    """Compiles units below a folder, as many at a time as this machine bears, each but once."""

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder = folder
        self._budget = budget
        self._pool = ThreadPoolExecutor(_jobs())
        self._objects: dict[Path, Future[None]] = {}
        self._lock = Lock()

    def objects(self, units: Sequence[Unit]) -> list[Path]:
        """The object files of units; BuildError where one does not compile."""
        targets = [self.folder / "objects" / f"{u.source.stem}-{_digest(u)}.o" for u in units]
        with self._lock:
            for unit, target in zip(units, targets, strict=True):
                if target not in self._objects:
                    self._objects[target] = self._pool.submit(self.make, target, *unit.command)
        for target in targets:
            self._objects[target].result()
        return targets

    def make(self, target: Path, *command: str) -> None:
        """Run `command -o target` unless the file is there: whole, or not at all."""
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        status, output = 0, ""
        if self._budget.left > 0:
            print(f"  {Path(command[0]).name} {target.name}", flush=True)
            status, output = run_within(self._budget, [*command, "-o", str(part)])
        if self._budget.left <= 0:
            raise BuildError(f"{target.name}: {self._budget.reason}")
        if status != 0:
            print(f"{' '.join(command)}\n{output}", flush=True)
            errors = [line for line in output.splitlines() if "error" in line]
            raise BuildError(f"{target.name} does not compile: {(errors or [output])[0]}")
        part.replace(target)


def build(
    packages: Sequence[str], folder: Path, budget: Budget, arch: str | None = None
) -> dict[str, Built]:
    """What there is of each package ("layer-norm"): a built variant, or what is compiled below
    `folder` for the GPU here or of `arch`. One that does not compile costs the others nothing.
    """
    compiler = Compiler(folder, budget)

    def one(package: str) -> Built:
        variant = _variant(package) if arch is None else None
        if variant is not None:
            return variant
        done = attempt(lambda: compile_package(package, compiler, toolchain(arch)))
        return Built(done.value, "compiled here" if done.value else done.text)

    with ThreadPoolExecutor(max(1, len(packages))) as pool:
        found = dict(zip(packages, pool.map(one, packages), strict=True))
    for package, built in found.items():
        print(f"{package}: {'' if built.folder else 'FAIL '}{built.origin}", flush=True)
    return found


def _variant(package: str) -> Built | None:
    for variant in sorted((PACKAGES / package / "build").glob("torch-*-cu*-*")):
        if _is_fresh(variant, package):
            try:
                _import(variant, package)
            except (ImportError, OSError) as error:
                print(f"{package}: {variant.name} does not load here ({error}); compiling")
            else:
                return Built(variant, f"built variant {variant.name}")
    return None


def compile_package(package: str, compiler: Compiler, tools: Toolchain) -> Path:
    """Compile the torch binding and all CUDA components; the folder to import."""
    root = PACKAGES / package
    project = tomllib.loads((root / "build.toml").read_text())
    python_name = package.replace("-", "_")
    folder = compiler.folder / python_name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registration.h").write_text(REGISTRATION)
    name = f"_{python_name}_gpu"
    units = [
        _unit(root, section, source, table, name, compiler.folder, tools)
        for section, table in _sections(project)
        for source in table["src"]
        if Path(source).suffix in (".cpp", ".cu")
    ]
    library = folder / f"{name}-{_hash([_digest(unit) for unit in units])}.so"
    if not library.exists():
        objects = map(str, compiler.objects(units))
        lib = str(tools.torch / "lib")
        # --as-needed would drop libtorch_cuda, which registers the device.
        libraries = ["-Wl,--no-as-needed", f"-L{lib}", "-ltorch", "-ltorch_cpu", "-ltorch_cuda"]
        libraries += ["-lc10", f"-Wl,-rpath,{lib}", f"-L{tools.cuda / 'lib64'}", "-lcudart"]
        compiler.make(library, tools.cxx, "-shared", *objects, *libraries)
    for old in {*folder.iterdir()} - {library, folder / "registration.h"}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(root / "torch-ext" / python_name, folder, dirs_exist_ok=True)
    (folder / "_ops.py").write_text(OPS.format(library=library.name, name=name))
    return folder


def compile_shared(source: Path, compiler: Compiler, tools: Toolchain) -> Path:
    """Compile one .cu to a library for ctypes."""
    command = (*_nvcc(tools, gencodes([], tools.arch)), "-shared", "-Xcompiler", "-fPIC")
    unit = Unit(source, (*command, str(source)), (), [tools.arch, tools.versions])
    library = compiler.folder / f"{source.stem}-{_digest(unit)}.so"
    compiler.make(library, *unit.command)
    return library


def _sections(project: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    kernels = project.get("kernel", {}).items()
    return [
        ("torch", project["torch"]),
        *((name, table) for name, table in kernels if table["backend"] == "cuda"),
    ]


def _jobs(meminfo: str | None = None) -> int:
    """Compilers at a time."""
    facts = (meminfo or Path("/proc/meminfo").read_text()).split()
    available = int(facts[facts.index("MemAvailable:") + 1]) << 10
    return max(1, min(len(os.sched_getaffinity(0)), available // BYTES_PER_COMPILER))


def _unit(
    root: Path,
    section: str,
    source: str,
    table: dict[str, Any],
    name: str,
    build_folder: Path,
    tools: Toolchain,
) -> Unit:
    path = (root / source).resolve()
    includes = [(root / include).resolve() for include in table.get("include", [])]
    flags = ["-DCUDA_KERNEL", "-DUSE_CUDA=1", "-DNDEBUG"]
    flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
    # Only the binding knows its package: what several share is the same in each.
    own = [f"-DTORCH_EXTENSION_NAME={name}"] if section == "torch" else []
    archs = gencodes(table.get("cuda-capabilities", []), tools.arch)
    # Without the folders below, which say where a tree lies.
    what = [tools.versions, [*flags], own, archs]
    what += [table.get(key, []) for key in ("cxx-flags", "cuda-flags", "depends")]
    for dependency in table.get("depends", []):
        flags += [f"-I{path}" for path in _headers(dependency, build_folder, tools)]
    flags += [*own, *(f"-I{include}" for include in includes)]
    if path.suffix == ".cu":
        command = [*_nvcc(tools, archs), "-Xcompiler", "-fPIC", *flags]
        command += table.get("cuda-flags", [])
    else:
        headers = tools.torch / "include"
        flags += [f"-I{path}" for path in (headers, headers / "torch/csrc/api/include")]
        flags += ["-isystem", str(tools.cuda / "include")]
        if own:
            flags += [f"-I{build_folder / root.name.replace('-', '_')}"]
        command = [tools.cxx, "-std=c++17", "-O2", "-fPIC", *flags, *table.get("cxx-flags", [])]
    return Unit(path, (*command, "-c", str(path)), tuple(includes), what)


def _digest(unit: Unit) -> str:
    """Of all that a unit is compiled from: this file, what is asked, and the files of this tree."""
    files, waiting = set[Path](), [unit.source]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            for name in QUOTED.findall(path.read_bytes()):
                folders = (path.parent, *unit.includes)
                found = (folder / name.decode() for folder in folders)
                waiting += [one.resolve() for one in found if one.is_file()][:1]
    texts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)]
    return _hash([Path(__file__).read_text(), unit.what, texts])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def gencodes(capabilities: list[str], arch: str) -> list[str]:
    """What nvcc compiles a component for: this GPU alone ("90").

    A component that is written for certain architectures only ("9.0a") is compiled for this GPU
    where it is among them, else for those: the package links, and refuses to run it here.
    """
    listed = [one.removesuffix("+PTX").replace(".", "") for one in capabilities]
    special = [one for one in listed if not one.isdigit()]
    chosen = [one for one in special if one.rstrip("af") == arch]
    if not chosen:
        chosen = special if special and len(special) == len(listed) else [arch]
    return [f"-gencode=arch=compute_{one},code=sm_{one}" for one in chosen]


def _headers(dependency: str, build_folder: Path, tools: Toolchain) -> list[Path]:
    """Include folders of what a component depends on: below include/ of the build folder, where
    they came along, or an installed Python package.
    """
    if dependency == "torch":
        return [tools.torch / "include"]
    brought = build_folder / "include" / dependency
    if brought.is_dir():
        return [brought]
    if dependency.startswith("cutlass"):
        # CCCL's headers lie apart since CUDA 13.
        cccl = tools.cuda / "include" / "cccl"
        spec = importlib.util.find_spec("cutlass_library")
        if spec is not None and spec.submodule_search_locations:
            source = Path(next(iter(spec.submodule_search_locations))) / "source"
            return [source / "include", source / "tools" / "util" / "include", cccl]
    raise BuildError(f"{dependency}: expected its headers in {brought}, got none")


def _nvcc(tools: Toolchain, archs: list[str]) -> list[str]:
    command = [tools.nvcc, "-ccbin", tools.cxx, "-std=c++17", "-O3", *archs]
    return [*command, "--expt-relaxed-constexpr", "--expt-extended-lambda"]


def _newest(package: str) -> float:
    project = tomllib.loads((PACKAGES / package / "build.toml").read_text())
    # Sources of a package beside this one count too: ../primitives, ../flash-attention.
    beside = {
        Path(source).parts[1]
        for _, table in _sections(project)
        for source in table["src"]
        if source.startswith("../")
    }
    return max(
        path.stat().st_mtime
        for folder in (package, *beside)
        for path in (PACKAGES / folder).rglob("*")
        if path.suffix in SOURCES and "build" not in path.relative_to(PACKAGES).parts
    )


def _is_fresh(variant: Path, package: str) -> bool:
    libraries = list(variant.glob("*.so"))
    return bool(libraries) and libraries[0].stat().st_mtime > _newest(package)


def _import(folder: Path, package: str) -> ModuleType:
    name = package.replace("-", "_")
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
