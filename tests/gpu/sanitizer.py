# SPDX-License-Identifier: Apache-2.0
"""compute-sanitizer over small runs of the checks that launch most."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from checks import Absent
from registry import FAMILIES, selected

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
INSIDE = "KERNELHUB_GPU_CHECKS_SANITIZED"


def sanitizer(names: list[str] | None) -> None:
    """compute-sanitizer finds nothing in small runs of the checks that launch most."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        raise Absent("compute-sanitizer")
    if os.environ.get(INSIDE):
        raise Absent("it runs already")
    wanted = [family for family in FAMILIES if selected(family, names)]
    flags = ["--quick", *(flag for name in names or () for flag in ("--op", name))]
    for family in wanted:
        flags += [flag for check in family.sanitized for flag in ("--check", check.__name__)]
    for tool in TOOLS:
        driver = str(Path(__file__).with_name("driver.py"))
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, driver]
        environment = os.environ | {INSIDE: tool, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        done = subprocess.run([*command, *flags], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{tool}: {(done.stdout + done.stderr)[-2000:]}"
