# SPDX-License-Identifier: Apache-2.0
"""Op packages for the GPU of this machine: the built variant where it is newer than its sources,
else build.toml compiled here with nvcc and g++ for this GPU alone. Needs torch and CUDA only, and
the headers that a component depends on.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "kernels-community"

# Whose change makes what was built stale; a card's or a test's does not.
SOURCES = (".cpp", ".cu", ".cuh", ".h", ".py", ".toml")

# What torch-ext/torch_binding.cpp takes from the builder: torch's macros with the name expanded.
REGISTRATION = """#pragma once
#define STABLE_TORCH_LIBRARY_EXPAND(NAME, MODULE) STABLE_TORCH_LIBRARY(NAME, MODULE)
#define STABLE_TORCH_LIBRARY_IMPL_EXPAND(NAME, DEVICE, MODULE) \\
  STABLE_TORCH_LIBRARY_IMPL(NAME, DEVICE, MODULE)
#define REGISTER_EXTENSION(NAME)
"""

OPS = """import torch

torch.ops.load_library({library!r})
ops = torch.ops.{name}


def add_op_namespace_prefix(op_name: str) -> str:
    return f"{name}::{{op_name}}"
"""


@dataclass(frozen=True)
class Loaded:
    """A package's Python module, and how it came to be."""

    module: ModuleType
    origin: str


@dataclass(frozen=True)
class Toolchain:
    """The compilers and torch's folder."""

    nvcc: str
    cuda: Path
    cxx: str
    torch: Path
    arch: str


@dataclass(frozen=True)
class Unit:
    """A source of a section of build.toml."""

    section: str
    source: str
    table: dict[str, Any]


def toolchain(arch: str | None = None) -> Toolchain:
    """The compilers of this machine; `arch` ("90") is that of GPU 0 unless given."""
    import torch

    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    nvcc = shutil.which("nvcc") or str(cuda / "bin" / "nvcc")
    cxx = shutil.which("g++") or shutil.which("c++")
    if not Path(nvcc).is_file() or cxx is None:
        raise SystemExit("compilers: expected nvcc and g++, got none; neither is a variant built")
    if arch is None:
        arch = "{}{}".format(*torch.cuda.get_device_capability(0))
    home = Path(nvcc).resolve().parents[1]
    return Toolchain(nvcc, home, cxx, Path(torch.__file__).parent, arch)


def load(package: str, build_folder: Path) -> Loaded:
    """Import `package` ("layer-norm") from its built CUDA variant or from `build_folder`."""
    for variant in sorted((PACKAGES / package / "build").glob("torch-*-cu*-*")):
        if _is_fresh(variant, package):
            try:
                return Loaded(_import(variant, package), f"built variant {variant.name}")
            except (ImportError, OSError) as error:
                print(f"{package}: {variant.name} does not load here ({error}); compiling")
    folder = compile_package(package, build_folder, toolchain())
    return Loaded(_import(folder, package), "compiled here")


def compile_package(package: str, build_folder: Path, tools: Toolchain) -> Path:
    """Compile the torch binding and all CUDA components; the folder to import.

    Files that are newer than their sources are kept.
    """
    root = PACKAGES / package
    project = tomllib.loads((root / "build.toml").read_text())
    python_name = package.replace("-", "_")
    folder = build_folder / python_name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registration.h").write_text(REGISTRATION)
    name = f"_{python_name}_gpu"
    library = folder / f"{name}.so"
    if not library.exists() or library.stat().st_mtime < _newest(package):
        units = [
            Unit(section, source, table)
            for section, table in _sections(project)
            for source in table["src"]
            if Path(source).suffix in (".cpp", ".cu")
        ]
        with ThreadPoolExecutor(_jobs()) as pool:
            objects = list(pool.map(lambda unit: _compile(root, unit, name, folder, tools), units))
        lib = str(tools.torch / "lib")
        # --as-needed would drop libtorch_cuda, which registers the device.
        libraries = ["-Wl,--no-as-needed", f"-L{lib}", "-ltorch", "-ltorch_cpu", "-ltorch_cuda"]
        libraries += ["-lc10", f"-Wl,-rpath,{lib}", f"-L{tools.cuda / 'lib64'}", "-lcudart"]
        _run([tools.cxx, "-shared", "-o", str(library), *map(str, objects), *libraries])
    shutil.copytree(root / "torch-ext" / python_name, folder, dirs_exist_ok=True)
    (folder / "_ops.py").write_text(OPS.format(library=str(library), name=name))
    return folder


def compile_shared(source: Path, library: Path, tools: Toolchain) -> Path:
    """Compile one .cu to a library for ctypes, unless it is newer than its source."""
    library.parent.mkdir(parents=True, exist_ok=True)
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        nvcc = _nvcc(tools, gencodes([], tools.arch))
        _run([*nvcc, "-shared", "-Xcompiler", "-fPIC", str(source), "-o", str(library)])
    return library


def _sections(project: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    kernels = project.get("kernel", {}).items()
    return [
        ("torch", project["torch"]),
        *((name, table) for name, table in kernels if table["backend"] == "cuda"),
    ]


def _jobs() -> int:
    """Compilers at a time: a template-heavy unit takes up to 8 GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory >> 33))


def _compile(root: Path, unit: Unit, name: str, folder: Path, tools: Toolchain) -> Path:
    table = unit.table
    target = folder / f"{unit.section}-{unit.source.replace('../', '').replace('/', '_')}.o"
    flags = ["-DCUDA_KERNEL", "-DUSE_CUDA=1", "-DNDEBUG", f"-DTORCH_EXTENSION_NAME={name}"]
    flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{folder}"]
    flags += [f"-I{root / include}" for include in table.get("include", [])]
    for dependency in table.get("depends", []):
        flags += [f"-I{path}" for path in _headers(dependency, folder.parent, tools)]
    if unit.source.endswith(".cu"):
        archs = gencodes(table.get("cuda-capabilities", []), tools.arch)
        command = [*_nvcc(tools, archs), "-Xcompiler", "-fPIC", *flags]
        command += table.get("cuda-flags", [])
    else:
        headers = tools.torch / "include"
        flags += [f"-I{path}" for path in (headers, headers / "torch/csrc/api/include")]
        flags += ["-isystem", str(tools.cuda / "include")]
        command = [tools.cxx, "-std=c++17", "-O2", "-fPIC", *flags, *table.get("cxx-flags", [])]
    _run([*command, "-c", str(root / unit.source), "-o", str(target)])
    return target


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
    raise SystemExit(f"{dependency}: expected its headers in {brought}, got none")


def _nvcc(tools: Toolchain, archs: list[str]) -> list[str]:
    command = [tools.nvcc, "-ccbin", tools.cxx, "-std=c++17", "-O3", *archs]
    return [*command, "--expt-relaxed-constexpr", "--expt-extended-lambda"]


def _run(command: list[str]) -> None:
    print(f"  {Path(command[0]).name} {Path(command[-1]).name}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


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
