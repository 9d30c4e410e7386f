# SPDX-License-Identifier: Apache-2.0
"""The attention kernels against fp64: all shapes, masks, layouts of keys and numbers of splits."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attention_calls import attend as attend_by_name
from attention_reference import BF16, FP16, FP32, FP64, Rule, check, visible
from grid import pairwise

DIMS = (32, 40, 64, 80, 96, 128, 160, 192, 256)
LENGTHS = (1, 2, 63, 64, 113, 128, 203, 512, 1023, 2048)
# Each length as queries and as keys, equal and unequal, more queries than keys and fewer.
SIZES = (
    (1, 1), (1, 128), (1, 203), (1, 2048), (2, 63), (2, 1023), (63, 64), (64, 2), (64, 512),
    (113, 203), (113, 113), (128, 64), (128, 128), (203, 1023), (203, 113), (512, 512), (512, 203),
    (1023, 1), (512, 1023), (2048, 63), (63, 1),
)  # fmt: skip
HEADS = ((2, 2), (6, 2), (4, 1), (10, 1))
MASKS = ("none", "causal", "local", "softcap", "alibi", "sink")
LAYOUTS = ("dense", "varlen", "cache", "paged")
SPLITS = (1, 2, 7, 0)
DTYPES = (FP32, BF16, FP16)
COVER = pairwise(SIZES, DIMS, LAYOUTS, MASKS, HEADS, SPLITS, DTYPES)
PAGE = 16


@pytest.fixture(scope="module")
def attend(load_package: Callable[[str], ModuleType]) -> Callable[..., Any]:
    package = load_package("flash-attn2")
    return lambda q, k, v, **options: attend_by_name(package, q=q, k=k, v=v, **options)


def rule_of(mask: str, heads: int) -> Rule:
    if mask == "softcap":
        return Rule(causal=True, softcap=5.0)
    if mask == "alibi":
        return Rule(causal=True, alibi=torch.rand(heads) * 0.3)
    if mask == "sink":
        return Rule(sinks=torch.randn(heads))
    if mask == "local":
        return Rule(window=(37, 5))
    return Rule(causal=mask == "causal")


def arguments_of(rule: Rule) -> dict[str, Any]:
    return {
        "causal": rule.causal,
        "window_size": rule.window,
        "softcap": rule.softcap,
        "alibi_slopes": rule.alibi,
        "s_aux": rule.sinks,
        "softmax_scale": rule.scale,
    }


def in_pages(dense: torch.Tensor, lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys `[B, S, H, D]` in shuffled pages of NaN-filled memory, and their table."""
    pages = -(-dense.shape[1] // PAGE)
    count = dense.shape[0] * pages + 3
    memory = torch.full((count, PAGE, *dense.shape[2:]), float("nan"), dtype=dense.dtype)
    table = torch.randperm(count)[: dense.shape[0] * pages].reshape(dense.shape[0], pages).int()
    for b, length in enumerate(lengths):
        for j in range(length):
            memory[table[b, j // PAGE], j % PAGE] = dense[b, j]
    return memory, table


def compare(
    attend: Callable[..., Any],
    size: tuple[int, int],
    dim: int,
    layout: str,
    mask: str,
    heads: tuple[int, int],
    splits: int,
    dtype: torch.dtype,
) -> None:
    rows, keys = size
    rule = rule_of(mask, heads[0])
    extra = arguments_of(rule) | {"num_splits": splits}
    batch = 2
    q = torch.randn(batch, rows, heads[0], dim).to(dtype)
    k, v = torch.randn(2, batch, keys, heads[1], dim).to(dtype)
    if layout == "dense":
        out, lse = attend(q, k, v, **extra)
        check(out, lse, q, k, v, rule)
        return
    lengths = [keys, max(keys - 29, 0)]
    used = torch.tensor(lengths, dtype=torch.int32)
    if layout == "varlen":
        q_lengths = [rows, max(rows - 17, 0)]
        cu_q = torch.tensor([0, *itertools.accumulate(q_lengths)], dtype=torch.int32)
        cu_k = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        flat_q = torch.cat([q[b, :n] for b, n in enumerate(q_lengths)])
        flat_k = torch.cat([k[b, :n] for b, n in enumerate(lengths)])
        flat_v = torch.cat([v[b, :n] for b, n in enumerate(lengths)])
        out, lse = attend(flat_q, flat_k, flat_v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, **extra)
        for b in range(batch):
            s, n = slice(cu_q[b], cu_q[b + 1]), lengths[b]
            one = (q[b : b + 1, : q_lengths[b]], k[b : b + 1, :n], v[b : b + 1, :n])
            check(out[None, s], lse[None, :, s], *one, rule)
        return
    if layout == "cache":
        for cache in (k, v):
            cache[1, lengths[1] :] = float("nan")
        out, lse = attend(q, k, v, seqused_k=used, **extra)
    else:
        (k_pages, table), (v_pages, v_table) = in_pages(k, lengths), in_pages(v, lengths)
        v_pages[table.long()] = v_pages[v_table.long()]  # the same table serves both
        table[1, -(-lengths[1] // PAGE) :] = -7  # never read
        out, lse = attend(q, k_pages, v_pages, seqused_k=used, block_table=table, **extra)
    for b, n in enumerate(lengths):
        one = slice(b, b + 1)
        check(out[one], lse[one], q[one], k[one, :n], v[one, :n], rule)


@pytest.mark.parametrize("case", COVER, ids=str)
def test_every_pair_of_the_grid_keeps_the_bounds(
    attend: Callable[..., Any], case: tuple[Any, ...]
) -> None:
    compare(attend, *case)


SMALL = pairwise(
    ((1, 203), (2, 63), (64, 2), (70, 203)), (32, 40, 128), LAYOUTS, MASKS, HEADS, SPLITS, DTYPES
)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_pair_of_small_shapes_keeps_the_bounds(
    attend: Callable[..., Any], case: tuple[Any, ...]
) -> None:
    compare(attend, *case)


def test_a_long_call_keeps_the_bounds(attend: Callable[..., Any]) -> None:
    compare(attend, (1023, 2048), 128, "dense", "causal", (4, 2), 1, BF16)


LEVELS = {"scalar": set(), "avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512bw", "avx512dq"}}


@pytest.mark.usefixtures("load_package")
@pytest.mark.parametrize("level", LEVELS)
def test_each_instruction_set_keeps_the_bounds(level: str) -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if not LEVELS[level] <= flags:
        pytest.skip(f"this CPU has no {level}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    chosen = "small_shapes or many_key_heads or another_dimension or large_scores or come"
    command += ["-k", chosen]
    child = subprocess.run(
        command, env=os.environ | {"KERNELHUB_CPU_ISA": level}, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stdout[-4000:]
    assert " passed" in child.stdout


@pytest.mark.slow
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_whole_grid_keeps_the_bounds(attend: Callable[..., Any], layout: str, dim: int) -> None:
    few = [size for size in itertools.product(LENGTHS, LENGTHS) if size[0] * size[1] <= 1 << 18]
    for size, mask, heads, splits in itertools.product(few, MASKS, HEADS, SPLITS):
        compare(attend, size, dim, layout, mask, heads, splits, BF16)


@pytest.mark.parametrize("dtype", [*DTYPES, FP64])
@pytest.mark.parametrize("dim_v", [8, 128, 256])
@pytest.mark.parametrize("rows", [1, 70])
def test_values_may_have_another_dimension(
    attend: Callable[..., Any], rows: int, dim_v: int, dtype: torch.dtype
) -> None:
    q = torch.randn(1, rows, 2, 192).to(dtype)
    k, v = torch.randn(1, 150, 1, 192).to(dtype), torch.randn(1, 150, 1, dim_v).to(dtype)
    check(*attend(q, k, v, causal=True), q, k, v, Rule(causal=True))


@pytest.mark.parametrize("mask", MASKS)
def test_fp64_is_exact(attend: Callable[..., Any], mask: str) -> None:
    compare(attend, (70, 150), 40, "dense", mask, (4, 2), 0, FP64)


@pytest.mark.parametrize("mask", ["none", "local", "alibi"])
@pytest.mark.parametrize("heads", [(70, 70), (120, 40)], ids=str)
def test_many_key_heads_keep_the_bounds(
    attend: Callable[..., Any], heads: tuple[int, int], mask: str
) -> None:
    compare(attend, (2, 300), 40, "paged", mask, heads, 0, FP32)


@pytest.mark.parametrize("rows", [1, 40])
def test_large_scores_do_not_overflow(attend: Callable[..., Any], rows: int) -> None:
    q, k, v = torch.randn(3, 1, 300, 2, 64) * 30
    q = q[:, :rows]
    out, lse = attend(q, k, v)
    assert out.isfinite().all()
    assert lse.isfinite().all()


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out_as_nan(
    attend: Callable[..., Any], rows: int, value: float
) -> None:
    q, k, v = torch.randn(3, 1, 300, 2, 64)
    q = q[:, :rows].clone()
    q[0, 0, 1, 3] = value
    out, lse = attend(q, k, v)
    assert out[0, 0, 1].isnan().all()
    assert lse[0, 1, 0].isnan()
    assert out[0, 0, 0].isfinite().all()
    assert out[0, 1:].isfinite().all()


def nan_places(shape: Sequence[int], where: dict[str, int], seen: torch.Tensor) -> torch.Tensor:
    """Bool, shaped as out: where a NaN in q, k or v (row, or key; column 3) must come out."""
    places = torch.zeros(*shape, dtype=torch.bool)
    if "q" in where:
        places[:, where["q"]] |= seen[where["q"]].any()
    if "k" in where:
        places |= seen[:, where["k"]][None, :, None, None]
    if "v" in where:
        places[..., 3] |= seen[:, where["v"]][None, :, None]
    return places


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("rule", [Rule(causal=True), Rule(window=(0, 0)), Rule(window=(150, 40))])
@pytest.mark.parametrize("where", [{"q": 2}, {"k": 290}, {"v": 290}, {"k": 1, "v": 200}], ids=str)
@pytest.mark.parametrize(("rows", "dtype"), [(4, FP32), (40, BF16), (70, FP32), (70, FP64)])
def test_nan_comes_out_where_it_is_seen_and_nowhere_else(
    attend: Callable[..., Any],
    rows: int,
    dtype: torch.dtype,
    where: dict[str, int],
    rule: Rule,
    splits: int,
) -> None:
    """Through masks, splits and rows that see one key only; the other keys' NaN stay unseen."""
    q = torch.randn(1, rows, 2, 40, dtype=dtype)
    k, v = torch.randn(2, 1, 300, 2, 40, dtype=dtype)
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if name in where:
            tensor[:, where[name], :, 3] = float("nan")
    out, lse = attend(q, k, v, **arguments_of(rule), num_splits=splits)
    seen = visible(rows, 300, rule)
    assert torch.equal(out.isnan(), nan_places(out.shape, where, seen))
    rows_of_lse = {name: row for name, row in where.items() if name != "v"}
    expected = nan_places(out.shape, rows_of_lse, seen)[..., 0].transpose(1, 2)
    assert torch.equal(lse.isnan(), expected)


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize(
    ("rows", "keys", "heads", "dim"), [(1, 3000, 4, 32), (1, 2000, 12, 64), (100, 700, 4, 32)]
)
def test_a_sequence_has_the_same_bits_alone_and_in_a_batch(
    attend: Callable[..., Any], rows: int, keys: int, heads: int, dim: int, splits: int
) -> None:
    """Alone its heads may be dealt out over pieces of their own."""
    q = torch.randn(64, rows, heads, dim).bfloat16()
    k, v = torch.randn(2, 64, keys, heads // 2, dim).bfloat16()
    out, lse = attend(q, k, v, causal=True, num_splits=splits)
    for b in (0, 17, 63):
        one = slice(b, b + 1)
        alone, alone_lse = attend(q[one], k[one], v[one], causal=True, num_splits=splits)
        assert torch.equal(alone, out[one])
        assert torch.equal(alone_lse, lse[one])


def test_repetition_and_threads_change_no_bit(attend: Callable[..., Any]) -> None:
    q, k, v = torch.randn(3, 2, 600, 4, 64)
    torch.set_num_threads(1)
    expected = attend(q, k, v, causal=True)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for _ in range(7):
            out, lse = attend(q, k, v, causal=True)
            assert torch.equal(out, expected[0])
            assert torch.equal(lse, expected[1])
