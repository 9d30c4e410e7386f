# SPDX-License-Identifier: Apache-2.0
"""A worker of tests/gpu/own_process.py that needs no GPU: a task is the word for what it does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "gpu"))

from own_process import Absent, serve

_usable = True


def do(task: str) -> object:
    """What some check might do, or the number of this process."""
    global _usable
    if task == "raises":
        raise AssertionError("wrong by far")
    if task == "is absent":
        raise Absent("a second GPU")
    if task == "ends":
        raise SystemExit("no compiler")
    if task == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hangs":
        time.sleep(600)
    if task == "starts another":
        return subprocess.Popen(["sleep", "600"]).pid
    if task == "spoils":
        _usable = False
    return os.getpid()


def making(setup: dict[str, str]) -> object:
    """Tasks may go by other names; being made is one as well."""
    do(setup.get("making", ""))
    return lambda task: do(setup.get(task, task))


if __name__ == "__main__":
    serve(sys.argv[1], making, lambda: _usable)  # type: ignore[arg-type]
