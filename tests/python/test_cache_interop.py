# SPDX-License-Identifier: Apache-2.0
"""The cache on disk, shared by this client and the Python clients."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from hub_process import Hub
from packages import write_package

import kernelhub

KERNEL = {"__init__.py": "from .half import half\n", "half.py": "def half(x):\n    return x / 2\n"}
LOAD_WITH_PEER = """
import sys
import kernels
print(kernels.get_kernel(sys.argv[1], version=1).half(3.0))
"""


@pytest.fixture
def published(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> tuple[str, str]:
    """A kernel on branch v1 with a second, foreign variant: its repository and commit."""
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    source = tmp_path / "source"
    write_package(source, KERNEL, package_id=package_id, name=name)
    write_package(
        source, KERNEL, package_id=package_id, name=name, variant="torch-metal", backend="metal"
    )
    return repo_id, trusted_hub.publish(repo_id, source)


def load_with_peer(repo_id: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD_WITH_PEER, repo_id],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_peer_loads_a_version_offline_from_our_cache(published: tuple[str, str]) -> None:
    repo_id, _ = published
    kernelhub.install_kernel(repo_id, version=1)
    run = load_with_peer(repo_id, HF_HUB_OFFLINE="1")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "1.5"


def test_python_cache_scan_finds_nothing_wrong(published: tuple[str, str], tmp_path: Path) -> None:
    repo_id, commit = published
    kernelhub.install_kernel(repo_id, version=1)
    report = huggingface_hub.scan_cache_dir(tmp_path / "hf" / "hub")
    assert not report.warnings
    (repo,) = report.repos
    assert (repo.repo_id, repo.repo_type) == (repo_id, "kernel")
    (revision,) = repo.revisions
    assert revision.commit_hash == commit
    assert revision.refs == {"v1"}


def test_python_cache_verify_accepts_our_files(
    published: tuple[str, str], trusted_hub: Hub, tmp_path: Path
) -> None:
    repo_id, commit = published
    kernelhub.install_kernel(repo_id, version=1)
    result = trusted_hub.api.verify_repo_checksums(
        repo_id, repo_type="kernel", revision=commit, cache_dir=tmp_path / "hf" / "hub"
    )
    assert result.mismatches == []
    assert result.checked_count >= 3


def test_our_listing_names_only_what_was_listed(published: tuple[str, str], tmp_path: Path) -> None:
    repo_id, commit = published
    installed = Path(str(kernelhub.install_kernel(repo_id, version=1)))
    folder = tmp_path / "hf" / "hub" / f"kernels--{repo_id.replace('/', '--')}"
    sidecar = json.loads((folder / ".kernelhub" / f"{commit}.json").read_text())
    assert (sidecar["format"], sidecar["repo"], sidecar["commit"]) == (1, repo_id, commit)
    assert sidecar["complete"] == ["build/torch-universal"]
    assert sidecar["folders"]["build"] == ["build/torch-metal", "build/torch-universal"]
    on_disk = {f"build/torch-universal/{p.name}" for p in installed.iterdir() if p.is_file()}
    assert set(sidecar["files"]) == on_disk
    assert not (folder / "trees").exists()
