# SPDX-License-Identifier: Apache-2.0
"""Facts of this process that decide which variant fits, found without importing torch.

Standard modules that only a first probe needs are imported there, not with the package.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from dataclasses import dataclass

from kernelhub import _kernelhub

# torch wheels for Linux have the C++11 ABI since this version; older ones must be asked.
_FIRST_CXX11_TORCH = (2, 7)


@dataclass(frozen=True)
class TorchFacts:
    """What of torch decides: version, C++ ABI, and the backend it was built for."""

    version: str
    cxx11_abi: bool
    backend: str


def system_info() -> _kernelhub.SystemInfo:
    """Facts of this process for one resolution; probed once before and once after torch."""
    return _probe("torch" in sys.modules)


@functools.lru_cache(maxsize=2)
def _probe(torch_imported: bool) -> _kernelhub.SystemInfo:
    system = _kernelhub.system()
    torch = _imported_torch() if torch_imported else _installed_torch()
    system.torch = torch.version if torch else None
    system.torch_cxx11_abi = torch.cxx11_abi if torch else None
    if torch:
        system.set_backend(torch.backend)
    system.tvm_ffi = _tvm_ffi_version()
    return system


def _tvm_ffi_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    if importlib.util.find_spec("tvm_ffi") is None:
        return None
    try:
        return version("apache-tvm-ffi")
    except PackageNotFoundError:
        return None


def _installed_torch() -> TorchFacts | None:
    from importlib.metadata import entry_points

    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    # A plug-in may name its backend only while torch is imported.
    if entry_points(group="torch.backends"):
        return _imported_torch()
    facts = _literals(os.path.join(os.path.dirname(spec.origin), "version.py"))
    version = facts.get("__version__")
    if version is None or _major_minor(version) < _FIRST_CXX11_TORCH:
        return _imported_torch()
    return TorchFacts(version, True, _backend_of_build(facts))


def _imported_torch() -> TorchFacts:
    import torch

    version = torch.version
    facts = {name: getattr(version, name, None) for name in ("cuda", "hip", "xpu")}
    if hasattr(torch.backends, "tpu"):
        backend = "tpu"
    elif hasattr(torch, "neuron"):
        backend = "neuron"
    else:
        backend = _backend_of_build(facts)
        if backend == "cpu" and torch._C._get_privateuse1_backend_name() == "npu":
            backend = _cann_backend()
    return TorchFacts(str(torch.__version__), bool(torch.compiled_with_cxx11_abi()), backend)


def _backend_of_build(facts: dict[str, str | None]) -> str:
    if cuda := facts.get("cuda"):
        return "cu{}{}".format(*_major_minor(cuda))
    if hip := facts.get("hip"):
        return "rocm{}{}".format(*_major_minor(hip))
    if xpu := facts.get("xpu"):
        # YYYY0M..: the toolkit's year and minor version.
        return f"xpu{xpu[0:4]}{xpu[5:6]}"
    return "cpu"


def _cann_backend() -> str:
    from torch_npu.utils.collect_env import get_cann_version

    return "cann{}{}".format(*_major_minor(get_cann_version()))


def _major_minor(text: str) -> tuple[int, int]:
    major, minor = text.split("-")[0].split(".")[:2]
    return int(major), int(minor)


def _literals(path: str) -> dict[str, str | None]:
    """Module-level `name = "text"` of a Python file that must not be executed."""
    import ast

    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    found: dict[str, str | None] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            found[target.id] = value.value if isinstance(value.value, str) else None
    return found
