# SPDX-License-Identifier: Apache-2.0
"""The names of the package and their signatures, compared with the peer client's."""

import copy
import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kernels
import pytest
from packages import write_package

import kernelhub

SHARED = [
    "get_kernel",
    "get_local_kernel",
    "has_kernel",
    "install_kernel",
    "get_kernel_variants",
    "get_loaded_kernels",
]


def test_every_exported_name_exists() -> None:
    assert sorted(kernelhub.__all__) == sorted(set(kernelhub.__all__))
    for name in kernelhub.__all__:
        assert getattr(kernelhub, name) is not None
    assert kernels.__version__ == kernelhub.KERNELS_API_VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", kernelhub.__version__)


@pytest.mark.parametrize("name", SHARED)
def test_signature_begins_with_the_peers(name: str) -> None:
    ours = list(inspect.signature(getattr(kernelhub, name)).parameters.values())
    peers = list(inspect.signature(getattr(kernels, name)).parameters.values())
    facts = [(p.name, p.kind, p.default) for p in ours]
    assert facts[: len(peers)] == [(p.name, p.kind, p.default) for p in peers]
    for extra in ours[len(peers) :]:
        assert extra.kind is inspect.Parameter.KEYWORD_ONLY
        assert extra.default is None


@pytest.mark.parametrize("name", ["LoadedKernel", "VariantAccepted", "VariantRejected"])
def test_dataclass_fields_are_the_peers(name: str) -> None:
    ours = [field.name for field in dataclasses.fields(getattr(kernelhub, name))]
    assert ours == [field.name for field in dataclasses.fields(getattr(kernels, name))]


def test_repo_info_has_exactly_the_peers_fields() -> None:
    names = [field.name for field in dataclasses.fields(kernelhub.RepoInfo)]
    assert names == ["repo_id", "revision"]


def test_public_functions_and_classes_are_documented() -> None:
    for name in kernelhub.__all__:
        value: Any = getattr(kernelhub, name)
        if callable(value):
            assert inspect.getdoc(value), name


def test_metadata_reads_as_the_peers(tmp_path: Path, package_id: str) -> None:
    provenance = {
        "kernel-builder": {"version": "1.2.3", "commit": "a" * 40, "dirty": False},
        "kernel": {"commit": "b" * 40, "dirty": True},
    }
    variant = write_package(
        tmp_path,
        {"__init__.py": "", "a b.txt": "x"},
        package_id=package_id,
        name="toy-two",
        archs=["7.5", "9.0a"],
        backend="cuda",
        variant="torch-cuda",
        upstream="https://example.org/up.git",
        kernels_minver="0.17.0",
        provenance=provenance,
    )
    ours = kernelhub.Metadata.read_from_file(variant / "metadata.json")
    peers = kernels.Metadata.read_from_file(variant / "metadata.json")
    for name in ("id", "version", "license", "upstream", "source", "python_depends"):
        assert getattr(ours, name) == getattr(peers, name), name
    assert ours.name.python_name == peers.name.python_name == "toy_two"
    assert str(ours.name) == str(peers.name)
    assert str(ours.kernels_minver) == str(peers.kernels_minver)
    assert str(ours.backend.backend_type) == str(peers.backend.backend_type)
    assert ours.backend.archs == peers.backend.archs
    assert ours.digest is not None and peers.digest is not None
    assert ours.digest.files == peers.digest.files
    assert ours.provenance is not None and peers.provenance is not None
    assert ours.provenance.dirty is peers.provenance.dirty is True
    assert ours.provenance.kernel is not None
    assert ours.provenance.kernel.commit == peers.provenance.kernel.commit
    assert ours.provenance.kernel_builder.version == "1.2.3"
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"name": "toy"}', b'{"id": 1, "id": 2}'])
def test_metadata_that_cannot_be_read_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        kernelhub.Metadata.from_bytes(content)
    assert isinstance(caught.value, kernelhub.KernelHubError)


def test_import_brings_in_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "huggingface_hub", "sigstore", "requests", "httpx", "pydantic"]
    script = f"import sys, kernelhub; print([n for n in {heavy!r} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_backend_and_torch_are_found_without_importing_torch() -> None:
    script = (
        "import sys\nfrom kernelhub.system import system_info\n"
        "before = system_info(); assert 'torch' not in sys.modules\n"
        "import torch\nafter = system_info()\n"
        "facts = lambda s: (s.backend, s.torch, s.torch_cxx11_abi, s.tvm_ffi)\n"
        "assert facts(before) == facts(after), (facts(before), facts(after))\n"
        "from kernels.backends import _backend\nassert before.backend == _backend().variant_str\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
