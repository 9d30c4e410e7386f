# SPDX-License-Identifier: Apache-2.0
"""The shipped mapping against the packages, in Python and C++, and against transformers' own."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

ROOT = Path(__file__).resolve().parents[2]
MAPPING: dict[str, list[dict[str, Any]]] = json.loads(
    (ROOT / "layers" / "registry" / "mappings" / "default.json").read_text()
)
# transformers asks for liger-kernels, written in Triton; rmsnorm has the same layer compiled.
SERVED_BY_ANOTHER = {"RMSNorm"}


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entries in MAPPING.items():
        for entry in entries:
            yield name, entry


def package_of(entry: dict[str, Any]) -> str:
    owner, package = entry["repo"].split("/")
    assert owner == "kernels-community"
    return package


def version_in_tree(package: str) -> int:
    lines = (ROOT / "kernels-community" / package / "build.toml").read_text().splitlines()
    return next(int(line.split("=")[1]) for line in lines if line.startswith("version = "))


@pytest.mark.parametrize("name", MAPPING)
def test_every_row_names_a_layer_of_a_package_in_the_tree(
    name: str, load_package: Callable[[str], ModuleType]
) -> None:
    for entry in MAPPING[name]:
        package = package_of(entry)
        assert entry["version"] == version_in_tree(package)
        layer = getattr(load_package(package).layers, entry["layer"])
        assert not {"TORCH_COMPILE"} & set(entry["mode"]) or layer.can_torch_compile
        assert not {"TRAINING"} & set(entry["mode"]) or layer.has_backward


@pytest.mark.parametrize("name", MAPPING)
def test_every_row_has_a_binding_for_cpp(
    name: str, load_package: Callable[[str], ModuleType]
) -> None:
    for entry in MAPPING[name]:
        module = load_package(package_of(entry))
        metadata = json.loads((Path(module.__file__ or "").parent / "metadata.json").read_text())
        binding = metadata["kernelhub"]["layers"][entry["layer"]]
        assert binding["can_torch_compile"]
        assert "TRAINING" not in entry["mode"] or "backward" in binding


def test_both_devices_have_the_same_rows() -> None:
    for name, entries in MAPPING.items():
        of_device = {
            device: [
                {k: v for k, v in e.items() if k != "device"}
                for e in entries
                if e["device"] == device
            ]
            for device in ("cpu", "cuda")
        }
        assert of_device["cpu"] == of_device["cuda"], name


def modes_of(node: ast.expr) -> frozenset[str]:
    return frozenset(n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute))


def asked_by_transformers() -> dict[str, dict[frozenset[str], dict[str, Any]]]:
    """{layer name: {modes: arguments of LayerRepository}} of transformers' cuda rows; read from its
    source, for it builds the mapping only with a version of `kernels` that is not published."""
    source = Path(transformers.__file__).parent / "integrations" / "hub_kernels.py"
    found = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        for name, devices in zip(node.value.keys, node.value.values, strict=True):
            if not isinstance(name, ast.Constant) or not isinstance(devices, ast.Dict):
                continue
            for device, entry in zip(devices.keys, devices.values, strict=True):
                if not isinstance(device, ast.Constant) or device.value != "cuda":
                    continue
                by_mode = (
                    zip(entry.keys, entry.values, strict=True)
                    if isinstance(entry, ast.Dict)
                    else [(ast.Constant("FALLBACK"), entry)]
                )
                found[name.value] = {
                    modes_of(mode): {
                        k.arg: k.value.value
                        for k in repository.keywords
                        if isinstance(k.value, ast.Constant)
                    }
                    for mode, repository in by_mode
                    if mode is not None and isinstance(repository, ast.Call)
                }
    return found


def test_what_transformers_asks_our_packages_for_is_answered_alike() -> None:
    asked = asked_by_transformers()
    ours = {package_of(entry) for _, entry in rows()}
    compared = set()
    for name, by_mode in asked.items():
        for modes, wanted in by_mode.items():
            if wanted["repo_id"].removeprefix("kernels-community/") not in ours:
                continue
            # A row for more modes serves the request too: INFERENCE|TORCH_COMPILE is tried
            # second for INFERENCE.
            answers = [
                entry
                for entry in MAPPING[name]
                if entry["device"] == "cuda" and modes <= set(entry["mode"])
            ]
            assert len(answers) == 1, (name, modes)
            assert answers[0]["repo"] == wanted["repo_id"]
            assert answers[0]["layer"] == wanted["layer_name"]
            assert answers[0]["version"] == wanted["version"]
            compared.add(name)
    assert compared == {
        "FastGELU",
        "GeLU",
        "GeluTanh",
        "NewGELU",
        "QuickGELU",
        "SiLU",
        "rotary_pos_emb",
    }


@pytest.mark.parametrize("name", sorted(SERVED_BY_ANOTHER))
def test_what_is_served_by_another_package_is_asked_by_transformers(name: str) -> None:
    asked = asked_by_transformers()[name]
    served = {mode for entry in MAPPING[name] for mode in entry["mode"]}
    assert frozenset().union(*asked) <= served
    assert all(row["repo_id"] == "kernels-community/liger-kernels" for row in asked.values())
