# SPDX-License-Identifier: Apache-2.0
"""That a run on a GPU brings what it can, whatever fails, tried without one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "gpu"), str(ROOT / "tests/gpu")]

import candidates  # noqa: E402
import device_build  # noqa: E402
import device_timing  # noqa: E402
import families  # noqa: E402
import floors  # noqa: E402
import problem_worker  # noqa: E402
import registry  # noqa: E402
import sanitizer  # noqa: E402
from checks import SANITIZER_TOOLS  # noqa: E402
from families.family import Buffers, Call, Candidate, Problem  # noqa: E402
from own_process import (  # noqa: E402
    ABSENT,
    FAIL,
    NOT_RUN,
    OK,
    Budget,
    Outcome,
    Worker,
    gpu_is_usable,
)
from protocol.rows import COPY, NEG, NEG_OP, Result, Row  # noqa: E402
from test_gpu_commands import benchmark, checks_driver  # noqa: E402

FAKE = (sys.executable, str(ROOT / "tests" / "kernels" / "gpu_fake_worker.py"))


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker(FAKE, {}, Budget())
    yield one
    one.close()


def statuses(worker: Worker, *tasks: str) -> list[str]:
    return [worker.run(task, limit_s=30.0).status for task in tasks]


def test_a_task_that_raises_ends_dies_or_hangs_costs_itself_alone(worker: Worker) -> None:
    first = worker.run("works", 30.0)
    assert (first.status, worker.run("works", 30.0).value) == (OK, first.value)
    assert statuses(worker, "raises", "is absent", "ends") == [FAIL, ABSENT, FAIL]
    assert worker.run("works", 30.0).value == first.value
    assert "SIGKILL" in worker.run("is killed", 30.0).text
    second = worker.run("works", 30.0)
    assert (second.status, second.value != first.value) == (OK, True)
    hung = worker.run("hangs", 0.3)
    assert (hung.status, hung.text, hung.is_overrun) == (FAIL, "took longer than 0.3 s", True)
    assert worker.run("works", 30.0).status == OK


def test_a_process_that_can_do_no_other_task_is_replaced(worker: Worker) -> None:
    spoiled = worker.run("spoils", 30.0)
    assert spoiled.status == OK
    after = worker.run("works", 30.0)
    assert (after.status, after.value != spoiled.value) == (OK, True)


def test_what_hung_twice_is_not_tried_again(worker: Worker) -> None:
    for _ in range(2):
        assert worker.run("hangs", 0.2, kind="attention").status == FAIL
    third = worker.run("works", 30.0, kind="attention")
    assert (third.status, third.text.split(":")[0]) == (NOT_RUN, "attention")
    assert worker.run("works", 30.0, kind="relu").status == OK


def test_a_worker_that_can_not_start_fails_every_task_at_once() -> None:
    worker = Worker((sys.executable, "-c", "raise SystemExit(3)"), {}, Budget())
    outcomes = [worker.run("works", 30.0) for _ in range(2)]
    assert {one.text for one in outcomes} == {"its process ended with status 3 before it was ready"}
    assert {one.status for one in outcomes} == {FAIL}


def test_a_worker_that_can_not_be_made_says_why_for_every_task() -> None:
    worker = Worker(FAKE, {"making": "raises"}, Budget())
    outcomes = [worker.run("works", 30.0) for _ in range(2)]
    assert {(one.status, one.text) for one in outcomes} == {(FAIL, "AssertionError: wrong by far")}


def has_ended(process: int) -> bool:
    """Whether a process that may be nobody's child ends soon."""
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    return False


def test_what_a_worker_started_ends_with_it(worker: Worker) -> None:
    started = worker.run("starts another", 30.0).value
    assert worker.close() == 0
    assert has_ended(started)


@pytest.mark.parametrize(
    "doing",
    [
        f'worker = Worker({FAKE!r}, {{}}, Budget()); print(worker.run("works", 30.0).value); '
        'sys.stdout.flush(); worker.run("hangs", 600.0)',
        'run_within(Budget(), ["sh", "-c", f"echo $$ > /proc/{os.getpid()}/fd/1; exec sleep 600"])',
    ],
    ids=["worker", "compiler"],
)
def test_what_runs_ends_with_a_driver_that_is_killed(doing: str) -> None:
    path = f"sys.path.insert(0, {str(ROOT / 'tests' / 'gpu')!r})"
    script = f"import os, sys; {path}; from own_process import Budget, Worker, run_within; {doing}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        running = int(driver.stdout.readline())
        driver.kill()
    assert has_ended(running)


def test_a_budget_stops_what_runs_and_starts_nothing_more() -> None:
    worker = Worker(FAKE, {}, Budget(5.0))
    start = time.monotonic()
    assert worker.run("works", 30.0).status == OK
    outcomes = [worker.run(task, 30.0) for task in ("hangs", "works")]
    assert [one.status for one in outcomes] == [NOT_RUN, NOT_RUN]
    assert {one.text for one in outcomes} == {"the budget of 5 s ran out"}
    assert time.monotonic() - start < 30.0


def test_no_process_is_started_when_the_budget_is_spent(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    worker = Worker(("touch", str(mark)), {}, Budget(0))
    assert worker.run("works", 30.0).status == NOT_RUN
    assert not mark.exists()


def test_a_process_is_unfit_after_a_fault_and_after_a_capture_that_did_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fault() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda: "default")
    for stream, usable in (("default", True), ("capture", False)):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda stream=stream: stream)
        assert gpu_is_usable() == usable
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "default")
    monkeypatch.setattr(torch.cuda, "synchronize", fault)
    assert not gpu_is_usable()


def test_a_signal_ends_a_run_with_what_it_knows() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests" / "gpu")!r})
from own_process import Budget, Worker
budget = Budget()
budget.heed_signals()
worker = Worker({FAKE!r}, {{}}, budget)
print(worker.run("works", 30.0).status, flush=True)
outcomes = [worker.run(task, 30.0) for task in ("hangs", "works")]
print(*(f"{{one.status}}: {{one.text}}" for one in outcomes), sep="; ", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ok\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "; ".join(["not run: stopped by SIGTERM"] * 2) + "\n"
        process.send_signal(signal.SIGTERM)  # timeout(1) sends two
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.fixture
def run_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, str]]]:
    """A run of tests/gpu/run whose checks do other things, and what its file says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "none")
    monkeypatch.setattr(device_build, "build", lambda *_: {})
    monkeypatch.setattr(Budget, "heed_signals", lambda self: None)
    monkeypatch.setattr(checks_driver, "WORKER", FAKE)
    monkeypatch.setattr(checks_driver, "QUICK_LIMIT_S", 4.0)

    def run(doing: dict[str, str], *flags: str) -> tuple[int, dict[str, str]]:
        monkeypatch.setattr(checks_driver, "Setup", lambda *_: doing)
        output = tmp_path / "new folder" / "checks.json"
        status = checks_driver.main(["--quick", "--output", str(output), *flags])
        found = json.loads(output.read_text())["checks"]
        return status, {name: one["status"] for name, one in found.items()}

    return run


def test_one_failing_check_loses_no_other(
    run_checks: Callable[..., tuple[int, dict[str, str]]],
) -> None:
    flags = [
        flag
        for name in ("relu", "numerics", "layouts", "graphs", "threads")
        for flag in ("--check", name)
    ]
    status, found = run_checks(
        {"numerics": "is killed", "relu": "hangs", "graphs": "raises"}, *flags
    )
    expected = {"numerics": FAIL, "relu": FAIL, "layouts": OK, "graphs": FAIL, "threads": OK}
    assert (status, found) == (1, expected)
    assert run_checks({}, "--check", "relu") == (0, {"relu": OK})
    assert run_checks({"relu": "is absent"}, "--check", "relu") == (0, {"relu": ABSENT})


def test_a_budget_that_ran_out_is_no_success(
    run_checks: Callable[..., tuple[int, dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--check", "numerics", "--check", "relu", "--budget", "0")
    assert run_checks({}, *flags) == (2, {"numerics": NOT_RUN, "relu": NOT_RUN})
    assert "2 checks: 0 failed, 0 absent, 2 not run" in capsys.readouterr().out


def test_the_outcome_of_a_check_is_written_before_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "none")
    output = tmp_path / "checks.json"
    seen = []

    def task() -> Outcome:
        seen.append(list(json.loads(output.read_text())["checks"]) if output.exists() else [])
        return Outcome(OK)

    checks_driver.run(iter([("one", task), ("two", task), ("three", task)]), output)
    assert seen == [[], ["one"], ["one", "two"]]


def test_checks_of_all_families_take_turns() -> None:
    first = [family for family, _ in registry.CHECKS.values()][: len(registry.FAMILIES)]
    assert first == list(registry.FAMILIES)


# A compiler that has a version, keeps a record, and fails for sources that say so.
COMPILER = """#!/bin/sh
case "$*" in
--version) cat {version}; exit ;;
*.part) ;;
*) exit 1 ;;
esac
for word in "$@"; do target=$word; done
echo "$target" >> {record}
for word in "$@"; do
  case $word in *.cpp | *.cu) grep -q WRONG "$word" && echo "error: it is wrong" && exit 1 ;; esac
done
echo built > "$target"
"""


HANGING = '#!/bin/sh\n[ "$*" = --version ] || sleep 600\n'


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Builds packages by a compiler that only keeps a record; the stems of what it made."""
    packages, record = tmp_path / "tree" / "packages", tmp_path / "record"
    program, version = tmp_path / "compiler", tmp_path / "version"
    program.write_text(COMPILER.format(record=record, version=version))
    program.chmod(0o755)
    version.write_text("1\n")
    for name in ("nvcc", "g++"):
        (tmp_path / name).symlink_to(program)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    shared = packages / "shared"
    shared.mkdir(parents=True)
    (shared / "kernel.cu").write_text('#include "tile.h"\n')
    (shared / "include").mkdir()
    (shared / "include" / "tile.h").write_text("int tile;\n")
    for name in ("one", "two"):
        root = packages / name
        (root / "torch-ext" / name).mkdir(parents=True)
        (root / "torch-ext" / name / "__init__.py").write_text("")
        (root / "binding.cpp").write_text(f"// {name}\n")
        kernel = (
            'backend = "cuda"\nsrc = ["../shared/kernel.cu"]\ninclude = ["../shared/include"]\n'
        )
        (root / "build.toml").write_text(f'[torch]\nsrc = ["binding.cpp"]\n[kernel.all]\n{kernel}')

    def run(tree: str = "tree") -> list[str]:
        record.write_text("")
        monkeypatch.setattr(device_build, "PACKAGES", tmp_path / tree / "packages")
        run.found = device_build.build(["one", "two"], tmp_path / tree / "build", Budget())  # type: ignore[attr-defined]
        lines = record.read_text().splitlines()
        return sorted(Path(line).name.split("-")[0].split(".")[0] for line in lines)

    return run


def test_a_source_that_packages_share_is_compiled_once_and_kept_by_its_content(
    compiled: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert compiled() == ["_one_gpu", "_two_gpu", "binding", "binding", "kernel"]
    for path in (tmp_path / "tree" / "packages").rglob("*"):
        os.utime(path, (2e9, 2e9))
    assert compiled() == []
    header = tmp_path / "tree" / "packages" / "shared" / "include" / "tile.h"
    header.write_text("int wider_tile;\n")
    os.utime(header, (1, 1))
    assert compiled() == ["_one_gpu", "_two_gpu", "kernel"]


def test_a_tree_that_moves_compiles_nothing_and_another_compiler_or_torch_all(
    compiled: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = compiled()
    (tmp_path / "tree").rename(tmp_path / "moved")
    assert compiled("moved") == []
    (tmp_path / "version").write_text("2\n")
    assert compiled("moved") == everything
    monkeypatch.setattr(torch, "__version__", "another")
    assert compiled("moved") == everything


def test_a_module_that_a_package_lost_and_an_old_library_leave_what_was_built(
    compiled: Callable[..., list[str]], tmp_path: Path
) -> None:
    sources, built = tmp_path / "tree" / "packages" / "one", tmp_path / "tree" / "build" / "one"
    module = sources / "torch-ext" / "one" / "layers.py"
    module.touch()
    compiled()
    assert (built / "layers.py").exists()
    module.unlink()
    (sources / "binding.cpp").write_text("// another\n")
    compiled()
    found = sorted(path.name.partition("-")[0] for path in built.iterdir())
    assert found == ["__init__.py", "_one_gpu", "_ops.py", "registration.h"]


def test_a_package_that_does_not_compile_costs_no_other(
    compiled: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "tree" / "packages" / "one" / "binding.cpp").write_text("WRONG\n")
    compiled()
    packages = device_build.Packages(compiled.found)  # type: ignore[attr-defined]
    with pytest.raises(device_build.BuildError, match=r"binding-.*does not compile.*it is wrong"):
        packages["one"]
    assert compiled.found["two"].folder == tmp_path / "tree" / "build" / "two"  # type: ignore[attr-defined]
    assert "one" in packages
    assert "three" not in packages


@pytest.mark.usefixtures("compiled")
def test_a_budget_ends_compilers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "compiler"
    monkeypatch.setattr(device_build, "PACKAGES", tmp_path / "tree" / "packages")
    program.write_text(HANGING)
    start = time.monotonic()
    found = device_build.build(["one"], tmp_path / "other", Budget(0.5))
    assert found["one"].folder is None
    assert "the budget of 0.5 s ran out" in found["one"].origin
    assert time.monotonic() - start < 10.0


def test_as_many_compilers_run_as_cores_and_available_memory_allow() -> None:
    meminfo = "MemTotal: 134217728 kB\nMemFree: 400000 kB\nMemAvailable: {} kB\n"
    cores = len(os.sched_getaffinity(0))
    assert device_build._jobs(meminfo.format(120 << 20)) == cores
    assert device_build._jobs(meminfo.format(1 << 20)) == 1
    assert device_build._jobs(meminfo.format(1 << 10)) == 1


@pytest.mark.parametrize(("folder", "status"), [(Path("there"), 0), (None, 1)])
def test_packages_are_built_for_another_machine_without_a_gpu(
    folder: Path | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def build(packages: list[str], *others: object) -> dict[str, device_build.Built]:
        asked.extend([packages, others[-1]])
        return {"relu": device_build.Built(folder, "")}

    monkeypatch.setattr(device_build, "build", build)
    monkeypatch.setattr(Budget, "heed_signals", lambda self: None)
    assert checks_driver.main(["--build", "90", "--op", "relu"]) == status
    assert asked == [["relu"], "90"]


HEAD = "========= COMPUTE-SANITIZER\n"
CLEAN = HEAD + "========= ERROR SUMMARY: 0 errors\n"
HAZARDS = HEAD + "========= RACECHECK SUMMARY: {0} hazards displayed ({0} errors, 0 warnings)\n"
WROTE = HEAD + "========= Invalid __global__ write of size 4 bytes\n"
HUNG = Outcome(FAIL, "took longer than 120 s", is_overrun=True)


@pytest.mark.parametrize(
    ("outcome", "status", "log", "expected"),
    [
        (Outcome(OK), 0, CLEAN, OK),
        (Outcome(OK), 0, HAZARDS.format(0), OK),
        (Outcome(OK), 9, HAZARDS.format(1), FAIL),
        (Outcome(FAIL, "CUDA error"), 9, WROTE, FAIL),
        (Outcome(FAIL, "wrong"), 0, CLEAN, FAIL),
        (HUNG, -9, HEAD, NOT_RUN),
        (HUNG, -9, WROTE, FAIL),
        (Outcome(NOT_RUN, "the budget ran out"), -9, HEAD, NOT_RUN),
        (Outcome(OK), 0, "", FAIL),
        (Outcome(ABSENT, "20 GiB"), 0, CLEAN, ABSENT),
        (Outcome(FAIL, "error 999"), 0, HEAD + "========= Error: Device not supported\n", ABSENT),
    ],
)
def test_the_sanitizer_fails_for_what_it_found_alone(
    outcome: Outcome, status: int, log: str, expected: str
) -> None:
    assert sanitizer.verdict({"layouts": outcome}, status, log).status == expected


def test_the_sanitizer_runs_the_worker_on_what_was_built_and_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text(
        f'#!/bin/sh\necho "$@" $PYTORCH_NO_CUDA_MEMORY_CACHING >> {tmp_path}/words\n'
        'tool=$2; log=$(echo "$6" | sed "s/%p/$$/"); shift 6\n'
        'echo "========= COMPUTE-SANITIZER" > "$log"\n'
        f'[ "$tool" = memcheck ] && [ "$(wc -l < {tmp_path}/words)" = 1 ] &&\n'
        'echo "========= Invalid __global__ read" >> "$log"\n'
        'exec "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sanitizer, "LIMIT_S", 4.0)
    monkeypatch.setattr(sanitizer, "replace", lambda setup, is_quick: setup)
    (family,) = (one for one in registry.FAMILIES if one.packages == ("rotary",))

    def found(tool: str, doing: dict[str, str]) -> Outcome:
        return sanitizer.sanitized(tool, family, FAKE, doing, Budget())

    # What it found in the process of a check that hung is known after the next one's.
    assert found("memcheck", {"rotary_bits": "hangs"}).text == "Invalid __global__ read"
    assert found("initcheck", {}).status == OK
    hung = found("initcheck", {"rotary_bits": "hangs"})
    assert (hung.status, hung.text) == (NOT_RUN, "rotary_bits: took longer than 4 s")
    words = (tmp_path / "words").read_text().splitlines()
    assert words[0].startswith("--tool memcheck --error-exitcode 9 --log-file")
    assert words[0].endswith("1")


def test_races_are_sought_where_threads_share_memory() -> None:
    with_shared = {
        family.packages[0] for family in registry.FAMILIES if "racecheck" in family.sanitizer_tools
    }
    assert with_shared == {"layer-norm", "rmsnorm", "flash-attn2"}
    for family in registry.FAMILIES:
        assert set(family.sanitizer_tools) <= set(SANITIZER_TOOLS)


SILU = families.of("silu")


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems of the GPU in the size of a small one, timed by the clock of the host."""

    def turn(calls: Sequence[Call]) -> Callable[[], list[float]]:
        for call in calls:
            call()

        def timed() -> list[float]:
            for call in calls:
                call()
            return [1.0]

        return timed

    monkeypatch.setattr(problem_worker, "DEVICE", "cpu")
    monkeypatch.setattr(problem_worker, "gpu_is_usable", lambda: True)
    monkeypatch.setattr(problem_worker, "buffer_sets", lambda size: 2)
    monkeypatch.setattr(problem_worker, "event_turn", turn)
    monkeypatch.setattr(problem_worker, "graph_turn", turn)
    monkeypatch.setattr(problem_worker, "host_turn", lambda call: turn([call]))
    monkeypatch.setattr(problem_worker, "capture_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


def measured(launch: str, **ways: Callable[[Buffers], Call]) -> dict[str, Row]:
    problem = next(iter(SILU.gpu_problems("silu", is_quick=True)))
    problem = replace(problem, setting={"launch": launch, "layout": "aligned"})
    everyone = [Candidate(name, bind) for name, bind in ways.items()]
    return {row.candidate: row for row in problem_worker.measure(SILU, problem, everyone)}


def right(one: Buffers) -> Call:
    return lambda: torch.nn.functional.silu(one.inputs[0])


def failing_after(
    count: int, message: str = "CUDA error: launch failed"
) -> Callable[[Buffers], Call]:
    """A way that is right for so many calls."""
    left = [count]

    def bind(one: Buffers) -> Call:
        def call(*_: object) -> torch.Tensor:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError(message)
            return torch.nn.functional.silu(one.inputs[0])

        return call

    return bind


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("launch", ["stream", "graph", "host"])
def test_a_candidate_that_breaks_when_it_is_timed_leaves_the_others(launch: str) -> None:
    rows = measured(launch, ours=failing_after(1), liger=right)
    assert (rows["ours"].status, rows["liger"].us_median) == ("FAIL", 1.0)
    assert "launch failed" in rows["ours"].reason
    rows = measured(launch, ours=right, liger=failing_after(1))
    assert (rows["ours"].us_median, rows["liger"].status) == (1.0, "absent")
    assert {COPY, NEG} <= set(rows)
    assert (NEG_OP in rows) == (launch == "host")


@pytest.mark.usefixtures("on_cpu")
def test_what_breaks_between_turns_or_is_a_yardstick_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RuntimeError, match="ours: CUDA error"):
        measured("stream", ours=failing_after(5))
    monkeypatch.setattr(torch.Tensor, "copy_", failing_after(0, "out of memory")(None))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="copy: out of memory"):
        measured("stream", ours=right)


@pytest.mark.usefixtures("on_cpu")
def test_after_a_fault_no_other_way_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_worker, "gpu_is_usable", lambda: False)
    with pytest.raises(RuntimeError, match="ours: CUDA error"):
        measured("stream", ours=failing_after(0), liger=right)


@pytest.mark.usefixtures("on_cpu")
def test_yardsticks_and_ours_are_captured_before_the_ways_of_others() -> None:
    order: list[str] = []

    def bind(name: str, one: Buffers) -> Call:
        order.append(name)
        return right(one)

    rows = measured("graph", ours=partial(bind, "ours"), liger=partial(bind, "liger"))
    assert list(rows)[:2] == ["ours", "liger"]
    assert order == ["ours", "liger", "ours", "ours", "liger", "liger"]


def test_a_capture_that_fails_leaves_the_stream_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    current = ["default"]

    class Stream:
        def synchronize(self) -> None:
            pass

    @contextmanager
    def on(stream: object) -> Iterator[None]:
        before, current[0] = current[0], "side"
        yield
        current[0] = before

    @contextmanager
    def capture(graph: object, stream: object) -> Iterator[None]:
        # As torch 2.11 has it: what ends the capture comes first, and an error there is the end.
        current[0] = "side"
        try:
            yield
        except RuntimeError:
            raise RuntimeError("capture_end") from None
        current[0] = "default"

    for name, fake in (
        *(("stream", on), ("graph", capture), ("CUDAGraph", object)),
        *(("synchronize", lambda: None), ("current_stream", lambda: current[0])),
        ("set_stream", lambda stream: current.__setitem__(0, stream)),
    ):
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(device_timing, "capture_stream", Stream)
    monkeypatch.setattr(device_timing, "_broken_captures", [])
    device_timing.graph_turn([lambda: None])
    assert (current, device_timing.captures_are_clean()) == (["default"], True)
    calls = iter([None] * 3)  # the warm-up goes well
    with pytest.raises(RuntimeError, match="capture_end"):
        device_timing.graph_turn([partial(_next_or_fail, calls)])
    assert (current, device_timing.captures_are_clean()) == (["default"], False)


def _next_or_fail(calls: Iterator[None]) -> None:
    for one in calls:
        return one
    raise RuntimeError("dependency created on uncaptured work in another stream")


class FakeWorker:
    """What answers a benchmark's tasks."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = iter(answers)
        self.seen: list[object] = []

    def run(self, task: object, limit_s: float, kind: str = "") -> Outcome:
        self.seen.append(task)
        return next(self.answers)


@pytest.fixture
def run_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict]]:  # type: ignore[type-arg]
    """A run of benchmarks/gpu/run --gate over problems with these outcomes, and its file."""
    monkeypatch.setattr(benchmark, "device", lambda: {})

    def run(*outcomes: Outcome, ceilings: Outcome | None = None) -> tuple[int, dict]:  # type: ignore[type-arg]
        flags = ["--gate", "--quick", "--op", "silu", "--output", str(tmp_path)]
        options = benchmark.parse(flags)
        problems = benchmark.problems(["silu"], True)[: len(outcomes)]
        given = (
            replace(one, value=_timed(problem) if one.status == OK else None)
            for one, (_, problem) in zip(outcomes, problems, strict=True)
        )
        first = ceilings or Outcome(OK, value={"empty kernel, us": 1.0})
        result = benchmark.run(options, problems, FakeWorker(first, *given))
        status = benchmark.report.finish(options, result, floors.floors(result), "")
        return status, json.loads((tmp_path / "results.json").read_text())

    return run


def _timed(problem: Problem) -> list[Row]:
    names = ("ours", COPY, NEG, NEG_OP)
    return [replace(problem.row(name), us_median=1.0, copy_gbps=1.0) for name in names]


def test_a_failing_problem_is_a_row_and_the_rest_is_measured(
    run_benchmark: Callable[..., tuple[int, dict]],  # type: ignore[type-arg]
) -> None:
    died = Outcome(FAIL, "its process ended by SIGSEGV")
    status, document = run_benchmark(Outcome(OK), died, Outcome(OK))
    rows = [row for row in document["rows"] if row["candidate"] == "ours"]
    assert [row["status"] for row in rows] == ["measured", "FAIL", "measured"]
    assert (status, rows[1]["reason"]) == (1, "its process ended by SIGSEGV")
    status, document = run_benchmark(Outcome(OK), ceilings=died)
    assert (status, document["rows"][0]["op"]) == (1, "ceilings")
    assert run_benchmark(Outcome(OK))[0] == 0


def test_the_gate_is_not_passed_by_floors_that_were_not_run(
    run_benchmark: Callable[..., tuple[int, dict]],  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    late = Outcome(NOT_RUN, "the budget of 60 s ran out")
    status, document = run_benchmark(Outcome(OK), late)
    assert (status, document["rows"][-1]["status"]) == (2, "not run")
    page = (tmp_path / "results.md").read_text()
    assert "- not run silu bfloat16 16384x8192, % of copy" in page
    assert "| ours | not run: the budget of 60 s ran out |" in page
    assert run_benchmark(late, ceilings=late)[0] == 2


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("seconds", ["0", "1"])
def test_a_benchmark_without_time_leaves_a_file_that_says_so(
    seconds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compiler").write_text(HANGING)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(benchmark, "device", lambda: {})
    monkeypatch.setattr(Budget, "heed_signals", lambda self: None)
    flags = ["--gate", "--quick", "--op", "silu", "--build-dir", str(tmp_path)]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text("of before")
    (tmp_path / "before.json").hardlink_to(tmp_path / "results" / "results.json")
    start = time.monotonic()
    assert benchmark.main([*flags, "--budget", seconds]) == 2
    assert time.monotonic() - start < 20.0
    rows = json.loads((tmp_path / "results" / "results.json").read_text())["rows"]
    assert {row["status"] for row in rows} == {NOT_RUN}
    assert (tmp_path / "before.json").read_text() == "of before"


def test_results_are_written_before_the_next_problem_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "device", lambda: {})
    seen: list[int] = []

    class Watching(FakeWorker):
        def run(self, task: object, limit_s: float, kind: str = "") -> Outcome:
            path = tmp_path / "results.json"
            seen.append(len(json.loads(path.read_text())["rows"]) if path.exists() else 0)
            return super().run(task, limit_s, kind)

    options = benchmark.parse(["--output", str(tmp_path)])
    problems = benchmark.problems(["silu"], True)[:3]
    answers = [Outcome(OK, value=_timed(problem)) for _, problem in problems]
    benchmark.run(options, problems, Watching(Outcome(OK, value={}), *answers))
    assert seen == [0, 0, 4, 8]


def test_a_floor_beside_something_that_was_not_timed_is_not_judged() -> None:
    problems = [problem for _, problem in benchmark.problems(["silu"], True)]
    (shifted,) = (one for one in problems if one.setting["layout"] == "misaligned")
    (small,) = (one for one in problems if one.setting["launch"] == "graph")
    decode = [one for _, one in benchmark.problems(["attention_decode"], True)]
    (paged,) = (one for one in decode if "page" in one.setting)
    other = replace(paged.row("flashinfer"), us_median=1.0)
    rows = [*_timed(shifted), *_timed(small), *_timed(paged), other]
    lines = [str(one) for one in floors.floors(Result({}, {}, rows)) if one.measured is None]
    assert len(lines) == 3
    assert any("time over the dense cache's" in line for line in lines)
    assert any("misaligned, % of aligned" in line for line in lines)
    assert any("us in a graph" in line and "torch.neg" not in line for line in lines)


def test_problems_with_floors_of_headline_ops_come_first_and_ops_take_turns() -> None:
    found = [(problem.op, problem) for _, problem in benchmark.problems(None, is_quick=False)]
    headline = {op for family in families.ALL for op in family.headline}
    assert sorted(op for op, _ in found[: len(headline)]) == sorted(headline)
    assert all(op in headline for op, _ in found[:60])
    has_floors = [bool(floors.unjudged(problem.row("ours"))) for _, problem in found]
    last_with_floors = max(i for i, has in enumerate(has_floors) if has)
    first_middle = next(i for i, (_, one) in enumerate(found) if one.shape == (512, 4096))
    assert first_middle > last_with_floors


def test_a_formula_is_compiled_for_large_bfloat16_rows_and_few_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidates.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(candidates, "_compile", lambda formula, mode: formula)
    monkeypatch.setattr(families.activation, "_scalar", lambda *_: Candidate("scalar", None))

    def compiled(compiling: Sequence[str], op: str) -> list[tuple[str, str, tuple[int, ...]]]:
        return [
            (one.name, str(problem.setting["launch"]), problem.shape)
            for family, problem in benchmark.problems([op], is_quick=False)
            for one in candidates.candidates(family, problem, ModuleType("none"), None, compiling)
            if one.name in candidates.MODES and one.bind is not None
        ]

    large = (16384, 8192)
    both = tuple(candidates.MODES)
    plain = ("torch.compile", "stream", large)
    tuned = ("torch.compile, max-autotune", "stream", large)
    assert compiled(both, "silu") == [plain]
    assert tuned in compiled(both, "gelu")
    assert ("torch.compile", "graph", (8, 512)) in compiled(both, "gelu")
    assert len(compiled(both, "gelu")) < 8
    assert compiled(both[:1], "silu") == [plain]
    assert compiled((), "gelu") == []


def test_a_baseline_that_was_not_compiled_is_absent_and_not_tried_again() -> None:
    with pytest.raises(device_build.BuildError, match="was not compiled"):
        problem_worker.ceilings(benchmark.Setup({}, None, (), True))
    scalar = families.activation._scalar("silu", None)
    assert (scalar.bind, "was not compiled" in scalar.reason) == (None, True)


def test_small_problems_are_timed_with_a_flushed_cache_too() -> None:
    for op in ("silu", "rms_norm", "apply_rotary_transformers"):
        family = families.of(op)
        flushed = [
            one for one in family.gpu_problems(op, False) if one.setting["launch"] == "flushed"
        ]
        assert flushed
        assert all(one.bytes <= families.floors.GPU_SMALL for one in flushed)
        assert all(floors.unjudged(one.row("ours")) == [] for one in flushed)


@pytest.fixture
def relu_on_cpu() -> dict[str, device_build.Built]:
    """What `build` gives, of the CPU build."""
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    (folder,) = Path(root, "relu", "build").glob("torch-*-cpu-*")
    broken = device_build.Built(None, "activation.o does not compile")
    return {"relu": device_build.Built(folder, "built variant"), "activation": broken}


ON_CPU = (sys.executable, str(ROOT / "tests" / "kernels" / "gpu_worker_on_cpu.py"))


def test_checks_run_in_the_worker(relu_on_cpu: dict[str, device_build.Built]) -> None:
    setup = checks_driver.Setup(relu_on_cpu, None, True)
    worker = Worker((*ON_CPU, "check"), setup, Budget())
    outcomes = [worker.run(name, 60.0) for name in ("relu", "numerics", "rms_norm_bits", "relu")]
    worker.close()
    assert [one.status for one in outcomes] == [OK, FAIL, ABSENT, OK]
    assert "activation.o does not compile" in outcomes[1].text


def test_problems_are_measured_in_the_worker(relu_on_cpu: dict[str, device_build.Built]) -> None:
    setup = benchmark.Setup(relu_on_cpu, None, (), True)
    worker = Worker((*ON_CPU, "problem"), setup, Budget())

    def measured(op: str) -> Outcome:
        found = benchmark.problems([op], is_quick=True)
        (problem,) = (one for _, one in found if one.setting["launch"] == "host")
        return worker.run(problem, 60.0)

    first, second, third = measured("relu"), measured("silu"), measured("relu")
    worker.close()
    assert [one.status for one in (first, second, third)] == [OK, FAIL, OK]
    rows = {row.candidate: row for row in first.value}
    assert {"ours", "torch fused", COPY, NEG, NEG_OP} <= {
        name for name, row in rows.items() if row.us_median
    }
    assert (rows["ours"].status, rows["ours"].err) == ("measured", 0.0)
    assert "activation.o does not compile" in second.text
