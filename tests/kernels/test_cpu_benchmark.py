# SPDX-License-Identifier: Apache-2.0
"""benchmarks/cpu as far as it goes without measuring."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import tvm_ffi

CPU = Path(__file__).parents[2] / "benchmarks" / "cpu"
sys.path.insert(0, str(CPU.parent))

import families  # noqa: E402
from families.family import Scope  # noqa: E402
from protocol import machine  # noqa: E402
from protocol.rows import ABSENT, Result, Row  # noqa: E402


def load(name: str) -> ModuleType:
    """By path: each driver calls itself driver.py."""
    spec = importlib.util.spec_from_file_location(f"cpu_benchmark_{name}", CPU / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


driver, worker = load("driver"), load("worker")

# Page faults of a block of 64 MiB that was allocated and freed before.
FAULTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_large_block_that_was_freed_is_there_again_without_page_faults() -> None:
    environment = driver.environment("scalar", 1, [0])
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


def test_what_is_in_flight_exceeds_the_last_level_cache_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, family = 40 << 20, families.of("silu")
    monkeypatch.setattr(machine, "last_level_cache", lambda: cache)
    large = family.problem("silu", torch.float32, (2048, 1024))
    rotation, buffers = worker.Rotation(), family.buffers(large, "cpu")
    sets = rotation.sets(large, buffers)
    assert len(sets) * large.bytes >= 2 * cache > (len(sets) - 1) * large.bytes
    addresses = {one.data_ptr() for each in sets for one in each.inputs + each.outputs}
    assert len(addresses) == 2 * len(sets)
    copies, moved = rotation.copies(large, len(sets))
    assert moved == large.bytes
    targets = {copy().data_ptr() for copy in copies}
    assert len(targets) == len(copies) == len(sets)
    reads, moved = rotation.reads(large, len(sets))
    assert moved == large.bytes
    sources = {read.__self__.data_ptr() for read in reads}
    assert len(sources) == len(reads) == len(sets)
    assert all(read.__self__.nbytes == moved and read().isnan() for read in reads)
    assert not rotation.is_capped
    small = family.problem("silu", torch.float32, (16, 1024))
    assert len(rotation.sets(small, family.buffers(small, "cpu"))) == 1
    monkeypatch.setattr(machine, "memory", lambda: 4 * 3 * 2 * buffers.nbytes)
    assert len(rotation.sets(large, buffers)) == 2
    assert rotation.is_capped


def test_what_shows_the_arithmetic_alone_stays_in_the_cache_of_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "second_level_cache", lambda: 1 << 20)
    for op in ("silu", "rms_norm", "layer_norm", "apply_rotary_transformers"):
        family = families.of(op)
        scope = families.family.Scope(quick=False, best=True)
        large = max(family.cpu_problems(op, scope), key=lambda problem: problem.bytes)
        few = worker.in_cache(large)
        assert 1 << 18 < few.bytes <= 1 << 19
        assert family.buffers(few, "cpu").nbytes == pytest.approx(few.bytes, rel=0.1)


def test_a_turn_on_one_thread_leaves_the_number_of_threads_as_it_was() -> None:
    threads = torch.get_num_threads()
    turn = worker.on_one_thread(lambda: [float(torch.get_num_threads())], 2)
    try:
        assert turn() == [1.0]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_c_call_is_timed_on_the_tensors_that_it_takes(
    load_package: Callable[[str], ModuleType],
) -> None:
    family = families.of("rms_norm_bwd")
    problem = next(iter(family.cpu_problems("rms_norm_bwd", Scope(quick=True, best=True))))
    buffers = family.buffers(problem, "cpu")
    variant = Path(str(load_package(family.package).__file__)).parent
    (library,) = variant.parent.glob("tvm-ffi*-cpu-*/*.so")
    call = worker.c_call(family, problem, tvm_ffi.load_module(str(library)), buffers)
    assert not any(isinstance(one, torch.Tensor) for one in call.args)
    call()
    assert not any(bool(out.isnan().any()) for out in buffers.outputs)


def test_turns_go_round_the_buffers_and_keep_as_many_results() -> None:
    taken: list[int] = []
    alive = []

    class Outcome:
        def __init__(self, number: int) -> None:
            taken.append(number)
            alive.append(number)
            self.number = number

        def __del__(self) -> None:
            alive.remove(self.number)

    turn = worker.turn_of([lambda number=number: Outcome(number) for number in range(3)], 0.0)
    for _ in range(7):
        assert len(turn()) == 1
    assert taken == [0, 1, 2, 0, 1, 2, 0]
    assert len(alive) == 3


@pytest.mark.parametrize(
    ("cpuinfo", "expected", "measured"),
    [
        ("AuthenticAMD avx2 avx512bw avx512_bf16",
         ["avx512_bf16", "avx512", "avx2", "scalar"], ["avx512_bf16", "avx2", "scalar"]),
        ("GenuineIntel avx2 avx512bw avx512_bf16 amx_bf16",
         ["amx", "avx512", "avx512_bf16", "avx2", "scalar"], ["amx", "avx2", "scalar"]),
        ("GenuineIntel avx2 avx512bw avx512_bf16",
         ["avx512", "avx512_bf16", "avx2", "scalar"], ["avx512", "avx2", "scalar"]),
        ("AuthenticAMD avx2", ["avx2", "scalar"], ["avx2", "scalar"]),
    ],
)  # fmt: skip
def test_levels_come_best_first_and_those_that_differ_are_measured(
    cpuinfo: str, expected: list[str], measured: list[str]
) -> None:
    assert driver.levels(cpuinfo) == expected
    assert driver.different_levels(expected) == measured


def test_torch_is_timed_with_the_best_instruction_set_alone() -> None:
    best, *others = driver.levels()
    parts = list(driver.parts([best, *others], [1, 2], is_quick=False))
    assert [part for part in parts if part.scope.best] == [parts[1]]
    assert {part.isa for part in parts if part.scope.references} == {best}
    assert [part.threads for part in parts if part.isa == "scalar"] == [2]
    assert parts[1].problems(["silu_backward"]) > 0
    assert parts[0].problems(["silu_backward"]) == 0


def row(candidate: str, us: float, isa: str, threads: int = 2, **fields: object) -> Row:
    problem = families.of("silu").problem("silu", torch.float32, (8192, 1536))
    one = problem.row(candidate, isa=isa, threads=threads)
    return replace(one, us_median=us, turns=(us,) * 3, **fields)  # type: ignore[arg-type]


def test_another_instruction_set_stands_beside_torch_in_units_of_the_copy() -> None:
    moved = row("ours", 1.0, "avx2").bytes
    fast, slow = moved / 1e3 / 800.0, moved / 1e3 / 1600.0  # the second process had half the copy
    rows = [
        row("ours", 1000.0, "avx512", copy_gbps=fast),
        row("torch fused", 1300.0, "avx512", copy_gbps=fast),
        row("ours", 2000.0, "avx2", copy_gbps=slow),
        replace(row("torch fused", 0.0, "avx2"), us_median=None, turns=(), status=ABSENT),
    ]
    floors = driver.floors(Result({}, {}, rows), cores=2)
    beside_torch = [floor for floor in floors if "torch fused" in floor.what]
    # 1.3 times torch's speed, of the 1.2 that are asked for.
    assert [floor.measured for floor in beside_torch] == pytest.approx([1.3 / 1.2] * 2)
    assert all(floor.verdict == "ok" for floor in floors)


def test_two_threads_must_be_worth_their_number_where_arithmetic_is_the_limit() -> None:
    family = families.of("attention_prefill")
    problem = family.problem("attention_prefill", torch.float32, (1, 8, 8, 2, 2, 16))
    fused = replace(problem.row("torch fused", isa="avx512", threads=2), status=ABSENT)

    def verdicts(us: float) -> list[str]:
        alone, both = (
            replace(problem.row("ours", isa="avx512", threads=n), us_median=time, turns=(time,) * 3)
            for n, time in ((1, 1000.0), (2, us))
        )
        others = [fused, replace(fused, setting=alone.setting)]
        found = driver.floors(Result({}, {}, [alone, both, *others]), cores=2)
        return [floor.verdict for floor in found if "times the speed of one thread" in floor.what]

    assert verdicts(580.0) == ["ok"]
    assert verdicts(600.0) == ["MISSED"]


def test_a_run_that_would_measure_nothing_fails_with_the_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["driver.py", "--op", "gelu_slow"])
    with pytest.raises(SystemExit, match=r"expected one of activation.*got gelu_slow"):
        driver.main()


def test_the_best_of_the_chosen_instruction_sets_is_timed_beside_torch() -> None:
    (part,) = driver.parts(["scalar"], [2], is_quick=False)
    assert part.scope.best and part.scope.references


@pytest.mark.parametrize("flags", [["--op", "relu"], ["--isa", "scalar"], ["--threads", "1"]])
def test_only_a_whole_run_is_recorded(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["driver.py", "--record", "name", *flags])
    with pytest.raises(SystemExit, match="2"):
        driver.main()
    assert "--record: expected a whole run" in capsys.readouterr().err
