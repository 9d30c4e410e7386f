# SPDX-License-Identifier: Apache-2.0
"""Signals, forks, and a process that uses both clients."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_process import Hub
from packages import write_package

import kernelhub

INTERRUPT_SECONDS = 2.0


def test_interrupt_during_a_request_raises_keyboard_interrupt() -> None:
    script = (
        "import kernelhub\n"
        "try:\n    kernelhub.get_kernel('kernels-test/toy', version=1)\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_ENDPOINT": endpoint},
        )
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
    assert output == "interrupted\n"
    assert time.monotonic() - began < INTERRUPT_SECONDS


def test_child_of_a_fork_can_load_too(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> None:
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    write_package(tmp_path / "s", {"__init__.py": "value = 4\n"}, package_id=package_id, name=name)
    trusted_hub.publish(repo_id, tmp_path / "s")
    script = (
        "import kernelhub, os, sys\n"
        "assert kernelhub.has_kernel(sys.argv[1], version=1)\n"
        "child = os.fork()\n"
        "value = kernelhub.get_kernel(sys.argv[1], version=1).value\n"
        "if child == 0:\n    os._exit(value)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == value == 4\n"
    )
    subprocess.run([sys.executable, "-c", script, repo_id], check=True, timeout=60)


def test_module_that_the_peer_imported_from_the_same_file_is_shared(
    tmp_path: Path, package_id: str
) -> None:
    write_package(tmp_path, {"__init__.py": "value = []\n"}, package_id=package_id)
    script = (
        "import pathlib, sys, kernels, kernelhub\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "theirs = kernels.get_local_kernel(path)\n"
        "assert kernelhub.get_local_kernel(path) is theirs\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=60)


def test_library_messages_go_to_the_logger_of_the_package(
    trusted_hub: Hub, tmp_path: Path, package_id: str, new_repo: Callable[[], str]
) -> None:
    repo_id = new_repo()
    name = repo_id.split("/")[1]
    dirty = {"kernel-builder": {"version": "1.0"}, "kernel": {"commit": "a" * 40, "dirty": True}}
    write_package(
        tmp_path / "s",
        {"__init__.py": ""},
        package_id=package_id,
        name=name,
        provenance=dirty,
    )
    trusted_hub.publish(repo_id, tmp_path / "s")
    script = (
        "import kernelhub, logging, sys\n"
        "seen = []\n"
        "class Keep(logging.Handler):\n    def emit(self, record):\n        seen.append(record)\n"
        "logging.getLogger('kernelhub').addHandler(Keep())\n"
        "kernelhub.get_kernel(sys.argv[1], version=1)\n"
        "assert [r.levelname for r in seen if 'dirty' in r.getMessage()] == ['WARNING'], seen\n"
    )
    subprocess.run([sys.executable, "-c", script, repo_id], check=True, timeout=60)


def test_environment_variables_are_read_at_each_call(
    tmp_path: Path, package_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "one", {"__init__.py": "v = 1\n"}, package_id=package_id)
    write_package(tmp_path / "two", {"__init__.py": "v = 2\n"}, package_id=package_id + "_two")
    monkeypatch.setenv("LOCAL_KERNELS", f"kernels-test/x={tmp_path / 'one'}")
    assert kernelhub.get_kernel("kernels-test/x", version=1).v == 1
    monkeypatch.setenv("LOCAL_KERNELS", f"kernels-test/x={tmp_path / 'two'}")
    assert kernelhub.get_kernel("kernels-test/x", version=1).v == 2
