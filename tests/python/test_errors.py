# SPDX-License-Identifier: Apache-2.0
"""Each error of the table in a real situation, caught by the built-in class users catch today."""

import importlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_process import Hub
from packages import write_package

import kernelhub


@pytest.fixture
def toy(trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]) -> str:
    """A kernel with the versions 2 and 10."""
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    for version in (2, 10):
        write_package(
            tmp_path / str(version),
            {"__init__.py": ""},
            package_id=f"{package_id}_{version}",
            name=name,
            version=version,
        )
        trusted_hub.publish(repo_id, tmp_path / str(version), f"v{version}")
    return repo_id


@pytest.mark.parametrize(
    "function",
    [
        kernelhub.get_kernel,
        kernelhub.has_kernel,
        kernelhub.install_kernel,
        kernelhub.get_kernel_variants,
    ],
)
def test_exactly_one_of_version_and_revision(
    function: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_KERNELS", f"a/b={tmp_path}")
    with pytest.raises(ValueError, match="A kernel version or revision must be specified") as one:
        function("a/b")
    with pytest.raises(ValueError, match="Only one of"):
        function("a/b", version=0, revision="main")
    assert isinstance(one.value, kernelhub.ArgumentError)
    with pytest.raises(TypeError):
        function("a/b", version=1.5)
    with pytest.raises(OverflowError):
        function("a/b", version=-1)


def test_unknown_version_lists_the_versions_in_numeric_order(toy: str) -> None:
    with pytest.raises(
        ValueError, match="Version 3 not found, available versions: 2, 10"
    ) as caught:
        kernelhub.get_kernel(toy, version=3)
    assert isinstance(caught.value, kernelhub.VersionNotFound)
    assert caught.value.code == "VersionNotFound"


@pytest.mark.parametrize("request_by", [{"version": 2}, {"revision": "0" * 40}])
def test_not_cached_and_offline(
    toy: str, request_by: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="offline mode") as caught:
        kernelhub.get_kernel(toy, **request_by, trust_remote_code=True)  # type: ignore[arg-type]
    assert isinstance(caught.value, kernelhub.NotCached)
    assert isinstance(caught.value, ValueError)
    assert kernelhub.has_kernel(toy, **request_by, trust_remote_code=True) is False  # type: ignore[arg-type]


def test_publisher_that_the_hub_does_not_vouch_for(
    trusted_hub: Hub, tmp_path: Path, package_id: str
) -> None:
    repo_id = f"strangers/toy-{package_id[-8:]}"
    name = repo_id.split("/")[1]
    write_package(tmp_path, {"__init__.py": "value = 3\n"}, package_id=package_id, name=name)
    trusted_hub.publish(repo_id, tmp_path)
    fragments = "not from a trusted publisher|could not verify publisher trust"
    with pytest.raises(ValueError, match=fragments) as caught:
        kernelhub.get_kernel(repo_id, version=1)
    assert isinstance(caught.value, kernelhub.Untrusted)
    assert "disable" not in str(caught.value).lower()
    with pytest.raises(kernelhub.Untrusted):
        kernelhub.get_kernel(repo_id, version=1, trust_remote_code=["other/repo"])
    with pytest.raises(TypeError):
        kernelhub.get_kernel(repo_id, version=1, trust_remote_code=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        kernelhub.get_kernel(repo_id, version=1, trust_remote_code=repo_id)
    assert kernelhub.get_kernel(repo_id, version=1, trust_remote_code=(repo_id,)).value == 3


def test_unknown_repository_and_revision_are_hub_errors(toy: str) -> None:
    with pytest.raises(OSError) as caught:
        kernelhub.get_kernel("kernels-test/no-such-kernel", version=1)
    assert isinstance(caught.value, kernelhub.HubError)
    assert caught.value.code == "RepoNotFound"
    with pytest.raises(kernelhub.HubError) as caught_revision:
        kernelhub.get_kernel(toy, revision="no-such-branch")
    assert caught_revision.value.code == "RevisionNotFound"


def test_hub_errors_are_those_of_the_hub_client_when_it_is_imported(toy: str) -> None:
    errors = importlib.import_module("huggingface_hub.errors")
    with pytest.raises(errors.RepositoryNotFoundError):
        kernelhub.get_kernel("kernels-test/no-such-kernel", version=1)
    with pytest.raises(errors.RevisionNotFoundError):
        kernelhub.get_kernel(toy, revision="no-such-branch")


def test_backend_name(toy: str) -> None:
    with pytest.raises(ValueError, match="Invalid backend 'metal'"):
        kernelhub.get_kernel(toy, version=2, backend="metal")


def test_local_kernels_entry_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KERNELS", "a/b")
    with pytest.raises(ValueError, match="Invalid LOCAL_KERNELS entry"):
        kernelhub.get_kernel("a/b", version=1)


def test_local_kernels_entry_that_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_KERNELS", f"a/b={tmp_path / 'absent'}")
    with pytest.raises(FileNotFoundError):
        kernelhub.get_kernel("a/b", version=1)
    assert kernelhub.has_kernel("a/b", version=1) is False


def test_package_of_another_name_is_a_binding_mismatch(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> None:
    repo_id = new_repo()
    write_package(tmp_path, {"__init__.py": ""}, package_id=package_id, name="something-else")
    trusted_hub.publish(repo_id, tmp_path)
    with pytest.raises(kernelhub.IntegrityError) as caught:
        kernelhub.get_kernel(repo_id, version=1)
    assert caught.value.code == "BindingMismatch"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("changed", "content", "code"),
    [
        ("extra.py", "value = 666\n", "UnknownFile"),
        ("__init__.py", "value = 666\n", "DigestMismatch"),
        ("part.py", None, "MissingFile"),
    ],
)
def test_files_that_differ_from_the_digest_are_refused(
    trusted_hub: Hub,
    tmp_path: Path,
    package_id: str,
    new_repo: Callable[[], str],
    changed: str,
    content: str | None,
    code: str,
) -> None:
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    files = {"__init__.py": "value = 1\n", "part.py": ""}
    variant = write_package(tmp_path / "s", files, package_id=package_id, name=name)
    if content is None:
        (variant / changed).unlink()
    else:
        (variant / changed).write_text(content)
    trusted_hub.publish(repo_id, tmp_path / "s")
    with pytest.raises(kernelhub.IntegrityError, match=changed) as caught:
        kernelhub.get_kernel(repo_id, version=1)
    assert caught.value.code == code
    assert isinstance(caught.value, ValueError)
    assert package_id not in sys.modules


def test_kernel_dependencies_are_refused_by_name(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> None:
    repo_id = new_repo()
    write_package(
        tmp_path,
        {"__init__.py": ""},
        package_id=package_id,
        name=repo_id.split("/")[1],
        kernel_depends=[{"repo-id": "kernels-test/base", "version": 1}],
    )
    trusted_hub.publish(repo_id, tmp_path)
    with pytest.raises(kernelhub.DependencyError, match="kernels-test/base"):
        kernelhub.get_kernel(repo_id, version=1)


def test_broken_binary_is_a_load_error(tmp_path: Path, package_id: str) -> None:
    files: dict[str, str | bytes] = {
        "__init__.py": f"from . import {package_id}\n",
        f"{package_id}.abi3.so": b"this is not an ELF file, but long enough to be read as one" * 4,
    }
    write_package(tmp_path, files, package_id=package_id)
    with pytest.raises(ImportError) as caught:
        kernelhub.get_local_kernel(tmp_path)
    assert isinstance(caught.value, kernelhub.LoadError)
    assert caught.value.code == "NotElf"


def test_errors_survive_pickling() -> None:
    with pytest.raises(kernelhub.ArgumentError) as caught:
        kernelhub.get_kernel("a/b")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is kernelhub.ArgumentError
    assert str(again) == str(caught.value)
