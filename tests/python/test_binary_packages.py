# SPDX-License-Identifier: Apache-2.0
"""Packages with compiled code: an extension module, and a tvm-ffi library."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from packages import write_package

import kernelhub

EXTENSION = """
#define Py_LIMITED_API 0x03090000
#include <Python.h>
static PyObject* twice(PyObject* self, PyObject* value) {
  (void)self;
  return PyLong_FromLong(2 * PyLong_AsLong(value));
}
static PyMethodDef methods[] = {{"twice", twice, METH_O, 0}, {0, 0, 0, 0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "toy", 0, -1, methods, 0, 0, 0, 0};
__attribute__((visibility("default"))) PyObject* PyInit_NAME(void) {
  return PyModule_Create(&definition);
}
"""
TVM_FFI = """
#include <stdint.h>
typedef struct { int32_t type_index; uint32_t extra; union { int64_t i; double f; } value; } any_t;
__attribute__((visibility("default"))) int __tvm_ffi_twice(void* self, const any_t* args,
                                                           int32_t count, any_t* result) {
  (void)self;
  if (count != 1) return -1;
  result->type_index = args[0].type_index;
  result->extra = 0;
  result->value.i = 2 * args[0].value.i;
  return 0;
}
"""


@pytest.fixture
def compile_c(tmp_path: Path) -> Callable[[str], bytes]:
    def compile_c(source: str) -> bytes:
        (tmp_path / "source.c").write_text(source)
        flags = ["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wl,-z,relro,-z,noexecstack"]
        include = f"-I{sysconfig.get_path('include')}"
        out = tmp_path / "made.so"
        subprocess.run(["cc", tmp_path / "source.c", *flags, include, "-o", out], check=True)
        return out.read_bytes()

    return compile_c


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def test_extension_module_is_opened_through_its_descriptor(
    tmp_path: Path, package_id: str, compile_c: Callable[[str], bytes]
) -> None:
    binary = compile_c(EXTENSION.replace("NAME", package_id))
    files: dict[str, str | bytes] = {
        "__init__.py": f"from . import {package_id} as native\ntwice = native.twice\n",
        f"{package_id}.abi3.so": binary,
    }
    variant = write_package(tmp_path / "repo", files, package_id=package_id)
    module = kernelhub.get_local_kernel(tmp_path / "repo")
    assert module.twice(21) == 42
    assert module.native.__file__.startswith(f"/proc/{os.getpid()}/fd/")
    assert str(variant / f"{package_id}.abi3.so") in mapped_files()


def test_failing_package_with_a_binary_can_be_loaded_again(
    tmp_path: Path, package_id: str, compile_c: Callable[[str], bytes]
) -> None:
    marker = tmp_path / "fixed"
    source = (
        f"from . import {package_id} as native\nimport pathlib\n"
        f"if not pathlib.Path({str(marker)!r}).exists():\n    raise RuntimeError('first')\n"
    )
    files: dict[str, str | bytes] = {
        "__init__.py": source,
        f"{package_id}.abi3.so": compile_c(EXTENSION.replace("NAME", package_id)),
    }
    write_package(tmp_path / "repo", files, package_id=package_id)
    with pytest.raises(RuntimeError, match="first"):
        kernelhub.get_local_kernel(tmp_path / "repo")
    marker.touch()
    assert kernelhub.get_local_kernel(tmp_path / "repo").native.twice(4) == 8


def test_binary_written_after_it_was_verified_never_runs(
    tmp_path: Path, package_id: str, compile_c: Callable[[str], bytes]
) -> None:
    name = f"{package_id}_late"
    files: dict[str, str | bytes] = {
        "__init__.py": "def late():\n    from . import " + name + "\n",
        f"{name}.abi3.so": compile_c(EXTENSION.replace("NAME", name)),
    }
    variant = write_package(tmp_path / "repo", files, package_id=package_id)
    library = variant / f"{name}.abi3.so"
    os.utime(library, (1, 1))
    module = kernelhub.get_local_kernel(tmp_path / "repo")
    with library.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    for _ in range(2):
        with pytest.raises(kernelhub.IntegrityError) as caught:
            module.late()
        assert caught.value.code == "FileChanged"
    assert name not in mapped_files()


def test_binary_written_while_it_is_opened_never_becomes_a_module(
    tmp_path: Path, package_id: str, compile_c: Callable[[str], bytes]
) -> None:
    name = f"{package_id}_late"
    target = tmp_path / "repo" / "build" / "torch-universal" / f"{name}.abi3.so"
    # Its own initialiser stands for whoever writes at that moment.
    touch = (
        "#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) void touch(void) {"
        f' int file = open("{target}", O_WRONLY | O_APPEND); (void)!write(file, "x", 1);'
        " close(file); }\n"
    )
    files: dict[str, str | bytes] = {
        "__init__.py": "def late():\n    from . import " + name + "\n",
        target.name: compile_c(EXTENSION.replace("NAME", name) + touch),
    }
    write_package(tmp_path / "repo", files, package_id=package_id)
    module = kernelhub.get_local_kernel(tmp_path / "repo")
    for _ in range(2):
        with pytest.raises(kernelhub.IntegrityError) as caught:
            module.late()
        assert caught.value.code == "FileChanged"
    assert f"{package_id}.{name}" not in sys.modules


def test_executable_stack_is_refused_before_it_is_mapped(
    tmp_path: Path, package_id: str, compile_c: Callable[[str], bytes]
) -> None:
    binary = compile_c(
        '__asm__(".section .note.GNU-stack,\\"x\\",@progbits\\n.text");'
        + EXTENSION.replace("NAME", package_id)
    )
    # The linker flag of the fixture overrides the note, so the program header is changed here.
    changed = bytearray(binary)
    header = changed.find((0x6474E551).to_bytes(4, "little"))
    changed[header + 4] |= 1
    files: dict[str, str | bytes] = {
        "__init__.py": f"from . import {package_id}\n",
        f"{package_id}.abi3.so": bytes(changed),
    }
    write_package(tmp_path / "repo", files, package_id=package_id)
    with pytest.raises(kernelhub.LoadError) as caught:
        kernelhub.get_local_kernel(tmp_path / "repo")
    assert caught.value.code == "UnsafeElf"
    assert package_id not in mapped_files()


def test_tvm_ffi_library_is_opened_through_its_descriptor(
    tmp_path: Path, package_id: str, compile_c: Callable[[str], bytes]
) -> None:
    tvm_ffi = pytest.importorskip("tvm_ffi")
    major, minor = tvm_ffi.__version__.split(".")[:2]
    variant_name = f"tvm-ffi{major}{minor}-cpu-x86_64-linux"
    ops = (
        "import pathlib\nimport tvm_ffi\n"
        f"ops = tvm_ffi.load_module(pathlib.Path(__file__).parent / '{package_id}.so')\n"
    )
    files: dict[str, str | bytes] = {
        "__init__.py": "from ._ops import ops\ntwice = ops.twice\n",
        "_ops.py": ops,
        f"{package_id}.so": compile_c(TVM_FFI),
    }
    write_package(
        tmp_path / "repo",
        files,
        package_id=package_id,
        variant=variant_name,
        python_depends=["tvm-ffi"],
    )
    opened: list[str] = []

    def record(event: str, arguments: tuple[object, ...]) -> None:
        if event == "ctypes.dlopen":
            opened.append(str(arguments[0]))

    sys.addaudithook(record)
    module = kernelhub.get_local_kernel(tmp_path / "repo", backend="cpu")
    assert module.twice(21) == 42
    assert f"{package_id}.so" in mapped_files()
    assert not [path for path in opened if path.endswith(f"{package_id}.so")]
