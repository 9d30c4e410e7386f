# SPDX-License-Identifier: Apache-2.0
"""The attention kernels against fp64: all shapes, masks, layouts of keys and numbers of splits."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attention_calls import attend as attend_by_name
from attention_grid import (
    DIMS,
    DTYPES,
    HEADS,
    LAYOUTS,
    LENGTHS,
    MASKS,
    NAN_PLACES,
    NAN_RULES,
    SIZES,
    SMALL_DIMS,
    SMALL_SIZES,
    SPLITS,
    compare,
    compare_nan,
)
from attention_reference import BF16, FP32, FP64, Rule, check
from grid import pairwise

COVER = pairwise(SIZES, DIMS, LAYOUTS, MASKS, HEADS, SPLITS, DTYPES)


@pytest.fixture(scope="module")
def attend(load_package: Callable[[str], ModuleType]) -> Callable[..., Any]:
    package = load_package("flash-attn2")
    return lambda q, k, v, **options: attend_by_name(package, q=q, k=k, v=v, **options)


@pytest.mark.parametrize("case", COVER, ids=str)
def test_every_pair_of_the_grid_keeps_the_bounds(
    attend: Callable[..., Any], case: tuple[Any, ...]
) -> None:
    compare(attend, *case)


SMALL = pairwise(SMALL_SIZES, SMALL_DIMS, LAYOUTS, MASKS, HEADS, SPLITS, DTYPES)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_pair_of_small_shapes_keeps_the_bounds(
    attend: Callable[..., Any], case: tuple[Any, ...]
) -> None:
    compare(attend, *case)


def test_a_long_call_keeps_the_bounds(attend: Callable[..., Any]) -> None:
    compare(attend, (1023, 2048), 128, "dense", "causal", (4, 2), 1, BF16)


LEVELS = {
    "scalar": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512bw", "avx512dq"},
    "avx512_bf16": {"avx512_bf16"},
    "amx": {"avx512_bf16", "amx_tile", "amx_bf16"},
}


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


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("rows", [1, 40])
def test_large_scores_do_not_overflow(
    attend: Callable[..., Any], rows: int, dtype: torch.dtype
) -> None:
    q, k, v = (torch.randn(3, 1, 300, 2, 64) * 30).to(dtype)
    q = q[:, :rows]
    out, lse = attend(q, k, v)
    assert out.isfinite().all()
    assert lse.isfinite().all()


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("size_of_q", [2e19, 1e-20])
@pytest.mark.parametrize("sign", [1, -1])
def test_large_scores_may_come_from_the_scale_alone(
    attend: Callable[..., Any], rows: int, dtype: torch.dtype, size_of_q: float, sign: int
) -> None:
    """Products of q and k would not fit into fp32, scores do."""
    q, k, v = torch.randn(3, 1, 300, 2, 64)
    q, k, v = (q[:, :rows] * size_of_q).to(dtype), (k * size_of_q).to(dtype), v.to(dtype)
    scale = sign * 0.1 / size_of_q**2
    out, lse = attend(q, k, v, softmax_scale=scale)
    scores = torch.einsum("bihd,bjhd->bhij", q.double(), k.double()) * scale
    exact = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v.double())
    bound = 2e-6 if dtype == FP32 else 3e-3
    assert (out.double() - exact).norm() <= bound * exact.norm()
    torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out_as_nan(
    attend: Callable[..., Any], rows: int, value: float, dtype: torch.dtype
) -> None:
    q, k, v = torch.randn(3, 1, 300, 2, 64).to(dtype)
    q = q[:, :rows].clone()
    q[0, 0, 1, 3] = value
    out, lse = attend(q, k, v)
    assert out[0, 0, 1].isnan().all()
    assert lse[0, 1, 0].isnan()
    assert out[0, 0, 0].isfinite().all()
    assert out[0, 1:].isfinite().all()


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("rule", NAN_RULES)
@pytest.mark.parametrize("where", NAN_PLACES, ids=str)
@pytest.mark.parametrize(("rows", "dtype"), [(4, FP32), (40, BF16), (70, FP32), (70, FP64)])
def test_nan_comes_out_where_it_is_seen_and_nowhere_else(
    attend: Callable[..., Any],
    rows: int,
    dtype: torch.dtype,
    where: dict[str, int],
    rule: Rule,
    splits: int,
) -> None:
    compare_nan(attend, rows, dtype, where, rule, splits)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_nan_comes_out_with_the_same_bits_alone_and_in_a_batch(
    attend: Callable[..., Any], dtype: torch.dtype
) -> None:
    """In a batch, blocks that see all of a tile share it with such that do not."""
    q, k, v = torch.randn(3, 32, 512, 4, 32).to(dtype)
    v[:, 5, :, 3] = torch.nan
    v[:, 300, 1] = torch.inf
    out, lse = attend(q, k, v, causal=True)
    alone, alone_lse = attend(q[:1], k[:1], v[:1], causal=True)
    assert torch.equal(alone.isnan(), out[:1].isnan())
    assert torch.equal(alone.nan_to_num(), out[:1].nan_to_num())
    assert torch.equal(alone_lse, lse[:1])


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


@pytest.mark.parametrize(
    ("rows", "keys", "heads", "kv_heads"),
    [(600, 600, 4, 4), (1, 5000, 32, 8), (2, 3000, 40, 40), (40, 3000, 4, 2)],
    ids=["blocks", "split-and-dealt-out", "heads-of-two-pieces", "split-blocks"],
)
def test_repetition_and_threads_change_no_bit(
    attend: Callable[..., Any], rows: int, keys: int, heads: int, kv_heads: int
) -> None:
    q = torch.randn(2, rows, heads, 64)
    k, v = torch.randn(2, 2, keys, kv_heads, 64)
    torch.set_num_threads(1)
    expected = attend(q, k, v, causal=True)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for _ in range(7):
            out, lse = attend(q, k, v, causal=True)
            assert torch.equal(out, expected[0])
            assert torch.equal(lse, expected[1])


@pytest.mark.parametrize("window", [1, 127, 128, 500, 5000])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_window_over_a_long_cache_sees_its_keys_alone(
    attend: Callable[..., Any], rows: int, window: int
) -> None:
    q = torch.randn(1, rows, 4, 64)
    k, v = torch.randn(2, 1, 3001, 2, 64)
    out, lse = attend(q, k, v, causal=True, window_size=(window - 1, 0))
    first = max(0, 3001 - rows - window + 1)
    for tensor in (k, v):
        tensor[:, :first] = torch.nan
    same, same_lse = attend(q, k, v, causal=True, window_size=(window - 1, 0))
    assert torch.equal(same, out)
    assert torch.equal(same_lse, lse)
    alone = attend(q, k[:, first:], v[:, first:], causal=True, window_size=(window - 1, 0))
    torch.testing.assert_close(alone[0], out, rtol=2e-5, atol=2e-6)
