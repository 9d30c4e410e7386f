# SPDX-License-Identifier: Apache-2.0
"""Work in a process of its own: what hangs there or kills it costs the task at hand, no other.

A driver has a Worker, whose program calls `serve`, and gives it one task after another. `attempt`
is where all that a task can do becomes an Outcome.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

OK, FAIL, ABSENT, NOT_RUN = "ok", "FAIL", "absent", "not run"

POLL_S = 0.1
# For a worker to say that it is ready, which means torch and a GPU; and to end when told.
START_LIMIT_S = 180.0
END_LIMIT_S = 30.0
# Tasks of a kind that may outlast their limit before no other is tried.
MOST_OVERRUNS = 2
# Before a command: this file as a program, which sees that the command ends with who started it,
# then becomes it. A function that Popen calls in the child would not be safe beside threads.
BOUND = (sys.executable, "-I", "-S", __file__)
PR_SET_PDEATHSIG = 1


class Absent(Exception):
    """What the task needs is not there; the text says what."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: OK with its value, or the text of what is wrong or absent.

    `is_overrun` is true where it failed by taking longer than it may, `is_last` where the process
    can do no other task.
    """

    status: str
    text: str = ""
    value: Any = None
    seconds: float = 0.0
    is_overrun: bool = False
    is_last: bool = False


class Budget:
    """How long a run goes on: for so many seconds, for ever, or until a signal says stop."""

    def __init__(self, seconds: float | None = None) -> None:
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        self.reason = "" if seconds is None else f"the budget of {seconds:g} s ran out"

    @property
    def left(self) -> float:
        """Seconds; 0 when nothing more may be started and what runs is stopped."""
        return max(0.0, self._end - time.monotonic())

    def heed_signals(self) -> None:
        """Let SIGTERM and SIGINT end the budget, more than once too: timeout(1) sends two."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._end, self.reason = 0.0, f"stopped by {signal.Signals(number).name}"


def attempt(work: Callable[[], object]) -> Outcome:
    """Do a task, come what may."""
    start = time.monotonic()
    status, text, value = OK, "", None
    try:
        value = work()
    except Absent as reason:
        status, text = ABSENT, str(reason)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        status, text = FAIL, traceback.format_exception_only(error)[-1].strip()
    return Outcome(status, text, value, time.monotonic() - start)


def serve(
    address: str,
    make: Callable[[Any], Callable[[Any], object]],
    is_usable: Callable[[], bool] = lambda: True,
) -> None:
    """The worker's side: `make` turns the setup of the driver into what does a task.

    After a task that leaves the process unfit for others the worker ends, and the driver starts
    another one.
    """
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(address)
        connection = Connection(end.detach())
    made = attempt(lambda: make(connection.recv()))
    connection.send(replace(made, value=None, is_last=made.status != OK))
    while made.status == OK:
        try:
            task = connection.recv()
        except EOFError:
            return
        outcome = replace(attempt(partial(made.value, task)), is_last=not is_usable())
        sys.stdout.flush()
        connection.send(outcome)
        if outcome.is_last:
            return


def gpu_is_usable() -> bool:
    """Whether the next task finds the GPU as the last one did.

    After a fault in a kernel none runs in this process; and a capture that torch could not end
    leaves its stream current, and its allocator in the capture.
    """
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return bool(torch.cuda.current_stream() == torch.cuda.default_stream())


class Worker:
    """A process that does tasks; started for the first one, and anew after it died or hung.

    `command` gets the address to serve as its last word.
    """

    def __init__(self, command: Sequence[str], setup: object, budget: Budget) -> None:
        self._command = command
        self._setup = setup
        self._budget = budget
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._cannot_start: Outcome | None = None
        self._overruns: Counter[str] = Counter()

    def run(self, task: object, limit_s: float, kind: str = "") -> Outcome:
        """Do a task within the limit and the budget; `kind` is what it shares a fate with."""
        if self._budget.left <= 0:
            return Outcome(NOT_RUN, self._budget.reason)
        if self._overruns[kind] >= MOST_OVERRUNS:
            return Outcome(NOT_RUN, f"{kind}: {MOST_OVERRUNS} tasks took longer than their limit")
        start = time.monotonic()
        if self._connection is None:
            self._cannot_start = self._cannot_start or self._start()
        outcome = self._cannot_start or self._reply(task, limit_s, kind)
        return replace(outcome, seconds=outcome.seconds or time.monotonic() - start)

    def close(self) -> int:
        """End the process and what it started; its exit status, as if killed where even that does
        not end it.
        """
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return 0
        for _ in range(2):
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_LIMIT_S)
            _kill(process)
        return -signal.SIGKILL if process.returncode is None else process.returncode

    def _start(self) -> Outcome | None:
        """Why no worker could be started."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            address = str(Path(folder) / "worker")
            listener.bind(address)
            listener.listen(1)
            listener.settimeout(POLL_S)
            # In a group of its own it gets no Ctrl-C, and can be killed with what it started.
            self._process = subprocess.Popen([*BOUND, *self._command, address], process_group=0)
            end = time.monotonic() + START_LIMIT_S
            while self._connection is None:
                try:
                    self._connection = Connection(listener.accept()[0].detach())
                except TimeoutError:
                    if self._process.poll() is not None:
                        return self._ended("before it was ready")
                    if self._budget.left <= 0:
                        return self._stopped(Outcome(NOT_RUN, self._budget.reason))
                    if time.monotonic() > end:
                        return self._stopped(Outcome(FAIL, "its process does not start"))
        made: Outcome = self._reply(self._setup, START_LIMIT_S, "")
        return None if made.status == OK else made

    def _reply(self, message: object, limit_s: float, kind: str) -> Any:
        """What the worker answers, or what became of it instead."""
        assert self._connection is not None
        end = time.monotonic() + limit_s
        try:
            self._connection.send(message)
            while not self._connection.poll(POLL_S):
                if self._budget.left <= 0:
                    return self._stopped(Outcome(NOT_RUN, self._budget.reason))
                if time.monotonic() > end:
                    self._overruns[kind] += 1
                    text = f"took longer than {limit_s:g} s"
                    return self._stopped(Outcome(FAIL, text, is_overrun=True))
            answer = self._connection.recv()
        except (EOFError, OSError):
            return self._ended()
        if isinstance(answer, Outcome) and answer.is_last:
            self.close()
        return answer

    def _ended(self, when: str = "") -> Outcome:
        status = self.close()
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return Outcome(FAIL, f"its process ended {how} {when}".strip())

    def _stopped(self, outcome: Outcome) -> Outcome:
        assert self._process is not None
        _kill(self._process)
        self.close()
        return outcome


def run_within(budget: Budget, command: Sequence[str]) -> tuple[int, str]:
    """The exit status and the output of a program, which is killed when the budget ends."""
    with subprocess.Popen(
        [*BOUND, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=POLL_S)
            except subprocess.TimeoutExpired:
                if budget.left <= 0:
                    _kill(process)
            else:
                return process.returncode, output


def _kill(process: subprocess.Popen[Any]) -> None:
    """Kill what there is of its group, which outlives a process that left others in it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def write_whole(path: Path, text: str) -> None:
    """Write a file at once: whoever reads it, after whatever end, finds the old or the new text."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    # Killed when the thread that started it ends, be it by SIGKILL: each waits for what it starts.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execvp(sys.argv[1], sys.argv[1:])
