# SPDX-License-Identifier: Apache-2.0
"""The sm_90a forward of flash-attention without a GPU: which calls it takes, and its own source on
emulated warpgroups.
"""

import itertools
import math

import attention_reference as reference
import grid
import pytest
import torch
from flash_attention_emulator import Emulator, Options
from test_flash_attention_cuda import (
    BF16,
    FP16,
    RULES,
    Case,
    ints,
    paged,
    randn,
    run_case,
)

# Of q and k, and of v where that differs: each fills a tile, or is zeros in part.
DIMS = (40, 64, 96, 128, (136, 8), 160, (192, 128), 192, 200, (64, 256), 256)
ROWS = (33, 64, 128, 203)
KEYS = (1, 113, 128, 300)
HEADS = ((1, 1), (4, 2), (3, 1), (7, 1))
LAYOUTS = ("dense", "varlen")
HOPPER = {"capability": 90}

COVER = grid.pairwise(DIMS, ROWS, KEYS, HEADS, RULES, LAYOUTS, (1,), (BF16, FP16))


@pytest.mark.parametrize("case", COVER, ids=str)
def test_the_attention_grid_holds_the_tolerances(emulator: Emulator, case: Case) -> None:
    """On so few processors that a block takes several works in turn."""
    seed = len(str(case))
    run_case(emulator, case, seed=seed, capability=90, processors=1 + seed % 3)
    assert emulator.why_not_sm90 is None


@pytest.mark.parametrize("dim", [64, 96, 128, 192, 256])
def test_every_timing_of_copies_products_and_warps_gives_the_same_bits(
    emulator: Emulator, dim: int
) -> None:
    """One block takes all works in turn, or every block one; copies and products as they like."""
    q, k, v = (randn(1, n, 2, dim, dtype=BF16) for n in (200, 420, 420))
    first = emulator.forward(q, k, v, Options(causal=True, splits=1, seed=1, **HOPPER))
    for seed in range(2, 8):
        options = Options(causal=True, splits=1, seed=seed, processors=1 + seed % 3, **HOPPER)
        out, lse, _ = emulator.forward(q, k, v, options)
        assert emulator.why_not_sm90 is None
        assert torch.equal(out, first[0])
        assert torch.equal(lse, first[1])


def test_a_row_does_not_depend_on_the_batch_around_it(emulator: Emulator) -> None:
    q, k, v = (randn(4, n, 2, 64, dtype=BF16) for n in (40, 150, 150))
    options = Options(causal=True, splits=1, **HOPPER)
    out, lse, _ = emulator.forward(q, k, v, options)
    alone, alone_lse, _ = emulator.forward(q[2:3], k[2:3], v[2:3], options)
    assert emulator.why_not_sm90 is None
    assert torch.equal(out[2:3], alone)
    assert torch.equal(lse[2:3], alone_lse)


def test_a_batch_that_repeats_its_keys_takes_the_same_kernel(emulator: Emulator) -> None:
    q = randn(3, 40, 2, 64, dtype=BF16)
    k, v = (randn(1, 150, 2, 64, dtype=BF16).expand(3, -1, -1, -1) for _ in range(2))
    options = Options(causal=True, splits=1, **HOPPER)
    out, lse, _ = emulator.forward(q, k, v, options)
    assert emulator.why_not_sm90 is None
    reference.check(out, lse, q, k, v, reference.Rule(causal=True))


def test_what_lies_behind_a_sequence_does_not_reach_it(emulator: Emulator) -> None:
    """A box holds the first keys of the next sequence, and rows that nobody uses: all NaN."""
    q = randn(150, 2, 128, dtype=BF16)
    k, v = (randn(400, 2, 128, dtype=BF16) for _ in range(2))
    k[130:190], v[130:190] = math.nan, math.nan
    k[300:], v[300:] = math.nan, math.nan
    options = Options(
        cu_q=ints(0, 60, 120), cu_k=ints(0, 190, 300), used_k=ints(130, 110), used_q=ints(60, 50)
    )
    out, lse, _ = emulator.forward(q, k, v, Options(**{**options.__dict__, "splits": 1, **HOPPER}))
    assert emulator.why_not_sm90 is None
    for queries, keys in ((slice(0, 60), slice(0, 130)), (slice(60, 110), slice(190, 300))):
        tensors = (q[None, queries], k[None, keys], v[None, keys])
        reference.check(out[None, queries], lse[None, :, queries], *tensors, reference.Rule())
    assert not out[110:].any()
    assert lse[:, 110:].isneginf().all()


@pytest.mark.parametrize("dim", [64, 96, 128, 192, 256])
def test_what_lies_behind_sequences_in_turn_does_not_reach_them(
    emulator: Emulator, dim: int
) -> None:
    """One block takes sequences of one tile of keys and of more, NaN behind every one: the last
    rows of V are cleared in each of its places in turn.
    """
    rows, used, gap = 40, (5, 130, 90, 0, 200, 17, 128), 9
    cu_k = ints(0, *itertools.accumulate(n + gap for n in used))
    cu_q = ints(*range(0, rows * len(used) + 1, rows))
    q = randn(rows * len(used), 1, dim, dtype=BF16)
    k, v = (randn(int(cu_k[-1]), 1, dim, dtype=BF16) for _ in range(2))
    for end in cu_k[1:].tolist():
        k[end - gap : end], v[end - gap : end] = math.nan, math.nan
    for seed in range(3):
        options = Options(
            cu_q=cu_q, cu_k=cu_k, used_k=ints(*used), processors=1, seed=seed, **HOPPER
        )
        out, lse, _ = emulator.forward(q, k, v, options)
        assert emulator.why_not_sm90 is None
        for b, keys in enumerate(used):
            own = slice(b * rows, (b + 1) * rows)
            seen = slice(int(cu_k[b]), int(cu_k[b]) + keys)
            tensors = (q[None, own], k[None, seen], v[None, seen])
            reference.check(out[None, own], lse[None, :, own], *tensors, reference.Rule())


def test_left_padding_and_pitches_of_whole_16_bytes(emulator: Emulator) -> None:
    q = randn(2, 40, 2, 72, dtype=FP16)[..., :64]
    k, v = (randn(2, 200, 2, 80, dtype=FP16)[..., 8:72] for _ in range(2))
    room = torch.full((2, 40, 2, 72), 77.0, dtype=FP16)
    out = room[..., :56]
    options = Options(causal=True, leftpad=ints(13, 0), used_k=ints(180, 200), splits=1, **HOPPER)
    _, lse, _ = emulator.forward(q, k, v[..., :56], options, out)
    assert emulator.why_not_sm90 is None
    for b, (begin, end) in enumerate(((13, 180), (0, 200))):
        one, keys = slice(b, b + 1), slice(begin, end)
        rule = reference.Rule(causal=True)
        reference.check(out[one], lse[one], q[one], k[one, keys], v[one, keys, :, :56], rule)
    assert (room[..., 56:] == 77.0).all()


def test_scales_that_are_zero_or_negative(emulator: Emulator) -> None:
    q, k, v = (randn(1, 70, 1, 64, dtype=FP16) for _ in range(3))
    for scale in (0.0, -0.2):
        out, lse, _ = emulator.forward(q, k, v, Options(scale=scale, splits=1, **HOPPER))
        assert emulator.why_not_sm90 is None
        reference.check(out, lse, q, k, v, reference.Rule(scale=scale))


def test_nan_spreads_as_in_eager(emulator: Emulator) -> None:
    q, k, v = (randn(1, 170, 1, 64, dtype=FP16) for _ in range(3))
    q[0, 3, 0, 5] = math.nan
    k[0, 160, 0, 2] = math.nan
    out, lse, _ = emulator.forward(q, k, v, Options(causal=True, splits=1, **HOPPER))
    assert emulator.why_not_sm90 is None
    exact, _ = reference.attention(q, k, v, reference.Rule(causal=True))
    assert torch.equal(out.isnan(), exact.isnan())
    assert torch.equal(lse.isnan()[0, 0], exact.isnan()[0, :, 0, 0])


def test_varlen_sequences_of_few_rows_take_the_narrow_kernel(emulator: Emulator) -> None:
    """Both kernels share one call; together they write every row once."""
    lengths = (3, 90, 0, 16, 17)
    cu = ints(0, *itertools.accumulate(lengths))
    q, k, v = (randn(sum(lengths), 1, 64, dtype=BF16) for _ in range(3))
    out, lse, _ = emulator.forward(q, k, v, Options(cu_q=cu, cu_k=cu, splits=1, **HOPPER))
    assert emulator.why_not_sm90 is None
    for begin, end in itertools.pairwise(cu.tolist()):
        own = slice(begin, end)
        tensors = (q[None, own], k[None, own], v[None, own])
        reference.check(out[None, own], lse[None, :, own], *tensors, reference.Rule())


def test_one_block_takes_empty_short_and_long_sequences_in_turn(emulator: Emulator) -> None:
    rows, keys = (0, 90, 3, 200, 17), (0, 130, 5, 0, 300)
    cu_q, cu_k = (ints(0, *itertools.accumulate(lengths)) for lengths in (rows, keys))
    q = randn(sum(rows), 2, 64, dtype=BF16)
    k, v = (randn(sum(keys), 1, 64, dtype=BF16) for _ in range(2))
    options = Options(causal=True, cu_q=cu_q, cu_k=cu_k, splits=1, processors=1, seed=3, **HOPPER)
    out, lse, _ = emulator.forward(q, k, v, options)
    assert emulator.why_not_sm90 is None
    for b in range(len(rows)):
        own, seen = (slice(int(cu[b]), int(cu[b + 1])) for cu in (cu_q, cu_k))
        tensors = (q[None, own], k[None, seen], v[None, seen])
        reference.check(out[None, own], lse[None, :, own], *tensors, reference.Rule(causal=True))


@pytest.mark.parametrize("causal", [False, True])
def test_whichever_block_takes_a_work_the_bits_are_the_same(
    emulator: Emulator, causal: bool
) -> None:
    """With few processors blocks take works by a count, with many each has one of its own."""
    lengths = (150, 1, 300, 40, 0, 129)
    cu = ints(0, *itertools.accumulate(lengths))
    q, k, v = (randn(sum(lengths), 2, 64, dtype=BF16) for _ in range(3))
    first = None
    for processors in (1, 2, 5, 132):
        options = Options(
            causal=causal, cu_q=cu, cu_k=cu, splits=1, processors=processors, seed=9, **HOPPER
        )
        out, lse, _ = emulator.forward(q, k, v, options)
        assert emulator.why_not_sm90 is None
        assert not out.isnan().any()
        first = first or (out, lse)
        assert torch.equal(out, first[0])
        assert torch.equal(lse, first[1])


@pytest.mark.parametrize(("heads", "rows", "dim"), [(12, 2048, 64), (8, 1024, 128)])
def test_splits_that_gain_little_do_not_keep_a_call_from_wgmma(
    emulator: Emulator, heads: int, rows: int, dim: int
) -> None:
    """The sm_80 kernels would split these keys to fill the last blocks of 132 processors."""
    q, k, v = (torch.zeros(1, rows, heads, dim, dtype=BF16) for _ in range(3))
    assert emulator.reason(q, k, v, Options(splits=0, **HOPPER)) is None


def test_a_call_whose_splits_were_left_to_the_plan_has_one(emulator: Emulator) -> None:
    q = randn(1, 128, 1, 64, dtype=BF16)
    k, v = (randn(1, 600, 1, 64, dtype=BF16) for _ in range(2))
    _, _, splits = emulator.forward(q, k, v, Options(splits=0, processors=8))
    assert splits > 1
    out, lse, splits = emulator.forward(q, k, v, Options(splits=0, processors=8, **HOPPER))
    assert splits == 1
    assert emulator.why_not_sm90 is None
    reference.check(out, lse, q, k, v, reference.Rule())


@pytest.mark.parametrize("capability", [80, 86, 89, 100, 103, 120])
def test_other_devices_keep_the_sm_80_kernels(emulator: Emulator, capability: int) -> None:
    q, k, v = (randn(1, 64, 1, 64, dtype=BF16) for _ in range(3))
    emulator.forward(q, k, v, Options(splits=1, capability=capability))
    assert emulator.why_not_sm90 == "the device is not of compute capability 9.0"


def test_calls_that_the_sm_90a_kernel_does_not_cover_say_why(emulator: Emulator) -> None:
    def reason(
        dim: int = 64, rows: int = 64, keys: int = 80, heads: int = 1, **more: object
    ) -> str | None:
        q = randn(1, rows, heads, dim, dtype=BF16)
        k, v = (randn(1, keys, 1, dim, dtype=BF16) for _ in range(2))
        options = Options(**{"splits": 1, **HOPPER, **more})
        if options.block_table is not None:
            k, v, table = paged(k, v, 16)
            options = Options(**{**options.__dict__, "block_table": table, "used_k": ints(keys)})
        out, lse, _ = emulator.forward(q, k, v, options)
        if options.block_table is None and options.cos is None:
            reference.check(out, lse, q, k, v, reference.Rule())
        return emulator.why_not_sm90

    assert reason() is None
    assert reason(encodes_tensor_maps=False) == "the driver encodes no tensor maps"
    assert reason(dim=256) is None
    for dim in (24, 32):
        assert reason(dim=dim) == "no kernel of the head dimension"
    assert reason(dim=60) == "rows are not aligned to 16 bytes"
    assert reason(rows=16) == "all rows are few"
    assert reason(rows=0) == "there are no queries"
    assert reason(heads=65) == "more than 64 query heads share a key head"
    assert reason(splits=2) == "the keys are split"
    assert reason(rows=20, keys=1500, splits=0) == "the keys are split"
    assert reason(cache_batch=ints(0)) == "sequences name their entries of the cache"
    assert reason(block_table=ints(0)) == "the keys are paged"
    table = torch.ones(80, 8)
    rotary = {"cos": table, "sin": 0 * table, "positions": ints(0)}
    assert reason(**rotary) == "queries are rotated"
    no_keys = "a tensor is empty, repeats rows or is too large to copy in boxes"
    assert reason(keys=0) == no_keys
