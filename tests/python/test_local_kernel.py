# SPDX-License-Identifier: Apache-2.0
"""get_local_kernel and the importer, on packages written by the test."""

import json
import os
import py_compile
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from packages import write_package

import kernelhub

SOURCES = {
    "__init__.py": "from .sub.numbers import double\nfrom . import layers\n",
    "sub/__init__.py": "",
    "sub/numbers.py": "def double(x):\n    return 2 * x\n",
    "layers.py": "class Twice:\n    def forward(self, x):\n        return 2 * x\n",
}


def test_computes_with_code_from_submodules(tmp_path: Path, package_id: str) -> None:
    write_package(tmp_path, SOURCES, package_id=package_id)
    module = kernelhub.get_local_kernel(tmp_path)
    assert module.double(21) == 42
    assert module.__name__ == module.__package__ == package_id
    assert list(module.__path__) == [str(tmp_path / "build" / "torch-universal")]
    assert sys.modules[package_id] is module
    assert module.layers.Twice.__module__ == f"{package_id}.layers"
    assert sys.modules[f"{package_id}.layers"] is module.layers


def test_repository_build_folder_variant_and_link_give_one_module(
    tmp_path: Path, package_id: str
) -> None:
    variant = write_package(tmp_path / "repo", SOURCES, package_id=package_id)
    link = tmp_path / "link"
    link.symlink_to(variant)
    module = kernelhub.get_local_kernel(str(tmp_path / "repo"))
    for path in (tmp_path / "repo" / "build", variant, link, os.path.relpath(variant)):
        assert kernelhub.get_local_kernel(path) is module


def test_older_layout_has_the_module_in_a_folder_of_the_kernels_name(
    tmp_path: Path, package_id: str
) -> None:
    files = {"toy_two/__init__.py": "from .inner import value\n", "toy_two/inner.py": "value = 7\n"}
    write_package(tmp_path, files, package_id=package_id, name="toy-two")
    assert kernelhub.get_local_kernel(tmp_path).value == 7


def test_loaded_kernels_are_listed_with_their_metadata(tmp_path: Path, package_id: str) -> None:
    write_package(tmp_path, SOURCES, package_id=package_id, version=3)
    module = kernelhub.get_local_kernel(tmp_path)
    kernels = kernelhub.get_loaded_kernels()
    (mine,) = [kernel for kernel in kernels if kernel.module is module]
    assert mine.metadata.id == package_id
    assert mine.metadata.version == 3
    assert mine.repo_info is None
    kernels.clear()
    assert mine in kernelhub.get_loaded_kernels()


def test_bytecode_beside_the_source_is_not_executed(tmp_path: Path, package_id: str) -> None:
    variant = write_package(tmp_path, {"__init__.py": "value = 1\n"}, package_id=package_id)
    planted = tmp_path / "planted.py"
    planted.write_text("value = 666\n")
    cache = variant / "__pycache__"
    cache.mkdir()
    tag = sys.implementation.cache_tag
    py_compile.compile(
        str(planted),
        str(cache / f"__init__.{tag}.pyc"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    before = sorted(cache.iterdir())
    assert kernelhub.get_local_kernel(tmp_path).value == 1
    assert sorted(cache.iterdir()) == before


def test_no_bytecode_is_written(tmp_path: Path, package_id: str) -> None:
    variant = write_package(tmp_path, SOURCES, package_id=package_id)
    kernelhub.get_local_kernel(tmp_path)
    assert not list(variant.rglob("__pycache__"))


def test_a_file_added_after_verification_cannot_be_imported(
    tmp_path: Path, package_id: str
) -> None:
    variant = write_package(tmp_path, {"__init__.py": ""}, package_id=package_id)
    kernelhub.get_local_kernel(tmp_path)
    (variant / "late.py").write_text("value = 666\n")
    with pytest.raises(ModuleNotFoundError):
        __import__(f"{package_id}.late")


def test_source_changed_after_verification_is_not_what_runs(
    tmp_path: Path, package_id: str
) -> None:
    first = "import pathlib\npathlib.Path(__file__).with_name('late.py').write_text('v = 666')\n"
    files = {"__init__.py": first + "from .late import v\n", "late.py": "v = 1\n"}
    write_package(tmp_path, files, package_id=package_id)
    with pytest.raises((kernelhub.IntegrityError, ImportError)):
        kernelhub.get_local_kernel(tmp_path)


def test_failing_package_leaves_nothing_and_the_retry_starts_clean(
    tmp_path: Path, package_id: str
) -> None:
    marker = tmp_path / "fixed"
    source = (
        "from . import part\nimport pathlib\n"
        f"if not pathlib.Path({str(marker)!r}).exists():\n    raise ZeroDivisionError('boom')\n"
        "runs = part.runs\n"
    )
    write_package(
        tmp_path,
        {"__init__.py": source, "part.py": "runs = []\n"},
        package_id=package_id,
        name="brittle",
    )
    with pytest.raises(ZeroDivisionError, match="boom") as caught:
        kernelhub.get_local_kernel(tmp_path)
    (note,) = caught.value.__notes__
    assert "'brittle'" in note
    assert "torch-universal" in note
    assert [name for name in sys.modules if name.startswith(package_id)] == []
    marker.touch()
    assert kernelhub.get_local_kernel(tmp_path).runs == []


def test_threads_get_one_module_and_one_execution(tmp_path: Path, package_id: str) -> None:
    counter = f"_runs_{package_id}"
    source = (
        "import builtins, threading\n"
        f"builtins.{counter} = getattr(builtins, {counter!r}, 0) + 1\n"
        "threading.Event().wait(0.03)\n"
        f"runs = builtins.{counter}\n"
    )
    write_package(tmp_path, {"__init__.py": source}, package_id=package_id)
    modules: list[object] = []
    start = threading.Barrier(8)

    def load() -> None:
        start.wait()
        modules.append(kernelhub.get_local_kernel(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(modules) == 8
    assert len(set(map(id, modules))) == 1
    assert modules[0].runs == 1  # type: ignore[attr-defined]
    assert len([k for k in kernelhub.get_loaded_kernels() if k.module is modules[0]]) == 1


@pytest.mark.parametrize("taken", ["json", "this", "torch", "numpy"])
def test_id_of_another_module_is_refused_and_the_module_stays(tmp_path: Path, taken: str) -> None:
    before = sys.modules.get(taken)
    write_package(tmp_path, {"__init__.py": ""}, package_id=taken)
    with pytest.raises(kernelhub.KernelIdConflict) as caught:
        kernelhub.get_local_kernel(tmp_path)
    assert isinstance(caught.value, ImportError)
    assert sys.modules.get(taken) is before


def test_dotted_id_is_refused(tmp_path: Path) -> None:
    write_package(tmp_path, {"__init__.py": ""}, package_id="os.path")
    with pytest.raises(ValueError):
        kernelhub.get_local_kernel(tmp_path)


def test_same_id_with_other_content_is_refused_and_equal_content_is_shared(
    tmp_path: Path, package_id: str
) -> None:
    write_package(tmp_path / "one", {"__init__.py": "value = 1\n"}, package_id=package_id)
    write_package(tmp_path / "twin", {"__init__.py": "value = 1\n"}, package_id=package_id)
    write_package(tmp_path / "other", {"__init__.py": "value = 2\n"}, package_id=package_id)
    module = kernelhub.get_local_kernel(tmp_path / "one")
    assert kernelhub.get_local_kernel(tmp_path / "twin") is module
    with pytest.raises(kernelhub.KernelIdConflict) as caught:
        kernelhub.get_local_kernel(tmp_path / "other")
    assert str(tmp_path / "one") in str(caught.value)
    assert sys.modules[package_id] is module


def test_an_edit_while_the_package_runs_is_not_overlooked(tmp_path: Path, package_id: str) -> None:
    edit = "import pathlib\npathlib.Path(__file__).write_text('value = 2\\n' + ' ' * 80)\n"
    # In a folder of its own: the audit log lies beside it and changes the time of tmp_path.
    repository = tmp_path / "repo"
    write_package(repository, {"__init__.py": edit + "value = 1\n"}, package_id=package_id)
    assert kernelhub.get_local_kernel(repository).value == 1
    with pytest.raises(kernelhub.KernelIdConflict):
        kernelhub.get_local_kernel(repository)


def test_a_package_may_delete_its_folder(tmp_path: Path, package_id: str) -> None:
    source = "import pathlib, shutil\nshutil.rmtree(pathlib.Path(__file__).parents[2])\nvalue = 1\n"
    write_package(tmp_path / "repo", {"__init__.py": source}, package_id=package_id)
    module = kernelhub.get_local_kernel(tmp_path / "repo")
    assert module.value == 1
    assert module in [kernel.module for kernel in kernelhub.get_loaded_kernels()]


def test_a_directory_that_is_filled_anew_gives_the_new_module(
    tmp_path: Path, package_id: str
) -> None:
    write_package(tmp_path, {"__init__.py": "value = 1\n"}, package_id=package_id)
    first = kernelhub.get_local_kernel(tmp_path)
    write_package(tmp_path, {"__init__.py": "value = 2\n"}, package_id=package_id + "b")
    variant = tmp_path / "build" / "torch-universal"
    assert kernelhub.get_local_kernel(variant).value == 2
    assert kernelhub.get_local_kernel(tmp_path).value == 2
    assert first.value == 1
    mine = [k for k in kernelhub.get_loaded_kernels() if k.metadata.id.startswith(package_id)]
    assert [kernel.module.value for kernel in mine] == [1, 2]
    write_package(tmp_path, {"__init__.py": "value = 3\n"}, package_id=package_id + "b")
    with pytest.raises(kernelhub.KernelIdConflict):
        kernelhub.get_local_kernel(tmp_path)


def test_stale_digest_of_the_users_own_files_is_reported_and_allowed(
    tmp_path: Path, package_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    variant = write_package(tmp_path, {"__init__.py": "value = 1\n"}, package_id=package_id)
    (variant / "__init__.py").write_text("value = 2\n")
    assert kernelhub.get_local_kernel(tmp_path).value == 2
    (record,) = [record for record in caplog.records if record.name == "kernelhub"]
    assert record.levelname == "WARNING"
    assert str(variant) in record.getMessage()


def test_unknown_and_missing_python_dependencies_are_named(tmp_path: Path, package_id: str) -> None:
    write_package(
        tmp_path / "unknown", {"__init__.py": ""}, package_id=package_id, python_depends=["numpy"]
    )
    with pytest.raises(kernelhub.DependencyError, match="numpy") as caught:
        kernelhub.get_local_kernel(tmp_path / "unknown")
    assert isinstance(caught.value, ValueError)
    write_package(
        tmp_path / "missing", {"__init__.py": ""}, package_id=package_id, python_depends=["helion"]
    )
    with pytest.raises(kernelhub.DependencyError, match="pip install helion") as caught:
        kernelhub.get_local_kernel(tmp_path / "missing")
    assert isinstance(caught.value, ImportError)


def test_newer_client_level_is_incompatible(tmp_path: Path, package_id: str) -> None:
    write_package(tmp_path, {"__init__.py": ""}, package_id=package_id, kernels_minver="99.0.0")
    with pytest.raises(kernelhub.Incompatible, match=r"99\.0\.0") as caught:
        kernelhub.get_local_kernel(tmp_path)
    assert isinstance(caught.value, RuntimeError)


def test_no_fitting_variant_lists_each_with_its_reason(tmp_path: Path, package_id: str) -> None:
    write_package(
        tmp_path, {"__init__.py": ""}, package_id=package_id, variant="torch-npu", backend="cann"
    )
    with pytest.raises(FileNotFoundError, match="Cannot find a build variant") as caught:
        kernelhub.get_local_kernel(tmp_path)
    assert isinstance(caught.value, kernelhub.NoVariant)
    (line,) = json.loads(caught.value.details)["trace"]
    assert line["variant"] == "torch-npu"
    assert line["accepted"] is False
    assert line["reason"]


def test_backend_that_is_not_here_is_an_argument_error(tmp_path: Path, package_id: str) -> None:
    write_package(tmp_path, {"__init__.py": ""}, package_id=package_id)
    with pytest.raises(kernelhub.ArgumentError, match="Invalid backend 'cu130'"):
        kernelhub.get_local_kernel(tmp_path, backend="cu130")


def test_traceback_shows_the_source_line(tmp_path: Path, package_id: str) -> None:
    write_package(tmp_path, {"__init__.py": "def f():\n    return 1 // 0\n"}, package_id=package_id)
    script = (
        "import kernelhub, sys, traceback\n"
        "try:\n    kernelhub.get_local_kernel(sys.argv[1]).f()\n"
        "except ZeroDivisionError:\n    print(traceback.format_exc())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert "return 1 // 0" in run.stdout


def test_import_and_load_leave_torch_alone(tmp_path: Path, package_id: str) -> None:
    write_package(tmp_path, {"__init__.py": "value = 1\n"}, package_id=package_id)
    heavy = ["torch", "numpy", "huggingface_hub", "sigstore", "requests", "httpx", "pydantic"]
    script = (
        "import kernelhub, sys\n"
        "assert kernelhub.get_local_kernel(sys.argv[1]).value == 1\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
