# SPDX-License-Identifier: Apache-2.0
"""The CUDA forward of flash-attention without a GPU: its own source on emulated instructions."""

import itertools
import math
import subprocess
from pathlib import Path

import attention_reference as reference
import grid
import pytest
import torch
from flash_attention_emulator import CUDA_INCLUDE, FUSES, PACKAGES, Emulator, Options

BF16, FP16 = torch.bfloat16, torch.float16
DIMS = (32, 40, 64, 80, 96, 128, 160, 192, 256)
LENGTHS = (1, 2, 63, 64, 113, 128, 203)
LONG = (512, 1023, 2048)
HEADS = ((2, 2), (4, 2), (3, 1), (8, 1))
RULES = ("none", "causal", "local", "softcap", "alibi", "sink")
LAYOUTS = ("dense", "varlen", "cache", "paged")
SPLITS = (1, 2, 7, 0)

Dim = int | tuple[int, int]
Case = tuple[Dim, int, int, tuple[int, int], str, str, int, torch.dtype]


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def rule_of(name: str, heads: int) -> reference.Rule:
    """One entry of RULES; `local` is causal for none of the queries' sides."""
    return {
        "none": reference.Rule(),
        "causal": reference.Rule(causal=True),
        "local": reference.Rule(window=(37, 21)),
        "softcap": reference.Rule(causal=True, softcap=15.0),
        "alibi": reference.Rule(causal=True, alibi=torch.rand(heads)),
        "sink": reference.Rule(window=(50, 0), sinks=torch.randn(heads) * 2),
    }[name]


def options_of(rule: reference.Rule, splits: int = 1, **more: object) -> Options:
    return Options(
        causal=rule.causal,
        window=rule.window,
        softcap=rule.softcap,
        alibi=rule.alibi,
        sinks=rule.sinks,
        splits=splits,
        **more,
    )


def randn(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape).to(dtype)


def paged(
    k: torch.Tensor, v: torch.Tensor, page: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dense k and v cut into pages in random order; the rest of the pages is NaN, and table
    entries past the length name no page.
    """
    batch, keys = k.shape[:2]
    count = -(-keys // page)
    order = torch.randperm(batch * count).reshape(batch, count)
    table = torch.full((batch, count + 2), -(1 << 20), dtype=torch.int32)
    table[:, :count] = order
    pools = []
    for tensor in (k, v):
        pool = torch.full((batch * count, page, *tensor.shape[2:]), math.nan, dtype=tensor.dtype)
        for b, i in itertools.product(range(batch), range(count)):
            rows = tensor[b, i * page : (i + 1) * page]
            pool[order[b, i], : len(rows)] = rows
        pools.append(pool)
    return pools[0], pools[1], table


def run_case(emulator: Emulator, case: Case, **device: int) -> None:
    """Two sequences of different lengths in the asked layout, against the fp64 reference. A pair of
    dimensions is that of q and k, and that of v. `device`: the seed, capability and processors of
    Options.
    """
    dims, rows, keys, (heads, heads_k), rule_name, layout, splits, dtype = case
    rule = rule_of(rule_name, heads)
    dim, dim_v = dims if isinstance(dims, tuple) else (dims, dims)
    if layout == "varlen":
        dim_v = max(8, dim_v - 24)
    lengths = [(rows, keys), (rows, max(1, keys // 2))]
    if layout == "varlen":
        lengths += [(0, 5), (max(1, rows // 3), 0)]
    q = [randn(1, r, heads, dim, dtype=dtype) for r, _ in lengths]
    k = [randn(1, n, heads_k, dim, dtype=dtype) for _, n in lengths]
    v = [randn(1, n, heads_k, dim_v, dtype=dtype) for _, n in lengths]
    if layout == "varlen":
        cu_q = ints(0, *itertools.accumulate(r for r, _ in lengths))
        cu_k = ints(0, *itertools.accumulate(n for _, n in lengths))
        options = options_of(rule, splits, cu_q=cu_q, cu_k=cu_k, **device)
        packed = (torch.cat(tensors, 1)[0] for tensors in (q, k, v))
        out, lse, _ = emulator.forward(*packed, options)
        results = [
            (out[None, cu_q[b] : cu_q[b + 1]], lse[None, :, cu_q[b] : cu_q[b + 1]])
            for b in range(len(lengths))
        ]
    else:
        room = keys if layout == "dense" else keys + 11
        k_all = torch.full((len(lengths), room, heads_k, dim), math.nan, dtype=dtype)
        v_all = torch.full((len(lengths), room, heads_k, dim_v), math.nan, dtype=dtype)
        for b, (_, n) in enumerate(lengths):
            k_all[b, :n], v_all[b, :n] = k[b][0], v[b][0]
        used = ints(*(n for _, n in lengths))
        more: dict[str, object] = {"used_k": used, **device}
        if layout == "cache":
            k_all, v_all = k_all.flip(0).contiguous(), v_all.flip(0).contiguous()
            more["cache_batch"] = ints(1, 0)
        if layout == "paged":
            k_all, v_all, more["block_table"] = paged(k_all[:, :keys], v_all[:, :keys], 48)
        out, lse, _ = emulator.forward(torch.cat(q), k_all, v_all, options_of(rule, splits, **more))
        results = [(out[b : b + 1], lse[b : b + 1]) for b in range(len(lengths))]
    for (o, s), one_q, one_k, one_v in zip(results, q, k, v, strict=True):
        reference.check(o, s, one_q, one_k, one_v, rule)


COVER = grid.pairwise(DIMS, LENGTHS, LENGTHS, HEADS, RULES, LAYOUTS, SPLITS, (BF16, FP16))


@pytest.mark.parametrize("case", COVER, ids=str)
def test_the_attention_grid_holds_the_tolerances(emulator: Emulator, case: Case) -> None:
    run_case(emulator, case, seed=len(str(case)))


@pytest.mark.slow
@pytest.mark.parametrize("rows", LONG)
@pytest.mark.parametrize("rule", RULES)
def test_long_sequences_hold_the_tolerances(emulator: Emulator, rule: str, rows: int) -> None:
    for dim, keys, layout in ((64, 1023, "dense"), (128, 512, "varlen"), (256, 203, "paged")):
        run_case(emulator, (dim, rows, keys, (2, 1), rule, layout, 1, BF16))


@pytest.mark.parametrize("rows", [1, 113])
def test_every_timing_of_copies_and_warps_gives_the_same_bits(
    emulator: Emulator, rows: int
) -> None:
    q, k, v = (randn(1, n, 2, 64, dtype=BF16) for n in (rows, 300, 300))
    first = emulator.forward(q, k, v, Options(seed=1))
    for seed in range(2, 12):
        out, lse, _ = emulator.forward(q, k, v, Options(seed=seed))
        assert torch.equal(out, first[0])
        assert torch.equal(lse, first[1])


@pytest.mark.parametrize("page", [16, 48, 80])
@pytest.mark.parametrize(("rows", "dim"), [(1, 64), (1, 128), (40, 64), (40, 128)])
def test_paged_keys_give_the_bits_of_dense_ones(
    emulator: Emulator, rows: int, dim: int, page: int
) -> None:
    """At every timing of copies and warps; rows of v are shorter than those of k."""
    q = randn(2, rows, 2, dim, dtype=BF16)
    k, v = randn(2, 300, 1, dim, dtype=BF16), randn(2, 300, 1, dim - 8, dtype=BF16)
    options = {"used_k": ints(300, 170), "leftpad": ints(5, 0), "causal": True}
    expected, expected_lse, _ = emulator.forward(q, k, v, Options(**options))
    k_pool, v_pool, table = paged(k, v, page)
    for seed in range(4):
        more = Options(**options, block_table=table, seed=seed)
        out, lse, _ = emulator.forward(q, k_pool, v_pool, more)
        assert torch.equal(out, expected)
        assert torch.equal(lse, expected_lse)


def test_a_row_does_not_depend_on_the_batch_around_it(emulator: Emulator) -> None:
    q, k, v = (randn(5, n, 4, 64, dtype=BF16) for n in (40, 150, 150))
    out, lse, _ = emulator.forward(q, k, v, Options(causal=True))
    alone, alone_lse, _ = emulator.forward(q[3:4], k[3:4], v[3:4], Options(causal=True))
    assert torch.equal(out[3:4], alone)
    assert torch.equal(lse[3:4], alone_lse)


@pytest.mark.parametrize("rows", [1, 4, 5, 40])
def test_a_varlen_row_does_not_depend_on_the_batch_around_it(emulator: Emulator, rows: int) -> None:
    """Four heads share keys: a sequence of up to four rows fits the narrow kernel, alone or not."""
    lengths = [1, 3, rows, 90, 0, 2]
    cu_q = ints(0, *itertools.accumulate(lengths))
    q = randn(sum(lengths), 4, 64, dtype=BF16)
    k, v = (randn(150 * len(lengths), 1, 64, dtype=BF16) for _ in range(2))
    cu_k = ints(*range(0, 150 * len(lengths) + 1, 150))
    out, lse, _ = emulator.forward(q, k, v, Options(causal=True, cu_q=cu_q, cu_k=cu_k))
    queries, keys = slice(4, 4 + rows), slice(300, 450)
    one = Options(causal=True, cu_q=ints(0, rows), cu_k=ints(0, 150))
    alone, alone_lse, _ = emulator.forward(q[queries], k[keys], v[keys], one)
    assert torch.equal(out[queries], alone)
    assert torch.equal(lse[:, queries], alone_lse)
    dense, dense_lse, _ = emulator.forward(
        q[None, queries], k[None, keys], v[None, keys], Options(causal=True)
    )
    assert torch.equal(dense[0], alone)
    assert torch.equal(dense_lse[0], alone_lse)


def test_rows_behind_the_used_ones_and_the_last_sequence_become_zero(emulator: Emulator) -> None:
    q = randn(30, 2, 64, dtype=FP16)
    k, v = (randn(40, 2, 64, dtype=FP16) for _ in range(2))
    for splits in (1, 3):
        options = Options(
            cu_q=ints(0, 9, 21), cu_k=ints(0, 30, 40), used_q=ints(4, 12), splits=splits
        )
        out, lse, _ = emulator.forward(q, k, v, options)
        for begin, end in ((4, 9), (21, 30)):
            assert not out[begin:end].any()
            assert lse[:, begin:end].isneginf().all()
        rule = reference.Rule()
        reference.check(
            out[None, :4], lse[None, :, :4], q[None, :4], k[None, :30], v[None, :30], rule
        )
        tail = slice(9, 21)
        reference.check(
            out[None, tail], lse[None, :, tail], q[None, tail], k[None, 30:], v[None, 30:], rule
        )


def test_left_padding_and_rows_that_are_not_aligned(emulator: Emulator) -> None:
    """Odd head dimensions and row pitches take the element-wise path."""
    dim = 52
    q = randn(2, 20, 2, dim + 3, dtype=BF16)[..., 1 : dim + 1]
    k, v = (randn(2, 90, 2, dim + 5, dtype=BF16)[..., 3 : dim + 3] for _ in range(2))
    room = torch.full((2, 20, 2, dim + 7), 77.0, dtype=BF16)
    out = room[..., 3 : dim + 3]
    _, lse, _ = emulator.forward(
        q, k, v, Options(causal=True, leftpad=ints(13, 0), used_k=ints(80, 90)), out
    )
    for b, (begin, end) in enumerate(((13, 80), (0, 90))):
        one = slice(b, b + 1)
        keys = slice(begin, end)
        rule = reference.Rule(causal=True)
        reference.check(out[one], lse[one], q[one], k[one, keys], v[one, keys], rule)
    room[..., 3 : dim + 3] = 77.0
    assert (room == 77.0).all()


@pytest.mark.parametrize("capability", [80, 90])
def test_scales_that_are_zero_or_negative(emulator: Emulator, capability: int) -> None:
    """1e-46 is zero in fp32."""
    q, k, v = (randn(1, 70, 2, 64, dtype=FP16) for _ in range(3))
    for scale in (0.0, -0.2, 1e-46):
        options = Options(scale=scale, splits=1, capability=capability)
        out, lse, _ = emulator.forward(q, k, v, options)
        assert (emulator.why_not_sm90 is None) == (capability == 90)
        reference.check(out, lse, q, k, v, reference.Rule(scale=scale))


def test_nan_and_infinity_spread_as_in_eager(emulator: Emulator) -> None:
    q, k, v = (randn(1, 70, 1, 32, dtype=FP16) for _ in range(3))
    q[0, 3, 0, 5] = math.nan
    k[0, 60, 0, 2] = math.nan
    out, lse, _ = emulator.forward(q, k, v, Options(causal=True))
    exact, _ = reference.attention(q, k, v, reference.Rule(causal=True))
    assert torch.equal(out.isnan(), exact.isnan())
    assert torch.equal(lse.isnan()[0, 0], exact.isnan()[0, :, 0, 0])


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("rows", [12, 128])
@pytest.mark.parametrize("capability", [80, 90])
def test_rows_that_see_no_key_are_zero_beside_an_infinite_value(
    emulator: Emulator, capability: int, rows: int, splits: int
) -> None:
    """0 * inf is NaN: few rows and many, by every kernel, split and whole."""
    q = randn(1, rows, 1, 64, dtype=BF16)
    k, v = (randn(1, rows // 2, 1, 64, dtype=BF16) for _ in range(2))
    v[0, 0] = math.inf
    more = {"splits": splits, "capability": capability}
    causal = Options(causal=True, **more)
    used = Options(used_q=ints(rows * 3 // 4), **more)
    for options, empty in ((causal, slice(0, rows // 2)), (used, slice(rows * 3 // 4, rows))):
        out, lse, _ = emulator.forward(q, k, v, options)
        assert (emulator.why_not_sm90 is None) == (capability == 90 and rows > 16 and splits == 1)
        is_empty = torch.zeros(rows, dtype=torch.bool)
        is_empty[empty] = True
        assert (out[0, is_empty] == 0).all()
        assert lse[0, 0, is_empty].isneginf().all()
        assert out[0, ~is_empty].isposinf().all()
        assert lse[0, 0, ~is_empty].isfinite().all()


@pytest.mark.skipif(not FUSES, reason="this processor has no fused multiply-add")
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("capability", [80, 90])
def test_large_scores_do_not_drift_over_many_tiles(
    emulator: Emulator, capability: int, rows: int
) -> None:
    """A largest score that stays keeps the sums as they are, and one that grows moves them alone:
    whatever errs in every tile is seen in the sum of 256 of them. Each row has a score of its own
    near 60 for all keys, or one that grows a little with every key.
    """
    keys = 256 * 64
    q = torch.zeros(1, rows, 1, 64, dtype=FP16)
    k, v = torch.zeros(2, 1, keys, 1, 64, dtype=FP16)
    q[0, :, 0, 0] = 60 + torch.arange(rows) / 16
    k[..., 0] = 1.0
    v[:, : keys // 2] = 1.0
    for growth in (0.0, 0.125):
        q[..., 1] = growth
        k[0, :, 0, 1] = torch.arange(keys) / 4096
        options = Options(scale=1.0, splits=1, capability=capability)
        out, lse, _ = emulator.forward(q, k, v, options)
        assert (emulator.why_not_sm90 is None) == (capability == 90 and rows > 16)
        exact, exact_lse = reference.attention(q, k, v, reference.Rule(scale=1.0))
        assert (lse - exact_lse).abs().max() <= 1e-5
        assert (out - exact).abs().max() <= 4e-4 * exact.max()


def rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, first: int, step: int, interleaved: bool
) -> torch.Tensor:
    """Rows of x [rows, heads, dim] at positions first, first + step, ..., rounded to its dtype."""
    pairs = cos.shape[1]
    x = x.double().clone()
    at = first + step * torch.arange(len(x))
    c, s = (table[at].double()[:, None] for table in (cos, sin))
    even = slice(0, 2 * pairs, 2) if interleaved else slice(0, pairs)
    odd = slice(1, 2 * pairs, 2) if interleaved else slice(pairs, 2 * pairs)
    a, b = x[..., even].clone(), x[..., odd].clone()
    x[..., even], x[..., odd] = a * c - b * s, a * s + b * c
    return x


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("table_dtype", [torch.float32, BF16])
def test_appended_rows_and_queries_are_rotated(
    emulator: Emulator, table_dtype: torch.dtype, interleaved: bool
) -> None:
    heads, dim, capacity = 2, 64, 100
    lengths, rows = ints(37, 0), 5
    cos, sin = (torch.randn(200, 24).to(table_dtype) for _ in range(2))
    k_cache, v_cache = (randn(2, capacity, heads, dim, dtype=BF16) for _ in range(2))
    before = k_cache.clone(), v_cache.clone()
    k, v = (randn(2, rows, heads, dim, dtype=BF16) for _ in range(2))
    options = Options(cos=cos, sin=sin, positions=lengths, interleaved=interleaved)
    emulator.append((k_cache, v_cache), (k, v), lengths, options)
    for b, begin in enumerate(lengths.tolist()):
        new = slice(begin, begin + rows)
        exact = rotated(k[b], cos, sin, begin, 1, interleaved)
        error = (k_cache[b, new].double() - exact).norm() / exact.norm()
        assert error <= 1.9e-3
        assert torch.equal(k_cache[b, new, :, 48:], k[b, :, :, 48:])
        assert torch.equal(v_cache[b, new], v[b])
        for cache, old in zip((k_cache, v_cache), before, strict=True):
            assert torch.equal(cache[b, :begin], old[b, :begin])
            assert torch.equal(cache[b, begin + rows :], old[b, begin + rows :])
    q = randn(2, rows, heads, dim, dtype=BF16)
    for advances in (True, False):
        options = Options(
            causal=True,
            used_k=lengths + rows,
            cos=cos,
            sin=sin,
            positions=lengths,
            interleaved=interleaved,
            advances=advances,
        )
        out, lse, _ = emulator.forward(q, k_cache, v_cache, options)
        for b, begin in enumerate(lengths.tolist()):
            turned = rotated(q[b], cos, sin, begin, int(advances), interleaved).to(BF16)[None]
            keys = slice(0, begin + rows)
            one = slice(b, b + 1)
            rule = reference.Rule(causal=True)
            reference.check(
                out[one], lse[one], turned, k_cache[one, keys], v_cache[one, keys], rule
            )


def test_appending_to_pages_from_packed_rows_stops_at_the_capacity(emulator: Emulator) -> None:
    k_pool, v_pool = (torch.full((4, 16, 1, 32), math.nan, dtype=FP16) for _ in range(2))
    table = ints(2, 0, 1, 3).reshape(2, 2)
    k, v = (randn(12, 1, 32, dtype=FP16) for _ in range(2))
    options = Options(cu_k=ints(0, 7, 12), block_table=table)
    emulator.append((k_pool, v_pool), (k, v), ints(12, 30), options)
    for pool, rows in ((k_pool, k), (v_pool, v)):
        assert torch.equal(pool[2, 12:], rows[:4])
        assert torch.equal(pool[0, :3], rows[4:7])
        assert torch.equal(pool[3, 14:], rows[7:9])
        assert (~pool.isnan()).sum() == 9 * 32


@pytest.mark.parametrize("paged", [False, True])
def test_lengths_and_indices_that_lead_out_of_the_cache_write_nothing(
    emulator: Emulator, paged: bool
) -> None:
    """Nobody but the device sees what its tensors hold: -3, 15 and entry 9 are a caller's bugs."""
    room = torch.zeros(2, 8, 16, 1, 32, dtype=FP16)
    k_cache, v_cache = room[:, 2:6]
    k, v = (torch.ones(3, 4, 1, 32, dtype=FP16) for _ in range(2))
    more: dict[str, torch.Tensor] = {"cache_batch": ints(0, 1, 9)}
    if paged:
        more = {"block_table": ints(0, 1, 9).reshape(3, 1)}
    emulator.append((k_cache, v_cache), (k, v), ints(-3, 15, 2), Options(**more))
    for cache in room:
        assert (cache[2, 0] == 1).all()
        assert (cache[3, 15] == 1).all()
        assert cache.count_nonzero() == 2 * 32


def test_positions_that_the_rotation_tables_lack_are_not_read(emulator: Emulator) -> None:
    """The tables have four positions, between NaN: -2 is a caller's bug, and so is 2 with four
    rows. Such rows are not appended, such queries not rotated.
    """
    room = torch.full((2, 12, 16), math.nan)
    room[:, 4:8] = torch.randn(2, 4, 16)
    cos, sin = room[:, 4:8]
    inside = ((slice(2, 4), 0), (slice(0, 4), 0), (slice(0, 2), 2))
    options = Options(causal=True, cos=cos, sin=sin, positions=ints(-2, 0, 2))
    k_cache, v_cache = torch.zeros(2, 3, 16, 1, 32, dtype=FP16)
    q, k, v = (randn(3, 4, 1, 32, dtype=FP16) for _ in range(3))
    emulator.append((k_cache, v_cache), (k, v), ints(0, 0, 0), options)
    keys, values = (randn(3, 20, 1, 32, dtype=FP16) for _ in range(2))
    out, lse, _ = emulator.forward(q, keys, values, options)
    for b, (rows, first) in enumerate(inside):
        exact = rotated(k[b, rows], cos, sin, first, 1, False)
        assert (k_cache[b, rows].double() - exact).norm() <= 1e-3 * exact.norm()
        assert torch.equal(v_cache[b, rows], v[b, rows])
        for cache in (k_cache, v_cache):
            assert cache[b].count_nonzero() == cache[b, rows].count_nonzero()
        turned = q[b].clone()
        turned[rows] = rotated(q[b, rows], cos, sin, first, 1, False).to(FP16)
        one = slice(b, b + 1)
        rule = reference.Rule(causal=True)
        reference.check(out[one], lse[one], turned[None], keys[one], values[one], rule)


@pytest.fixture(scope="module")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """Wrong and tried cases by check of flash_attention_plan.cpp."""
    if not (CUDA_INCLUDE / "cuda_bf16.h").is_file():
        pytest.skip("the CUDA headers are absent")
    program = tmp_path_factory.mktemp("plan") / "plan"
    include = ["-I", PACKAGES / "flash-attention", "-I", PACKAGES, "-isystem", CUDA_INCLUDE]
    sources = (
        Path(__file__).with_name("flash_attention_plan.cpp"),
        PACKAGES / "flash-attention" / "flash_attention" / "schedule.cpp",
    )
    subprocess.run(["c++", "-std=c++17", "-O1", *include, *sources, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {name: (int(wrong), int(tried)) for name, wrong, tried in rows}


@pytest.mark.parametrize(
    "check",
    [
        *("visible_tiles", "whole_tiles", "split_tiles", "dense_works", "varlen_works"),
        *("works_dealt_once", "balance_of_powers", "balance_of_others"),
        *("balance_of_varlen", "splits_of_varlen"),
        *("kernel_of_its_own", "tile_places", "tile_banks", "best_splits", "workspace"),
        *("sm90_tiles", "pieces", "small_pieces", "heads_dealt_out", "heads_merged"),
        *("partial_results", "pieces_beside_others"),
    ],
)
def test_the_plan_agrees_with_brute_force(tallies: dict[str, tuple[int, int]], check: str) -> None:
    wrong, tried = tallies[check]
    assert tried >= 6
    assert wrong == 0
