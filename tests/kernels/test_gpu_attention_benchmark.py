# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/gpu would measure of attention, tried on the CPU build where that goes."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import tvm_ffi

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "gpu"), str(ROOT / "tests/gpu")]

import families  # noqa: E402
from families import attention  # noqa: E402
from families.attention import CAUSAL, DECODE, PREFILL  # noqa: E402
from families.family import Candidate, Problem  # noqa: E402
from floors import floors as gpu_floors  # noqa: E402
from problem_worker import checked, sample  # noqa: E402
from protocol.rows import ABSENT, MEASURED, Result, Row  # noqa: E402

_spec = importlib.util.spec_from_file_location(
    "gpu_benchmark_of_attention", ROOT / "benchmarks" / "gpu" / "driver.py"
)
assert _spec is not None and _spec.loader is not None
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)

FAMILY = families.of(PREFILL)
KINDS = (
    *((PREFILL, "aligned"), (PREFILL, "balanced"), (PREFILL, "mixed")),
    *((CAUSAL, "aligned"), (CAUSAL, "balanced"), (CAUSAL, "mixed")),
    *((DECODE, "aligned"), (DECODE, "paged")),
)


def of_kind(op: str, kind: str) -> Problem:
    """The first problem of a GPU run with such keys."""
    return next(
        problem
        for problem in FAMILY.gpu_problems(op, is_quick=False)
        if kind in (problem.setting.get("lengths"), problem.setting["layout"])
    )


def small(op: str, kind: str) -> Problem:
    """A problem of a GPU run, cut to what a CPU computes at once."""
    problem = of_kind(op, kind)
    shape = (2, 1, 256, 8, 2, 64) if op == DECODE else (2, 96, 96, 4, 2, 64)
    return replace(FAMILY.problem(op, problem.dtype, shape), setting=problem.setting)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[[Candidate, Problem], Row]:
    """What the driver finds when it checks a candidate."""
    monkeypatch.setattr("problem_worker.DEVICE", "cpu")
    monkeypatch.setattr("problem_worker.gpu_is_usable", lambda: True)

    def found(candidate: Candidate, problem: Problem) -> Row:
        return checked(candidate, FAMILY, problem, sample(FAMILY, problem))

    return found


@pytest.mark.parametrize(("op", "kind"), KINDS)
def test_ours_and_torch_compute_what_the_family_calls_exact(
    op: str,
    kind: str,
    outcome: Callable[[Candidate, Problem], Row],
    load_package: Callable[[str], ModuleType],
) -> None:
    problem = small(op, kind)
    module = load_package("flash-attn2")
    build = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / "flash-attn2" / "build"
    (library,) = build.glob("tvm-ffi*-cpu-*/*.so")
    c_call = getattr(tvm_ffi.load_module(str(library)), FAMILY.c_op(op))
    ours = Candidate("ours", partial(FAMILY.ours, problem, module))
    over_c = Candidate("ours", lambda each: partial(c_call, *FAMILY.arguments(problem, each)))
    assert outcome(ours, problem).status == MEASURED
    assert outcome(over_c, problem).status == MEASURED
    fused = FAMILY.fused(problem)
    assert (fused is None) == (kind != "aligned")
    if fused:
        assert outcome(Candidate("torch fused", fused), problem).status == MEASURED
        of_others = {"causal": op != CAUSAL} if op != DECODE else {"softmax_scale": 0.2}
        function = module.flash_attn_with_kvcache if op == DECODE else module.flash_attn_func
        wrong = Candidate("ours", lambda each: partial(function, *each.inputs, **of_others))
        assert outcome(wrong, problem).status == "FAIL"


class PlannedDecode:
    """FlashInfer's wrapper by what its documentation says of the arguments, computed by ours."""

    def __init__(
        self, module: ModuleType, workspace: torch.Tensor, layout: str, use_tensor_cores: bool
    ) -> None:
        assert (layout, use_tensor_cores, workspace.nbytes) == ("NHD", True, 128 << 20)
        self.module = module

    def plan(
        self,
        first_pages: torch.Tensor,
        pages: torch.Tensor,
        in_last_page: torch.Tensor,
        *sizes: int,
        **dtypes: torch.dtype,
    ) -> None:
        self.sizes, self.dtypes = sizes, dtypes
        counts = first_pages.diff()
        self.table = torch.stack(pages.split(counts.tolist()))
        self.lengths = ((counts - 1) * sizes[-1] + in_last_page).int()

    def run(self, q: torch.Tensor, cache: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        assert self.sizes == (q.shape[1], *cache[0].shape[2:], cache[0].shape[1])
        assert set(self.dtypes.values()) == {q.dtype}
        flags = {"cache_seqlens": self.lengths, "block_table": self.table}
        out: torch.Tensor = self.module.flash_attn_with_kvcache(q.unsqueeze(1), *cache, **flags)
        return out.squeeze(1)


@pytest.mark.parametrize(("op", "kind"), KINDS)
def test_backends_of_torch_and_installed_libraries_stand_beside_ours(
    op: str,
    kind: str,
    outcome: Callable[[Candidate, Problem], Row],
    load_package: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = load_package("flash-attn2")

    def with_cache(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **flags: object) -> object:
        flags["block_table"] = flags.pop("page_table", None)  # as version 3 calls it
        return module.flash_attn_with_kvcache(q, k, v, **flags)

    installed = SimpleNamespace(
        flash_attn_func=lambda *tensors, causal: (
            module.flash_attn_func(*tensors, causal=causal),
            "log-sum-exp",
        ),
        flash_attn_varlen_func=module.flash_attn_varlen_func,
        flash_attn_with_kvcache=with_cache,
    )
    monkeypatch.setitem(sys.modules, "flash_attn_interface", installed)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    wrapper = partial(PlannedDecode, module)
    decode = SimpleNamespace(BatchDecodeWithPagedKVCacheWrapper=wrapper)
    monkeypatch.setitem(sys.modules, "flashinfer.decode", decode)
    problem = small(op, kind)
    rows = {one.name: outcome(one, problem) for one in FAMILY.others(problem, None)}
    assert list(rows) == [*attention.BACKENDS, *attention.WHEELS, "flashinfer"]
    assert rows["flash_attn 3"].status == MEASURED
    assert rows["flashinfer"].status == (MEASURED if op == DECODE else ABSENT)
    assert rows["flash_attn 2"].status == ABSENT
    assert rows["sdpa cudnn"].status == ABSENT  # none for the CPU
    assert rows["sdpa flash"].status == (MEASURED if kind == "aligned" else ABSENT)
    assert all(row.reason for row in rows.values() if row.status == ABSENT)


def test_a_full_run_holds_the_published_setting_and_caches_dense_and_in_pages() -> None:
    prompts = [
        problem
        for problem in FAMILY.gpu_problems(PREFILL, is_quick=False)
        if "lengths" not in problem.setting
    ]
    assert {problem.shape[-1] for problem in prompts} == {64, 128, 256}
    for problem in prompts:
        batch, queries, keys, heads, kv_heads, dim = problem.shape
        assert (batch * queries, queries, heads * dim, heads) == (16384, keys, 2048, kv_heads)
        assert problem.flops == 4 * 16384 * keys * 2048
    causal = next(FAMILY.gpu_problems(CAUSAL, is_quick=False))
    assert causal.flops == prompts[0].flops // 2
    caches = list(FAMILY.gpu_problems(DECODE, is_quick=False))
    assert {problem.setting.get("page", 0) for problem in caches} == {0, 16, 64, 256}
    assert max(problem.shape[0] * problem.shape[2] for problem in caches) >= 256 << 10
    read = 2 * 8 * 32768 * 4 * 128 * 2
    (cache,) = {problem.bytes for problem in caches if problem.shape[0] == 8}
    assert read <= cache <= 1.001 * read
    assert {problem.op for _, problem in benchmark.problems(["attention"], True)} == {
        *(PREFILL, CAUSAL, DECODE)
    }


def timed(problem: Problem, candidate: str, us: float, **fields: object) -> Row:
    return replace(problem.row(candidate), us_median=us, **fields)  # type: ignore[arg-type]


def missed(*rows: Row, dense: Row | None = None) -> list[str]:
    found = FAMILY.gpu_floors({row.candidate: row for row in rows}, {}, dense)
    return [str(floor) for floor in found if not floor.holds]


def prompt(op: str, length: int, dim: int) -> Problem:
    return next(
        problem
        for problem in FAMILY.gpu_problems(op, is_quick=False)
        if problem.shape[1] == length and problem.shape[-1] == dim
    )


@pytest.mark.parametrize(
    ("op", "length", "dim", "tflops"),
    [(PREFILL, 2048, 64, 318), (CAUSAL, 4096, 128, 319), (PREFILL, 16384, 256, 326)],
)
def test_prompts_must_reach_flash_attention_2_on_an_h100(
    op: str, length: int, dim: int, tflops: float
) -> None:
    problem = prompt(op, length, dim)
    us = problem.flops / tflops / 1e6
    assert missed(timed(problem, "ours", 0.99 * us)) == []
    (slow,) = missed(timed(problem, "ours", 1.01 * us))
    assert f"TFLOP/s: {tflops / 1.01:.2f} >= {tflops}" in slow


def test_short_prompts_have_no_floor() -> None:
    problem = prompt(PREFILL, 1024, 128)
    assert missed(timed(problem, "ours", 1e9), timed(problem, "sdpa flash", 1.0)) == []


def test_prompts_must_keep_up_with_torch_and_nearly_with_the_best() -> None:
    problem = prompt(PREFILL, 4096, 128)
    ours = timed(problem, "ours", 100.0)
    assert missed(ours, timed(problem, "sdpa flash", 101.0)) == []
    assert "against sdpa flash" in missed(ours, timed(problem, "sdpa flash", 99.0))[0]
    cudnn = timed(problem, "sdpa cudnn", 93.0)
    assert missed(ours, cudnn, timed(problem, "flash_attn 3", 93.0)) == []
    (slow,) = missed(ours, cudnn, timed(problem, "flash_attn 3", 91.0))
    assert "against flash_attn 3: 0.91 >= 0.92" in slow
    wide = prompt(PREFILL, 4096, 256)
    assert missed(timed(wide, "ours", 100.0), timed(wide, "sdpa cudnn", 50.0)) == []


def test_large_caches_must_be_read_at_four_fifths_of_the_copy_in_pages_too() -> None:
    caches = list(FAMILY.gpu_problems(DECODE, is_quick=False))
    dense, paged = (
        next(one for one in caches if one.shape[0] == 8 and one.setting.get("page", 0) == page)
        for page in (0, 16)
    )
    us = dense.bytes / 4300.0 / 1e3 / 0.8
    ours = timed(dense, "ours", 0.99 * us, copy_gbps=4300.0)
    assert missed(ours) == []
    assert "% of copy" in missed(replace(ours, us_median=1.01 * us))[0]
    assert "against flash_attn 3" in missed(ours, timed(dense, "flash_attn 3", 0.9 * us))[0]
    assert missed(timed(paged, "ours", 1.03 * us), dense=ours) == []
    (slow,) = missed(timed(paged, "ours", 1.05 * us), dense=ours)
    assert "in pages of 16" in slow
    few = next(one for one in caches if one.shape[0] == 1)
    assert missed(timed(few, "ours", 1e6, copy_gbps=4300.0)) == []
    assert "against flashinfer" in missed(ours, timed(dense, "flashinfer", 0.9 * us))[0]


def test_packed_prompts_are_as_many_tokens_as_the_dense_batch_or_of_all_lengths() -> None:
    dense = prompt(PREFILL, 4096, 128)
    balanced, mixed = of_kind(PREFILL, "balanced"), of_kind(PREFILL, "mixed")
    assert attention.sequence_lengths(balanced) == [4096] * 4
    assert (balanced.flops, balanced.bytes) == (dense.flops, dense.bytes)
    lengths = attention.sequence_lengths(mixed)
    assert (min(lengths), max(lengths), len(set(lengths))) == (1, 4096, 16)
    assert lengths[:2] == [1, 4096]  # neighbours differ
    assert mixed.flops == 4 * 2048 * sum(one * one for one in lengths)
    assert mixed.bytes == dense.bytes * sum(lengths) // 16384


@pytest.mark.parametrize(("kind", "least"), [("balanced", 0.95), ("mixed", 0.8)])
def test_packed_prompts_must_keep_the_rate_of_the_dense_batch(kind: str, least: float) -> None:
    dense = timed(prompt(CAUSAL, 4096, 128), "ours", 1000.0)
    packed = of_kind(CAUSAL, kind)
    us = 1000.0 * packed.flops / dense.flops / least
    assert missed(timed(packed, "ours", 0.99 * us), dense=dense) == []
    (slow,) = missed(timed(packed, "ours", 1.01 * us), dense=dense)
    assert f"{kind} lengths" in slow


def test_the_driver_finds_the_dense_row_of_packed_and_of_paged_problems() -> None:
    rows = []
    for op, kind in KINDS:
        if kind != "aligned":
            other = of_kind(op, kind)
            same = next(one for one in FAMILY.gpu_problems(op, False) if one.shape == other.shape)
            rows += [timed(same, "ours", 1.0), timed(other, "ours", 1e6)]
    found = [floor.what for floor in gpu_floors(Result({}, {}, rows)) if not floor.holds]
    assert sum("lengths: TFLOP/s over the dense" in what for what in found) == 4
    assert sum("time over the dense cache's" in what for what in found) == 1
