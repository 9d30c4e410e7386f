# SPDX-License-Identifier: Apache-2.0
"""get_kernel and its relatives against a real hub, beside the real `kernels` client."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_process import Hub
from packages import write_package

import kernelhub

KERNEL = {
    "__init__.py": "from .scale import scale\n",
    "scale.py": "def scale(values, factor):\n    return [factor * v for v in values]\n",
}
LOAD = """
import json, os, sys
if os.environ.get("REFUSE_SOCKETS"):
    def refuse(event, args):
        if event.startswith("socket."):
            os.write(2, b"socket opened\\n")
            os._exit(9)
    sys.addaudithook(refuse)
client = __import__(sys.argv[1])
module = client.get_kernel(sys.argv[2], **json.loads(sys.argv[3]))
print(json.dumps(module.scale([1.5, -2.0], 0.1)))
"""


@pytest.fixture
def published(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> tuple[str, str]:
    """A kernel on branch v1: its repository and commit."""
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    write_package(tmp_path / "source", KERNEL, package_id=package_id, name=name)
    return repo_id, trusted_hub.publish(repo_id, tmp_path / "source")


def load_in_new_process(
    client: str, repo_id: str, arguments: dict[str, object], **environment: str
) -> list[float]:
    run = subprocess.run(
        [sys.executable, "-c", LOAD, client, repo_id, json.dumps(arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_version_and_commit_give_one_module(published: tuple[str, str]) -> None:
    repo_id, commit = published
    module = kernelhub.get_kernel(repo_id, version=1)
    assert module.scale([1.0, 2.0], 3) == [3.0, 6.0]
    assert kernelhub.get_kernel(repo_id, revision=commit) is module
    (mine,) = [k for k in kernelhub.get_loaded_kernels() if k.module is module]
    assert mine.repo_info == kernelhub.RepoInfo(repo_id, commit)
    assert str(mine.metadata.name) == repo_id.split("/")[1]


def test_revision_is_reported_as_it_was_asked_for(published: tuple[str, str]) -> None:
    repo_id, _ = published
    module = kernelhub.get_kernel(repo_id, revision="v1")
    (mine,) = [k for k in kernelhub.get_loaded_kernels() if k.module is module]
    assert mine.repo_info == kernelhub.RepoInfo(repo_id, "v1")


def test_requests_are_few_cold_one_by_version_and_none_by_commit(
    published: tuple[str, str], hub: Hub
) -> None:
    repo_id, commit = published
    start = len(hub.requests())
    module = kernelhub.get_kernel(repo_id, version=1)
    cold = len(hub.requests()) - start
    assert kernelhub.get_kernel(repo_id, version=1) is module
    warm = len(hub.requests()) - start - cold
    assert kernelhub.get_kernel(repo_id, revision=commit) is module
    by_commit = len(hub.requests()) - start - cold - warm
    assert cold <= 8
    assert (warm, by_commit) == (1, 0)


def test_peer_client_computes_the_same_from_the_same_hub(published: tuple[str, str]) -> None:
    repo_id, _ = published
    ours = load_in_new_process("kernelhub", repo_id, {"version": 1})
    peers = load_in_new_process("kernels", repo_id, {"version": 1})
    assert ours == peers == [1.5 * 0.1, -2.0 * 0.1]


def test_cache_that_the_peer_used_and_compiled_into_is_used(
    published: tuple[str, str], hub: Hub, tmp_path: Path
) -> None:
    repo_id, _ = published
    load_in_new_process("kernels", repo_id, {"version": 1}, PYTHONDONTWRITEBYTECODE="")
    caches = list((tmp_path / "hf").rglob("__pycache__"))
    assert caches
    start = len(hub.requests())
    assert load_in_new_process("kernelhub", repo_id, {"version": 1}) == [1.5 * 0.1, -2.0 * 0.1]
    fetched = [path for method, path in hub.requests()[start:] if "/resolve/" in path]
    assert fetched == []


@pytest.mark.parametrize("by", ["version", "branch", "commit"])
def test_new_process_without_network_loads_what_was_loaded_before(
    published: tuple[str, str], by: str
) -> None:
    repo_id, commit = published
    arguments: dict[str, dict[str, object]] = {
        "version": {"version": 1},
        "branch": {"revision": "v1"},
        "commit": {"revision": commit},
    }
    load_in_new_process("kernelhub", repo_id, {"version": 1})
    offline = {"HF_HUB_OFFLINE": "1", "REFUSE_SOCKETS": "1"}
    expected = [1.5 * 0.1, -2.0 * 0.1]
    assert load_in_new_process("kernelhub", repo_id, arguments[by], **offline) == expected


def test_offline_switch_of_the_hub_client_wins(
    published: tuple[str, str], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo_id, _ = published
    kernelhub.install_kernel(repo_id, version=1)
    start = len(hub.requests())
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert kernelhub.get_kernel(repo_id, version=1).scale([2], 2) == [4]
    assert len(hub.requests()) == start


def test_local_override_wins_over_the_hub(
    trusted_hub: Hub,
    tmp_path: Path,
    package_id: str,
    new_repo: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repo_id = new_repo()
    write_package(tmp_path / "mine", {"__init__.py": "value = 5\n"}, package_id=package_id)
    monkeypatch.setenv("LOCAL_KERNELS", f"{repo_id}={tmp_path / 'mine'}:")
    start = len(trusted_hub.requests())
    module = kernelhub.get_kernel(repo_id, version=1)
    assert module.value == 5
    assert len(trusted_hub.requests()) == start
    (mine,) = [k for k in kernelhub.get_loaded_kernels() if k.module is module]
    assert mine.repo_info is None


def test_install_gives_the_variant_folder_and_imports_nothing(
    published: tuple[str, str], package_id: str
) -> None:
    repo_id, commit = published
    folder = kernelhub.install_kernel(repo_id, version=1)
    assert folder.name == "torch-universal"
    assert folder.parts[-3] == commit
    assert (folder / "scale.py").read_text() == KERNEL["scale.py"]
    assert package_id not in sys.modules


def test_variants_are_listed_best_first_with_reasons(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> None:
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    for variant in ("torch-universal", "torch-cpu", "torch-npu"):
        files = {"__init__.py": f"which = {variant!r}\n"}
        backend = "cann" if variant == "torch-npu" else "cpu"
        write_package(
            tmp_path / "s",
            files,
            package_id=package_id,
            name=name,
            variant=variant,
            backend=backend,
        )
    trusted_hub.publish(repo_id, tmp_path / "s")
    decisions = kernelhub.get_kernel_variants(repo_id, version=1, backend="cpu")
    assert [d.variant.variant_str for d in decisions] == [
        "torch-cpu",
        "torch-universal",
        "torch-npu",
    ]
    assert [type(d) for d in decisions] == [
        kernelhub.VariantAccepted,
        kernelhub.VariantAccepted,
        kernelhub.VariantRejected,
    ]
    assert decisions[2].reason
    assert len(set(decisions)) == 3
    assert kernelhub.get_kernel(repo_id, version=1, backend="cpu").which == "torch-cpu"


def test_has_kernel_is_false_only_where_nothing_fits(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> None:
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    write_package(
        tmp_path / "one",
        {"__init__.py": ""},
        package_id=package_id,
        name=name,
        variant="torch-npu",
        backend="cann",
    )
    write_package(
        tmp_path / "two", {"__init__.py": ""}, package_id=package_id, name=name, version=2
    )
    trusted_hub.publish(repo_id, tmp_path / "one", "v1")
    trusted_hub.publish(repo_id, tmp_path / "two", "v2")
    assert not kernelhub.has_kernel(repo_id, version=1)
    assert kernelhub.has_kernel(repo_id, version=2)
    with pytest.raises(kernelhub.VersionNotFound):
        kernelhub.has_kernel(repo_id, version=3)


def test_two_versions_live_side_by_side(
    trusted_hub: Hub,
    tmp_path: Path,
    package_id: str,
    new_repo: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    for version in (1, 2):
        write_package(
            tmp_path / str(version),
            {"__init__.py": f"version = {version}\n"},
            package_id=f"{package_id}_{version}",
            name=name,
            version=version,
        )
        trusted_hub.publish(repo_id, tmp_path / str(version), f"v{version}")
    one = kernelhub.get_kernel(repo_id, version=1)
    two = kernelhub.get_kernel(repo_id, version=2)
    assert (one.version, two.version) == (1, 2)
    assert one is not two
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len([text for text in warnings if "version 1" in text and "newest is 2" in text]) == 1
