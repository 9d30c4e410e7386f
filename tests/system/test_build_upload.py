# SPDX-License-Identifier: Apache-2.0
"""build, check, upload, info, versions and download, with the peer client as the other side."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Run
from hub_process import Hub

REPO = "kernels-test/scale-by"
STABLE = "torch-stable-abi210-cpu-x86_64-linux"
TVM_FFI = "tvm-ffi01-cpu-x86_64-linux"

LOAD_AND_COMPUTE = """
import sys, torch
from pathlib import Path
from kernels import get_kernel, get_local_kernel
where = sys.argv[1]
if where == "local":
    kernel = get_local_kernel(Path(sys.argv[2]), backend="cpu")
else:
    kernel = get_kernel(sys.argv[2], version=1, backend="cpu", trust_remote_code=True)
x = torch.arange(5, dtype=torch.float32)
print(kernel.scale_by(torch.empty_like(x), x, 2.5).tolist())
"""


def run_peer(*arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-B", "-c", LOAD_AND_COMPUTE, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def uploaded(kernelhub: Run, project: Path) -> None:
    result = kernelhub("upload", str(project), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["branch"] == "v1"


def test_the_peer_client_loads_and_runs_a_local_build(project: Path) -> None:
    assert run_peer("local", str(project)) == "[0.0, 2.5, 5.0, 7.5, 10.0]"


def test_the_tvm_ffi_variant_runs_under_python_tvm_ffi(project: Path) -> None:
    code = """
import sys, numpy, tvm_ffi
module = tvm_ffi.load_module(sys.argv[1])
x = numpy.arange(4, dtype=numpy.float32)
out = numpy.empty_like(x)
module.scale_by(tvm_ffi.from_dlpack(out), tvm_ffi.from_dlpack(x), 3.0)
print(out.tolist())
"""
    library = next((project / "build" / TVM_FFI).glob("_*.so"))
    result = subprocess.run(
        [sys.executable, "-c", code, str(library)], capture_output=True, text=True
    )
    assert result.stdout.strip() == "[0.0, 3.0, 6.0, 9.0]", result.stderr


def test_check_is_clean_and_finds_a_changed_file(
    kernelhub: Run, project: Path, tmp_path: Path
) -> None:
    assert kernelhub("check", str(project), "--strict").returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    (copy / "build" / STABLE / "__init__.py").write_text("import os\n")
    result = kernelhub("check", str(copy), "--json")
    assert result.returncode == 1
    findings = json.loads(result.stdout)["variants"][0]["findings"]
    assert [finding["check"] for finding in findings] == ["digest"]
    refused = kernelhub("upload", str(copy), "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "StaleDigest"


def test_an_upload_is_one_commit_and_the_peer_client_loads_it(
    kernelhub: Run, project: Path, hub: Hub, tmp_path: Path, uploaded: None
) -> None:
    commits = [path for method, path in hub.requests() if method == "POST" and "/commit/" in path]
    assert commits.count(f"/api/kernels/{REPO}/commit/v1") == 1
    computed = run_peer("hub", REPO, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "peer"))
    assert computed == "[0.0, 2.5, 5.0, 7.5, 10.0]"


def test_an_unchanged_upload_makes_no_commit(kernelhub: Run, project: Path, uploaded: None) -> None:
    result = kernelhub("upload", str(project), "--json")
    assert json.loads(result.stdout)["status"] == "no_changes"


def test_files_that_are_gone_locally_are_deleted_on_the_hub(
    kernelhub: Run, project: Path, hub: Hub, tmp_path: Path
) -> None:
    repo = "kernels-test/Scale_By"  # a spelling of the same name
    old, new = tmp_path / "old", tmp_path / "new"
    for copy in (old, new):
        shutil.copytree(project, copy)
        text = (copy / "build.toml").read_text().replace(REPO, repo)
        (copy / "build.toml").write_text(text)
    (old / "torch-ext/scale_by/extra.py").write_text("")
    for copy in (old, new):
        shutil.rmtree(copy / "build" / TVM_FFI)
        built = kernelhub("build", str(copy), "--variant", STABLE, "--python", sys.executable)
        assert built.returncode == 0, built.stderr
        assert kernelhub("upload", str(copy)).returncode == 0
    files = hub.api.list_repo_files(repo, repo_type="kernel", revision="v1")
    assert f"build/{STABLE}/__init__.py" in files
    assert not [name for name in files if name.endswith("extra.py")]
    assert len([name for name in files if name.endswith(".so")]) == 1


def test_info_versions_and_download_show_what_was_published(
    kernelhub: Run, project: Path, uploaded: None
) -> None:
    info = json.loads(kernelhub("info", REPO, "--json").stdout)
    assert (info["name"], info["version"]) == ("scale-by", 1)
    assert info["variants"] == [STABLE, TVM_FFI]
    versions = json.loads(kernelhub("versions", REPO, "--backend", "cpu", "--json").stdout)
    first = versions["versions"][0]["variants"][0]
    assert first["variant"] == STABLE and first["preferred"]
    fetched = kernelhub("download", REPO, "--version", "1", "--backend", "cpu", "--json")
    assert fetched.returncode == 0, fetched.stderr
    folder = Path(json.loads(fetched.stdout)[0]["path"])
    assert (folder / "metadata.json").read_bytes() == (
        project / "build" / STABLE / "metadata.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["build"], 7),
        (["build", ".", "--backend", "gpu"], 2),
        (["check", "."], 1),
        (["frobnicate"], 2),
        ([], 2),
        (["info", "kernels-test/absent"], 3),
        (["download", REPO, "--version", "99"], 3),
        (["--help"], 0),
        (["build", "--help"], 0),
    ],
)
def test_exit_codes_tell_kinds_of_failure_apart(
    kernelhub: Run,
    uploaded: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    result = kernelhub(*arguments)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr


WIDE = """
[kernel.wide]
backend = "cpu"
depends = []
cxx-flags = ["-mavx2"]
src = ["scale_by_cpu/wide.cpp"]
"""


def with_wide_component(folder: Path) -> Path:
    """The project with C++ of another instruction set, whose inline function must stay its own."""
    shutil.copytree(ROOT / "tests/fixtures/projects/scale-by", folder)
    with (folder / "build.toml").open("a") as description:
        description.write(WIDE)
    source = folder / "scale_by_cpu/wide.cpp"
    source.write_text("inline int twice(int x) { return 2 * x; }\nint (*wide)(int) = twice;\n")
    return folder


def test_a_component_without_torch_is_compiled_once_for_both_frameworks(
    kernelhub: Run, tmp_path: Path
) -> None:
    together, alone, broken = (
        with_wide_component(tmp_path / name) for name in ("together", "alone", "broken")
    )
    options = ["--python", sys.executable, "--unique-id", "same"]
    built = kernelhub("build", str(together), *options)
    assert built.returncode == 0, built.stderr
    for source in ("scale_by_cpu/scale_by.c", "scale_by_cpu/wide.cpp"):
        assert built.stderr.count(source) == 1, built.stderr
    (broken / "torch-ext/torch_binding.cpp").write_text("#error planted\n")
    failed = kernelhub("build", str(broken), *options)
    assert failed.returncode == 1 and "planted" in failed.stderr
    libraries = {}
    for variant in (STABLE, TVM_FFI):
        assert kernelhub("build", str(alone), "--variant", variant, *options).returncode == 0
        for project in (together, alone, broken):
            for library in (project / "build" / variant).glob("*.so"):
                libraries[project.name, variant] = library.read_bytes()
    assert libraries["together", STABLE] == libraries["alone", STABLE]
    assert libraries["together", TVM_FFI] == libraries["alone", TVM_FFI]
    assert libraries["broken", TVM_FFI] == libraries["alone", TVM_FFI]
    assert ("broken", STABLE) not in libraries


@pytest.mark.parametrize(
    "options",
    [
        ["--archs", "8.0"],
        ["--component", "scale_by"],
        ["--component", "scale_by", "--component", "scale_by"],
        ["--dep", "left=.", "--dep", "right=."],
    ],
)
def test_a_folder_may_follow_a_repeatable_option(
    kernelhub: Run,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    result = kernelhub("build", "--dry-run", "--python", sys.executable, *options, str(project))
    assert result.returncode == 0, result.stderr


def test_a_kernel_is_not_uploaded_to_a_repository_of_another_name(
    kernelhub: Run, project: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    text = (copy / "build.toml").read_text().replace(REPO, "kernels-test/other")
    (copy / "build.toml").write_text(text)
    built = kernelhub("build", str(copy), "--variant", TVM_FFI, "--python", sys.executable)
    assert built.returncode == 0, built.stderr
    shutil.rmtree(copy / "build" / STABLE)
    refused = kernelhub("upload", str(copy), "--json")
    assert refused.returncode == 1
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "PackageInvalid" and "'scale-by'" in error["message"], error


def test_an_upload_without_a_token_is_refused(kernelhub: Run, project: Path) -> None:
    result = kernelhub("upload", str(project), HF_TOKEN="")
    assert result.returncode == 4, result.stderr
