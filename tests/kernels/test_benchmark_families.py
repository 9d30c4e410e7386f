# SPDX-License-Identifier: Apache-2.0
"""What the families of benchmarks/families say of their ops, tried on the CPU builds."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
import tvm_ffi

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import families
from families.family import Buffers, Call, Family, Problem, Scope, results
from protocol import precision
from protocol.gate import MISSED, UNSURE
from protocol.rows import OURS_CACHED, Row

PAIRS = [pytest.param(family, op, id=op) for family in families.ALL for op in family.ops]
MEMORY_BOUND = (
    *("silu", "gelu_fast_backward", "relu", "layer_norm", "layer_norm_backward"),
    *("rms_norm", "rms_norm_bwd", "fused_add_rms_norm_fwd", "apply_rotary_transformers"),
    "dropout_add_norm",
)
# Ways of torch may round where they like.
LENIENCE = 4


def small_problems(family: Family, op: str) -> Iterator[Problem]:
    """The least problem of every dtype, in the size at which its values are compared."""
    problems = list(family.cpu_problems(op, Scope(quick=True, best=True)))
    for dtype in dict.fromkeys(problem.dtype for problem in problems):
        own = [problem for problem in problems if problem.dtype == dtype]
        yield family.checked_as(min(own, key=lambda problem: problem.bytes))


def worst(found: object, buffers: Buffers, expected: tuple[torch.Tensor, ...]) -> float:
    pairs = zip(results(found, buffers), expected, strict=True)
    return max(precision.relative_error(one, exact) for one, exact in pairs)


def c_call(family: Family, problem: Problem, library: object) -> Callable[[Buffers], Call] | None:
    function = getattr(library, family.c_op(problem.op), None)
    if function is None:
        assert problem.op == "dropout_add_norm"
        return None
    return lambda buffers: partial(function, *family.c_arguments(problem, library, buffers))


@pytest.mark.parametrize(("family", "op"), PAIRS)
def test_ours_and_the_ways_of_torch_compute_what_the_family_calls_exact(
    family: Family, op: str, load_package: Callable[[str], ModuleType]
) -> None:
    module = load_package(family.package)
    build = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / family.package / "build"
    (library,) = build.glob("tvm-ffi*-cpu-*/*.so")
    c_calls = tvm_ffi.load_module(str(library))
    for problem in small_problems(family, op):
        bound = family.bound(problem)
        candidates = {
            "ours": (partial(family.ours, problem, module), bound),
            "over C": (c_call(family, problem, c_calls), bound),
            "composed": (family.composed(problem), LENIENCE * bound),
            "fused": (family.fused(problem), LENIENCE * bound),
        }
        for name, (bind, most) in candidates.items():
            if bind is None:
                continue
            with torch.inference_mode():  # as the drivers
                buffers = family.buffers(problem, "cpu")
                expected = family.exact(problem, buffers)
                error = worst(bind(buffers)(), buffers, expected)
            assert error <= most, f"{name} {problem.dtype_name}: {error:.2e} > {most:.2e}"


@pytest.mark.parametrize(("family", "op"), PAIRS)
def test_a_sample_of_the_rows_has_the_exact_values_of_those_rows(family: Family, op: str) -> None:
    problem = next(small_problems(family, op))
    buffers = family.buffers(problem, "cpu")
    step = 3 if family.rowwise else 1
    whole = family.exact(problem, buffers)
    sample = family.exact(problem, buffers.every(step))
    assert all(torch.equal(a[::step], b) for a, b in zip(whole, sample, strict=True))


@pytest.mark.parametrize(("family", "op"), PAIRS)
def test_problems_differ_and_say_how_much_they_move(family: Family, op: str) -> None:
    on_cpu = list(family.cpu_problems(op, Scope(quick=False, best=True)))
    on_gpu = list(family.gpu_problems(op, is_quick=False))
    for problems in (on_cpu, on_gpu):
        rows = [problem.row("ours") for problem in problems]
        assert len({row.problem for row in rows}) == len(rows) > 0
        assert all(row.bytes > 0 for row in rows)
    assert all({"launch", "layout"} <= problem.setting.keys() for problem in on_gpu)
    buffers = family.buffers(min(on_cpu, key=lambda problem: problem.bytes), "cpu")
    assert all(bool(out.isnan().all()) for out in buffers.outputs)


def test_op_names_ops_packages_and_families() -> None:
    everything = [op for _, op in families.selected(None, is_quick=False)]
    assert sorted(everything) == sorted(set(everything))
    norms = ["layer_norm", "layer_norm_backward", "dropout_add_norm"]
    assert [op for _, op in families.selected(["layer-norm"], is_quick=True)] == norms
    assert [op for _, op in families.selected(["silu", "relu"], is_quick=True)] == ["silu", "relu"]
    assert len(list(families.selected(["relu"], is_quick=False))) == 2
    few = [op for _, op in families.selected(["activation"], is_quick=True)]
    assert few == ["gelu", "gelu_fast", "silu_and_mul"]
    quick = [op for _, op in families.selected(None, is_quick=True)]
    assert 0 < len(quick) < len(everything)
    with pytest.raises(SystemExit, match=r"expected one of .*rmsnorm.* gelu_fast.*, got gelu_slow"):
        list(families.selected(["gelu_slow"], is_quick=True))


def cpu_row(candidate: str, us: float, **fields: object) -> Row:
    problem = families.of("silu").problem("silu", torch.bfloat16, (16384, 1536))
    setting = {"isa": "avx512", "threads": 2}
    return replace(problem.row(candidate, **setting), us_median=us, **fields)  # type: ignore[arg-type]


def missed(*rows: Row) -> list[str]:
    """The floors of one problem that do not hold, on a machine of two cores."""
    found = families.of(rows[0].op).cpu_floors({row.candidate: row for row in rows}, cores=2)
    return [str(floor) for floor in found if floor.verdict == MISSED]


def test_a_large_row_on_the_cpu_must_reach_its_share_of_the_copy_or_beat_torch() -> None:
    moved = cpu_row("ours", 1.0).bytes
    half = cpu_row("ours", 1000.0, copy_gbps=moved / 1e6 / 0.51)
    assert missed(half) == []
    assert "share of copy: 0.49" in missed(replace(half, copy_gbps=moved / 1e6 / 0.49))[0]
    assert missed(replace(half, dtype="float32")) != []
    assert "torch fused" in missed(half, cpu_row("torch fused", 1190.0))[0]
    assert missed(half, cpu_row("torch fused", 1210.0)) == []
    at_copy = replace(half, copy_gbps=moved / 1e6 / 0.95)
    assert missed(at_copy, cpu_row("torch fused", 1000.0)) == []


@pytest.mark.parametrize("op", MEMORY_BOUND)
def test_a_small_call_on_the_cpu_may_cost_half_as_much_again_as_neg(op: str) -> None:
    small = {"bytes": 2048, "op": op}
    ours = cpu_row("ours", 1.4, **small)
    yardsticks = [
        cpu_row("torch.neg", 1.0, **small),
        cpu_row("torch.ops.aten.neg.out", 2.0, **small),
    ]
    assert missed(ours, cpu_row("ours, C ABI", 1.4, **small), *yardsticks) == []
    (slow,) = missed(ours, cpu_row("ours, C ABI", 1.6, **small), *yardsticks)
    assert "ours, C ABI over torch.neg: 1.60" in slow
    assert missed(replace(ours, us_median=2.9), *yardsticks) == []
    (slow,) = missed(replace(ours, us_median=3.1), *yardsticks)
    assert "ours over torch.ops.aten.neg.out: 1.55" in slow


@pytest.mark.parametrize("op", MEMORY_BOUND)
def test_every_memory_bound_op_on_the_cpu_has_a_share_of_the_copy_to_reach(op: str) -> None:
    for dtype, least in (("float32", 0.7), ("bfloat16", 0.5)):
        ours = cpu_row("ours", 1000.0, op=op, dtype=dtype)
        fast, slow = (replace(ours, copy_gbps=ours.gbps / (least + d)) for d in (0.01, -0.01))
        assert missed(fast) == []
        assert "share of copy" in missed(slow)[0]


COMPOSED_BY_TORCH = (
    *("silu_and_mul", "gelu_quick", "gelu_new", "silu_and_mul_backward"),
    *("rms_norm", "fused_add_rms_norm_fwd", "apply_rotary_transformers"),
)


@pytest.mark.parametrize("op", COMPOSED_BY_TORCH)
def test_what_torch_has_to_compose_takes_it_five_times_as_long_or_ours_is_a_copy(op: str) -> None:
    ours = cpu_row("ours", 1000.0, op=op)
    slow = replace(ours, copy_gbps=ours.gbps / 0.85)
    assert missed(slow, cpu_row("torch composed", 5010.0, op=op)) == []
    (verdict,) = missed(slow, cpu_row("torch composed", 4700.0, op=op))
    assert "torch composed" in verdict
    at_copy = replace(ours, copy_gbps=ours.gbps / 0.91)
    assert missed(at_copy, cpu_row("torch composed", 1500.0, op=op)) == []


def test_a_floor_of_the_families_knows_how_much_its_figure_varies() -> None:
    ours = cpu_row("ours", 1000.0, op="gelu_fast", turns=(1000.0, 1100.0, 1000.0, 1200.0))
    torch_row = cpu_row("torch composed", 4900.0, op="gelu_fast", turns=(5500.0, 4900.0) * 2)
    floors = families.of("gelu_fast").cpu_floors(
        {"ours": ours, "torch composed": torch_row}, cores=2
    )
    (floor,) = floors
    assert floor.verdict == UNSURE
    assert floor.quartiles == pytest.approx((4.3617, 5.5), abs=1e-3)


def test_a_share_of_the_copy_is_judged_turn_by_turn() -> None:
    moved = cpu_row("ours", 1.0).bytes
    turns = (1000.0, 1000.0, 1040.0, 1100.0)
    ours = cpu_row("ours", 1000.0, copy_gbps=moved / 1e6 / 0.51, turns=turns)
    copy = cpu_row("copy", 510.0, turns=(510.0,) * 4, bytes=moved)
    (floor,) = families.of("silu").cpu_floors({"ours": ours, "copy": copy}, cores=2)
    assert floor.quartiles == pytest.approx((0.484, 0.51), abs=1e-3)
    assert floor.verdict == UNSURE


def test_a_floor_says_what_the_arithmetic_alone_would_reach() -> None:
    ours = cpu_row("ours", 1000.0, op="gelu_quick")
    ours = replace(ours, copy_gbps=ours.gbps / 0.4)
    cached = replace(ours, candidate=OURS_CACHED, us_median=16.0, bytes=ours.bytes // 100)
    composed = cpu_row("torch composed", 3000.0, op="gelu_quick")
    share, speed = missed(ours, composed, cached)
    assert "share of copy: 0.40 >= 0.5 (0.50 in cache)" in share
    assert "0.60 >= 1 (0.75 in cache)" in speed
    assert all("in cache" not in line for line in missed(ours, composed))


def test_gelu_fast_on_the_cpu_must_be_five_times_composed_at_any_speed() -> None:
    ours = cpu_row("ours", 1000.0, op="gelu_fast")
    ours = replace(ours, copy_gbps=ours.gbps)
    assert missed(ours, cpu_row("torch composed", 5100.0, op="gelu_fast")) == []
    assert missed(ours, cpu_row("torch composed", 4900.0, op="gelu_fast")) != []


def test_attention_on_the_cpu_must_keep_up_with_torch_and_decode_three_times_as_fast() -> None:
    for op, least in (("attention_prefill", 1.0), ("attention_decode", 3.0)):
        problem = families.of(op).problem(op, torch.bfloat16, (1, 4, 8, 2, 1, 16))
        row = replace(problem.row("ours", isa="avx512", threads=2), us_median=100.0)
        torch_row = replace(row, candidate="torch fused", us_median=101.0 * least)
        assert missed(row, torch_row) == []
        assert missed(row, replace(torch_row, us_median=99.0 * least)) != []


def test_decoding_on_the_cpu_may_run_at_the_speed_of_reading_instead() -> None:
    shape = (1, 1, 64, 2, 2, 16)
    for op, can in (("attention_prefill", False), ("attention_decode", True)):
        problem = families.of(op).problem(op, torch.bfloat16, shape)
        ours = replace(problem.row("ours", isa="avx512", threads=2), us_median=100.0)
        fused = replace(ours, candidate="torch fused", us_median=99.0)
        # A yardstick of half the bytes, in 45.5 % and in 44.5 % of our time.
        half = problem.bytes // 2
        fast, slow = (
            replace(ours, candidate="read", us_median=time, bytes=half) for time in (45.5, 44.5)
        )
        assert (missed(ours, fused, fast) == []) == can
        (line,) = missed(ours, fused, slow)
        assert ("0.9 x the read's: 0.99 >= 1" in line) == can
        copy = replace(fast, candidate="copy")
        assert missed(replace(ours, copy_gbps=ours.gbps), fused, copy) != []
