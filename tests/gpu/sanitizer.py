# SPDX-License-Identifier: Apache-2.0
"""compute-sanitizer over small runs of the checks that launch most."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from check_worker import Setup
from checks import Family
from own_process import ABSENT, FAIL, NOT_RUN, OK, Budget, Outcome, Worker

# For a check, many times what it takes without a tool.
LIMIT_S = 120.0
# compute-sanitizer's own marks.
MARK, HEAD, NOTHING = "========= ", "COMPUTE-SANITIZER", " SUMMARY: 0 "
UNSUPPORTED = "Device not supported"
FOUND = 9


def sanitized(
    tool: str, family: Family, command: Sequence[str], setup: Setup, budget: Budget
) -> Outcome:
    """What a tool finds while the worker `command` runs the family's small checks.

    It is bounded: what takes longer is not run to its end, and counts as wrong only for what was
    found till then.
    """
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        return Outcome(ABSENT, "compute-sanitizer")
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/%p"  # of each process, as a check that hangs costs one
        prefix = [program, "--tool", tool, "--error-exitcode", str(FOUND), "--log-file", log]
        # Each tensor an allocation, so that what lies beside it is nobody's.
        plain = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1"]
        worker = Worker([*plain, *prefix, *command], replace(setup, is_quick=True), budget)
        outcomes = {
            check.__name__: worker.run(check.__name__, LIMIT_S) for check in family.sanitized
        }
        status = worker.close()
        logs = [one.read_text() for one in sorted(Path(folder).iterdir())]
    return verdict(outcomes, status, "\n".join(logs))


def verdict(outcomes: dict[str, Outcome], status: int, log: str) -> Outcome:
    """What the checks' outcomes, the worker's exit status and the tool's log amount to."""
    seconds = sum(one.seconds for one in outcomes.values())
    if UNSUPPORTED in log:
        return Outcome(ABSENT, f"compute-sanitizer: {UNSUPPORTED}", seconds=seconds)
    lines = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    found = [line for line in lines if line.strip() and line != HEAD and NOTHING not in line]
    if found or status == FOUND:
        return Outcome(FAIL, "\n".join(found) or "it found something", seconds=seconds)
    unfinished = {name: one for name, one in outcomes.items() if one.status in (FAIL, NOT_RUN)}
    if not unfinished and any(one.status == OK for one in outcomes.values()):
        if HEAD in log:
            return Outcome(OK, seconds=seconds)
        return Outcome(FAIL, f"the tool's log: expected a line {HEAD}, got none", seconds=seconds)
    if not unfinished:
        return Outcome(ABSENT, "; ".join(one.text for one in outcomes.values()), seconds=seconds)
    is_wrong = any(one.status == FAIL and not one.is_overrun for one in unfinished.values())
    why = "; ".join(f"{name}: {one.text}" for name, one in unfinished.items())
    return Outcome(FAIL if is_wrong else NOT_RUN, why, seconds=seconds)
