# SPDX-License-Identifier: Apache-2.0
"""The unmodified Hugging Face clients against a hub process of ours (hub spec 9 and 10)."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import httpx2 as httpx
import pytest
from hub_process import Hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from packages import write_package

KIND = "kernel"


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def repo_id(hub: Hub) -> str:
    """A fresh repository."""
    name = f"kernels-test/interop-{uuid.uuid4().hex[:8]}"
    hub.api.create_repo(name, repo_type=KIND)
    return name


def put(
    hub: Hub, repo_id: str, files: dict[str, bytes], revision: str = "main", **more: str
) -> str:
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return hub.api.create_commit(
        repo_id, operations, commit_message="change", repo_type=KIND, revision=revision, **more
    ).oid


def test_create_repo_gives_the_page_url_and_main_with_gitattributes(hub: Hub) -> None:
    name = f"kernels-test/new-{uuid.uuid4().hex[:8]}"
    url = hub.api.create_repo(name, repo_type=KIND)
    assert str(url) == f"{hub.url}/kernels/{name}"
    assert hub.api.create_repo(name, repo_type=KIND, exist_ok=True) == url
    with pytest.raises(HfHubHTTPError) as failure:
        hub.api.create_repo(name, repo_type=KIND)
    assert failure.value.response.status_code == 409
    assert [e.path for e in hub.api.list_repo_tree(name, repo_type=KIND)] == [".gitattributes"]


def test_listing_shows_true_git_ids_and_lfs_entries(hub: Hub, repo_id: str) -> None:
    small, binary = b"print(1)\n", b"\x7fELF" + bytes(range(256)) * 8
    put(hub, repo_id, {"build/torch-cpu/a.py": small, "build/torch-cpu/k.so": binary})
    entries = {e.path: e for e in hub.api.list_repo_tree(repo_id, repo_type=KIND, recursive=True)}
    assert entries["build/torch-cpu/a.py"].blob_id == git_blob(small)
    assert entries["build/torch-cpu/a.py"].lfs is None
    shown = entries["build/torch-cpu/k.so"]
    assert shown.lfs is not None
    assert shown.lfs.sha256 == hashlib.sha256(binary).hexdigest()
    assert shown.size == shown.lfs.size == len(binary)
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{shown.lfs.sha256}\nsize {len(binary)}\n"
    ).encode()
    assert shown.blob_id == git_blob(pointer)
    assert shown.lfs.pointer_size == len(pointer)


def test_commit_and_tree_ids_are_those_git_computes(hub: Hub, repo_id: str, tmp_path: Path) -> None:
    files = {"b.txt": b"b\n", "a/x.txt": b"x\n", "a.txt": b"a\n", "a/y/z.txt": b""}
    put(hub, repo_id, files)
    hub.api.snapshot_download(repo_id, repo_type=KIND, local_dir=tmp_path / "tree")
    subprocess.run(["git", "init", "-q", tmp_path / "tree"], check=True)
    (tmp_path / "tree/.git/info/exclude").write_text(".cache\n")
    # Filters off: the contents are stored as they are, like the small files of this repository.
    subprocess.run(["git", "add", "-A"], cwd=tmp_path / "tree", check=True)
    folders = {
        e.path: e.tree_id
        for e in hub.api.list_repo_tree(repo_id, repo_type=KIND, recursive=True)
        if hasattr(e, "tree_id")
    }
    root = subprocess.run(
        ["git", "write-tree"], cwd=tmp_path / "tree", check=True, capture_output=True, text=True
    ).stdout.strip()
    listed = subprocess.run(
        ["git", "ls-tree", "-rd", root],
        cwd=tmp_path / "tree",
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert folders == {line.split("\t")[1]: line.split()[2] for line in listed.splitlines()}


def test_downloads_give_the_uploaded_bytes(hub: Hub, repo_id: str, tmp_path: Path) -> None:
    contents = {
        "empty.txt": b"",
        "name with blank+plus.txt": b"blank\n",
        "big.bin": os.urandom(3 * 1024 * 1024 + 17),
        "kernel.so": os.urandom(5000),
        "unicode-\u00e9.txt": b"accent\n",
    }
    commit = put(hub, repo_id, contents)
    for path, content in contents.items():
        local = hub.api.hf_hub_download(repo_id, path, repo_type=KIND, cache_dir=tmp_path)
        assert Path(local).read_bytes() == content
        assert commit in local
    folder = Path(hub.api.snapshot_download(repo_id, repo_type=KIND, cache_dir=tmp_path / "all"))
    assert folder.name == commit
    for path, content in contents.items():
        assert (folder / path).read_bytes() == content


def test_cache_verify_accepts_what_was_downloaded(
    hub: Hub, repo_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub, repo_id, {"a.txt": b"a", "k.so": os.urandom(100), "big.txt": b"x" * (1 << 20)})
    folder = Path(hub.api.snapshot_download(repo_id, repo_type=KIND, cache_dir=tmp_path))
    assert (
        hub.api.verify_repo_checksums(repo_id, repo_type=KIND, cache_dir=tmp_path).mismatches == []
    )
    blob = (folder / "k.so").resolve()
    blob.chmod(0o644)
    blob.write_bytes(bytes(100))
    spoilt = hub.api.verify_repo_checksums(repo_id, repo_type=KIND, cache_dir=tmp_path)
    assert [m["path"] if isinstance(m, dict) else m.path for m in spoilt.mismatches] == ["k.so"]


def test_unchanged_upload_makes_no_commit(hub: Hub, repo_id: str, tmp_path: Path) -> None:
    (tmp_path / "up/build/torch-cpu").mkdir(parents=True)
    (tmp_path / "up/build/torch-cpu/a.py").write_text("a = 1\n")
    (tmp_path / "up/build/torch-cpu/k.so").write_bytes(os.urandom(1000))
    upload = {"repo_id": repo_id, "folder_path": tmp_path / "up", "repo_type": KIND}
    hub.api.upload_folder(**upload)
    head = hub.api.repo_info(repo_id, repo_type=KIND).sha
    before = len(hub.requests())
    hub.api.upload_folder(**upload)
    assert hub.api.repo_info(repo_id, repo_type=KIND).sha == head
    assert not [path for method, path in hub.requests()[before:] if "/commit/" in path]


def test_upload_folder_deletes_stale_files_in_the_same_commit(
    hub: Hub, repo_id: str, tmp_path: Path
) -> None:
    put(hub, repo_id, {"build/torch-cpu/old.py": b"old", "build/torch-cuda/keep.py": b"keep"})
    (tmp_path / "new.py").write_text("new")
    hub.api.upload_folder(
        repo_id=repo_id,
        folder_path=tmp_path,
        path_in_repo="build/torch-cpu",
        repo_type=KIND,
        delete_patterns="*",
    )
    assert set(hub.api.list_repo_files(repo_id, repo_type=KIND)) == {
        ".gitattributes",
        "build/torch-cpu/new.py",
        "build/torch-cuda/keep.py",
    }


def test_a_readme_is_accepted(hub: Hub, repo_id: str) -> None:
    put(hub, repo_id, {"README.md": b"---\nlicense: apache-2.0\n---\n# Card\n"})
    assert "README.md" in hub.api.list_repo_files(repo_id, repo_type=KIND)


def test_branches_start_at_main_and_can_be_deleted(hub: Hub, repo_id: str) -> None:
    head = hub.api.repo_info(repo_id, repo_type=KIND).sha
    hub.api.create_branch(repo_id, branch="v1", repo_type=KIND)
    hub.api.create_branch(repo_id, branch="feature/x", repo_type=KIND, revision="v1")
    refs = hub.api.list_repo_refs(repo_id, repo_type=KIND)
    assert {b.name: b.target_commit for b in refs.branches} == dict.fromkeys(
        ["main", "v1", "feature/x"], head
    )
    with pytest.raises(HfHubHTTPError) as failure:
        hub.api.create_branch(repo_id, branch="v1", repo_type=KIND)
    assert failure.value.response.status_code == 409
    put(hub, repo_id, {"only.txt": b"v1"}, revision="feature/x")
    assert hub.api.file_exists(repo_id, "only.txt", repo_type=KIND, revision="feature/x")
    assert not hub.api.file_exists(repo_id, "only.txt", repo_type=KIND)
    hub.api.delete_branch(repo_id, branch="feature/x", repo_type=KIND)
    with pytest.raises(RevisionNotFoundError):
        hub.api.repo_info(repo_id, repo_type=KIND, revision="feature/x")


def test_a_moved_parent_is_refused_and_changes_nothing(hub: Hub, repo_id: str) -> None:
    first = hub.api.repo_info(repo_id, repo_type=KIND).sha
    second = put(hub, repo_id, {"a.txt": b"1"}, parent_commit=first)
    with pytest.raises(HfHubHTTPError) as failure:
        put(hub, repo_id, {"a.txt": b"2"}, parent_commit=first)
    assert failure.value.response.status_code == 412
    assert hub.api.repo_info(repo_id, repo_type=KIND).sha == second


def test_deleting_a_missing_file_names_it(hub: Hub, repo_id: str) -> None:
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        hub.api.create_commit(
            repo_id, [CommitOperationDelete("gone.txt")], commit_message="x", repo_type=KIND
        )


def test_failures_have_the_types_the_client_expects(hub: Hub, repo_id: str) -> None:
    api = hub.api
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("kernels-test/absent", repo_type=KIND)
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(repo_id, repo_type=KIND, revision="v99")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(repo_id, "absent.txt", repo_type=KIND)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo_id, "absent", repo_type=KIND))


def test_long_listings_come_in_pages(hub: Hub, repo_id: str) -> None:
    put(hub, repo_id, {f"many/{i:04}.txt": b"%d" % i for i in range(2100)})
    before = len(hub.requests())
    listed = [e.path for e in hub.api.list_repo_tree(repo_id, "many", repo_type=KIND)]
    assert listed == [f"many/{i:04}.txt" for i in range(2100)]
    assert len([path for _, path in hub.requests()[before:] if "/tree/" in path]) == 3


def test_private_repositories_are_hidden(hub: Hub, tmp_path: Path) -> None:
    name = f"kernels-test/private-{uuid.uuid4().hex[:8]}"
    hub.api.create_repo(name, repo_type=KIND, private=True)
    put(hub, name, {"a.txt": b"a"})
    assert hub.api.repo_info(name, repo_type=KIND).private
    answer = httpx.get(f"{hub.url}/api/kernels/{name}")
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (401, "RepoNotFound")
    absent = httpx.get(f"{hub.url}/api/kernels/kernels-test/absent")
    assert (absent.status_code, absent.headers["X-Error-Code"]) == (401, "RepoNotFound")


def test_writes_need_a_token(hub: Hub, repo_id: str) -> None:
    answer = httpx.post(f"{hub.url}/api/kernels/{repo_id}/branch/v7", json={})
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (401, "AuthRequired")
    assert "v7" not in {b.name for b in hub.api.list_repo_refs(repo_id, repo_type=KIND).branches}


def test_ranges_resume_a_file(hub: Hub, repo_id: str) -> None:
    content = os.urandom(10_000)
    put(hub, repo_id, {"f.bin": content})
    url = f"{hub.url}/kernels/{repo_id}/resolve/main/f.bin"

    def get(**headers: str) -> httpx.Response:
        return httpx.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    middle = get(Range="bytes=100-199")
    assert middle.status_code == 206
    assert middle.content == content[100:200]
    assert middle.headers["Content-Range"] == "bytes 100-199/10000"
    etag = middle.headers["ETag"]
    assert get(Range="bytes=9990-").content == content[9990:]
    assert get(Range="bytes=-5").content == content[-5:]
    assert get(Range="bytes=9000-", If_Range=etag).status_code == 206
    assert get(Range="bytes=9000-", If_Range='"other"').content == content
    beyond = get(Range="bytes=10000-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */10000")
    assert get(If_None_Match=etag).status_code == 304
    head = httpx.head(url)
    assert (head.headers["Content-Length"], head.content) == ("10000", b"")
    assert head.headers["X-Repo-Commit"] == hub.api.repo_info(repo_id, repo_type=KIND).sha


def test_lfs_upload_of_a_client_without_xet(hub: Hub, repo_id: str) -> None:
    """Batch, PUT without token, verify and an lfsFile commit line (W6 to W9)."""
    content = os.urandom(4096)
    oid = hashlib.sha256(content).hexdigest()
    auth = {"Authorization": f"Bearer {hub.token}"}
    batch_url = f"{hub.url}/kernels/{repo_id}.git/info/lfs/objects/batch"
    wanted = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": oid, "size": len(content)}],
        "hash_algo": "sha256",
    }
    actions = httpx.post(batch_url, json=wanted, headers=auth).json()["objects"][0]["actions"]
    assert httpx.put(actions["upload"]["href"], content=b"x" * 4096).status_code == 400
    assert httpx.put(actions["upload"]["href"], content=content).status_code == 200
    stored = {"oid": oid, "size": len(content)}
    assert httpx.post(actions["verify"]["href"], json=stored, headers=auth).status_code == 200
    again = httpx.post(batch_url, json=wanted, headers=auth).json()["objects"][0]
    assert "actions" not in again
    lines = [
        {"key": "header", "value": {"summary": "lfs", "description": ""}},
        {"key": "lfsFile", "value": {"path": "w.dat", "algo": "sha256", **stored}},
    ]
    answer = httpx.post(
        f"{hub.url}/api/kernels/{repo_id}/commit/main",
        content="\n".join(json.dumps(line) for line in lines),
        headers=auth | {"Content-Type": "application/x-ndjson"},
    )
    assert answer.json()["success"] is True
    assert httpx.get(f"{hub.url}/kernels/{repo_id}/resolve/main/w.dat").content == content


LOAD = """
import sys
from kernels import get_kernel, install_kernel
repo = sys.argv[1]
install_kernel(repo, version=1)
print(get_kernel(repo, version=1).answer(), get_kernel(repo, version=2).answer())
"""


def test_kernels_client_loads_two_versions_from_the_hub(
    hub: Hub, repo_id: str, tmp_path: Path
) -> None:
    for version in (1, 2):
        source = tmp_path / f"v{version}"
        for backend in ("cpu", "cuda"):
            write_package(
                source,
                {"__init__.py": f"def answer():\n    return {version * 21}\n"},
                package_id=f"_interop_{backend}_{version}",
                name="interop",
                version=version,
                variant=f"torch-{backend}",
                backend=backend,
            )
        hub.publish(repo_id, source, branch=f"v{version}")
    before = len(hub.requests())
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, repo_id],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["21", "42"]
    asked = [path for _, path in hub.requests()[before:]]
    assert "/api/organizations/kernels-test/overview" in asked
    assert f"/api/kernels/{repo_id}/refs" in asked


def test_kernels_client_refuses_an_organisation_that_is_not_trusted(
    hub: Hub, tmp_path: Path
) -> None:
    repo_id = f"strangers/toy-{uuid.uuid4().hex[:8]}"
    write_package(
        tmp_path / "pkg",
        {"__init__.py": "def answer():\n    return 1\n"},
        package_id="_stranger_cpu_1",
        variant="torch-cpu",
    )
    hub.publish(repo_id, tmp_path / "pkg")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, repo_id],
        env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "trust" in done.stderr
