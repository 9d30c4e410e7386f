# SPDX-License-Identifier: Apache-2.0
"""The functions of the attention packages: signatures, semantics, caches, errors, tracing."""

import inspect
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
import tvm_ffi
from attention_calls import attend
from attention_reference import BF16, FP16, FP32, Rule, attention, check
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGES = ("flash-attn2", "flash-attn3", "vllm-flash-attn3")
Load = Callable[[str], ModuleType]

# Names that callers inspect to see what a build can do.
MASKING = "softmax_scale causal window_size softcap"
FA2_TAIL = f"dropout_p {MASKING} alibi_slopes deterministic return_attn_probs"
FA3_TAIL = (
    "softmax_scale causal qv q_descale k_descale v_descale window_size attention_chunk softcap "
    "num_splits pack_gqa deterministic sm_margin return_attn_probs"
)
VARLEN = "cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k"
FA3_CACHE = (
    "q k_cache v_cache k v qv rotary_cos rotary_sin cache_seqlens cache_batch_idx cache_leftpad "
    "page_table cu_seqlens_q cu_seqlens_k_new max_seqlen_q rotary_seqlens q_descale k_descale "
    "v_descale softmax_scale causal window_size attention_chunk softcap rotary_interleaved "
    "scheduler_metadata num_splits pack_gqa sm_margin return_softmax_lse"
)
SIGNATURES = {
    ("flash-attn2", "flash_attn_func"): f"q k v {FA2_TAIL}",
    ("flash-attn2", "flash_attn_varlen_func"): f"q k v {VARLEN} {FA2_TAIL} block_table",
    ("flash-attn2", "flash_attn_qkvpacked_func"): f"qkv {FA2_TAIL}",
    ("flash-attn2", "flash_attn_kvpacked_func"): f"q kv {FA2_TAIL}",
    ("flash-attn2", "flash_attn_varlen_qkvpacked_func"): f"qkv cu_seqlens max_seqlen {FA2_TAIL}",
    ("flash-attn2", "flash_attn_varlen_kvpacked_func"): f"q kv {VARLEN} {FA2_TAIL}",
    ("flash-attn2", "flash_attn_with_kvcache"): (
        "q k_cache v_cache k v rotary_cos rotary_sin cache_seqlens cache_batch_idx cache_leftpad "
        f"block_table {MASKING} rotary_interleaved alibi_slopes num_splits return_softmax_lse"
    ),
    ("flash-attn3", "flash_attn_func"): f"q k v {FA3_TAIL}",
    ("flash-attn3", "flash_attn_varlen_func"): f"q k v {VARLEN} seqused_q seqused_k {FA3_TAIL}",
    ("flash-attn3", "flash_attn_with_kvcache"): FA3_CACHE,
    ("vllm-flash-attn3", "flash_attn_func"): f"q k v {FA3_TAIL} s_aux",
    ("vllm-flash-attn3", "flash_attn_varlen_func"): (
        f"q k v {VARLEN} seqused_q seqused_k {FA3_TAIL} s_aux"
    ),
    ("vllm-flash-attn3", "flash_attn_with_kvcache"): f"{FA3_CACHE} s_aux",
}


@pytest.fixture(scope="module")
def fa2(load_package: Load) -> ModuleType:
    return load_package("flash-attn2")


@pytest.fixture(scope="module")
def fa3(load_package: Load) -> ModuleType:
    return load_package("vllm-flash-attn3")


def random(*shape: int, dtype: torch.dtype = FP32) -> torch.Tensor:
    return torch.randn(shape).to(dtype)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize(("package", "function"), SIGNATURES)
def test_the_parameters_have_the_names_that_callers_inspect(
    load_package: Load, package: str, function: str
) -> None:
    parameters = inspect.signature(getattr(load_package(package), function)).parameters
    assert list(parameters) == SIGNATURES[package, function].split()


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_what_is_there(load_package: Load, package: str) -> None:
    module = load_package(package)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_every_package_computes_attention(
    load_package: Load, package: str, dtype: torch.dtype
) -> None:
    q, k, v = random(2, 33, 4, 64, dtype=dtype), *random(2, 2, 50, 2, 64, dtype=dtype)
    function = load_package(package).flash_attn_func
    out, lse, *_ = function(q, k, v, causal=True, window_size=(20, -1), return_attn_probs=True)
    rule = Rule(causal=True, window=(20, 0))
    check(out, lse, q, k, v, rule)
    assert torch.equal(function(q, k, v, causal=True, window_size=(20, -1)), out)


def test_packed_forms_are_views(fa2: ModuleType) -> None:
    qkv = random(2, 40, 3, 4, 32)
    expected = fa2.flash_attn_func(*qkv.unbind(2), causal=True)
    assert torch.equal(fa2.flash_attn_qkvpacked_func(qkv, causal=True), expected)
    packed = fa2.flash_attn_kvpacked_func(qkv[:, :, 0], qkv[:, :, 1:], causal=True)
    assert torch.equal(packed, expected)
    cu = ints(0, 40, 80)
    flat = qkv.reshape(80, 3, 4, 32)
    out = fa2.flash_attn_varlen_qkvpacked_func(flat, cu, 40, causal=True)
    assert torch.equal(out, expected.reshape(80, 4, 32))
    out = fa2.flash_attn_varlen_kvpacked_func(flat[:, 0], flat[:, 1:], cu, cu, 40, 40, causal=True)
    assert torch.equal(out, expected.reshape(80, 4, 32))


def test_low_level_forms_give_lists_and_write_out(fa2: ModuleType) -> None:
    q, k, v = random(3, 1, 20, 2, 32)
    expected = fa2.flash_attn_func(q, k, v, causal=True)
    out = torch.full_like(q, float("nan"))
    returned, lse = fa2.fwd(q, k, v, out, is_causal=True)
    assert returned is out
    assert torch.equal(out, expected)
    cu = ints(0, 20)
    flat, flat_lse = fa2.varlen_fwd(q[0], k[0], v[0], cu, cu, is_causal=True)
    assert torch.equal(flat, expected[0])
    assert torch.equal(flat_lse, lse[0])
    cached, _ = fa2.fwd_kvcache(q, k, v, seqlens_k=ints(20), is_causal=True)
    check(cached, lse, q, k, v, Rule(causal=True))


@pytest.mark.parametrize("rows", [1, 7, 90])
def test_causal_is_aligned_at_the_last_query_and_key(fa2: ModuleType, rows: int) -> None:
    q, (k, v) = random(1, rows, 1, 16), random(2, 1, 20, 1, 16)
    out, lse, _ = fa2.flash_attn_func(q, k, v, causal=True, return_attn_probs=True)
    check(out, lse, q, k, v, Rule(causal=True))
    blind = max(rows - 20, 0)
    assert (out[:, :blind] == 0).all()
    assert lse[..., :blind].isneginf().all()
    assert lse[..., blind:].isfinite().all()


def test_no_rows_no_keys_and_no_batch(fa2: ModuleType) -> None:
    k, v = random(2, 2, 5, 2, 16)
    for shape in ((2, 0, 4, 16), (0, 3, 4, 16)):
        q = random(*shape)
        out, lse, _ = fa2.flash_attn_func(q, k[: shape[0]], v[: shape[0]], return_attn_probs=True)
        assert out.shape == shape
        assert lse.shape == (shape[0], 4, shape[1])
    q = random(2, 3, 4, 16)
    out, lse, _ = fa2.flash_attn_func(q, k[:, :0], v[:, :0], return_attn_probs=True)
    assert (out == 0).all()
    assert lse.isneginf().all()


def test_sequences_of_no_rows_or_no_keys(fa2: ModuleType) -> None:
    cu_q, cu_k = ints(0, 0, 5, 9, 9), ints(0, 3, 3, 10, 10)
    q, (k, v) = random(12, 2, 32), random(2, 10, 1, 32)
    out, lse, _ = fa2.flash_attn_varlen_func(
        q, k, v, cu_q, cu_k, 4096, 4096, return_attn_probs=True
    )
    assert (out[:5] == 0).all()
    assert lse[:, :5].isneginf().all()
    check(out[None, 5:9], lse[None, :, 5:9], q[None, 5:9], k[None, 3:], v[None, 3:], Rule())
    assert (out[9:] == 0).all(), "rows of no sequence are cleared"


def test_unused_rows_of_a_sequence_are_cleared(fa3: ModuleType) -> None:
    cu = ints(0, 30, 70)
    q, k, v = random(3, 70, 2, 32)
    for tensor in (k, v):
        tensor[20:30] = tensor[65:] = float("nan")
    out, lse = fa3.flash_attn_varlen_func(
        q, k, v, cu, cu, 40, 40, seqused_q=ints(12, 40), seqused_k=ints(20, 35), causal=True,
        return_attn_probs=True,
    )  # fmt: skip
    rule = Rule(causal=True)
    check(out[None, :12], lse[None, :, :12], q[None, :12], k[None, :20], v[None, :20], rule)
    assert (out[12:30] == 0).all()
    assert lse[:, 12:30].isneginf().all()
    check(out[None, 30:], lse[None, :, 30:], q[None, 30:], k[None, 30:65], v[None, 30:65], rule)


@pytest.mark.parametrize("rows", [1, 50])
def test_sinks_join_the_denominator_only(fa3: ModuleType, rows: int) -> None:
    q, (k, v) = random(1, rows, 4, 32), random(2, 1, 60, 2, 32)
    for sinks in (torch.tensor([-50.0, 0.0, 3.0, 60.0]), torch.randn(4)):
        out, lse = fa3.flash_attn_func(q, k, v, s_aux=sinks, return_attn_probs=True)
        check(out, lse, q, k, v, Rule(sinks=sinks))
    low = sinks.bfloat16()
    out, lse = fa3.flash_attn_func(q, k, v, s_aux=low, return_attn_probs=True)
    check(out, lse, q, k, v, Rule(sinks=low))


@pytest.mark.parametrize("has_batch", [False, True])
@pytest.mark.parametrize("rows", [1, 50])
def test_alibi_slopes_may_differ_by_sequence(fa2: ModuleType, rows: int, has_batch: bool) -> None:
    q, (k, v) = random(2, rows, 4, 32), random(2, 2, 60, 2, 32)
    slopes = torch.rand(2, 4) if has_batch else torch.rand(4)
    out, lse, _ = fa2.flash_attn_func(q, k, v, alibi_slopes=slopes, return_attn_probs=True)
    check(out, lse, q, k, v, Rule(alibi=slopes))


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.3])
def test_the_scale_may_be_any_number(fa2: ModuleType, scale: float) -> None:
    q, k, v = random(3, 1, 40, 2, 32)
    out, lse, _ = fa2.flash_attn_func(q, k, v, softmax_scale=scale, return_attn_probs=True)
    check(out, lse, q, k, v, Rule(scale=scale))


def test_strided_inputs_and_outputs_are_read_and_written_in_place(fa2: ModuleType) -> None:
    buffer = random(2, 4, 30, 3, 40)
    q, k, v = (buffer[..., i, 2:34].transpose(1, 2) for i in range(3))
    assert not q.is_contiguous()
    expected = fa2.flash_attn_func(q.contiguous(), k.contiguous(), v.contiguous(), causal=True)
    assert torch.equal(fa2.flash_attn_func(q, k, v, causal=True), expected)
    memory = torch.full((2, 30, 4, 48), 7.0)
    out, _ = fa2.fwd(q, k, v, memory[..., 3:35], is_causal=True)
    assert torch.equal(out, expected)
    assert (memory[..., :3] == 7).all()
    assert (memory[..., 35:] == 7).all(), "memory outside the output was written"
    swapped = q.transpose(1, 3).contiguous().transpose(1, 3)
    assert torch.equal(fa2.flash_attn_func(swapped, k, v, causal=True), expected)


def rotated(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    pairs_adjacent: bool,
) -> torch.Tensor:
    """`[S, H, D]` in fp64, row i turned by the angles of positions[i]."""
    dim = 2 * cos.shape[1]
    c, s = cos.double()[positions][:, None], sin.double()[positions][:, None]
    turned, rest = x.double()[..., :dim], x.double()[..., dim:]
    first, second = (
        (turned[..., 0::2], turned[..., 1::2]) if pairs_adjacent else turned.chunk(2, -1)
    )
    a, b = first * c - second * s, first * s + second * c
    joined = torch.stack((a, b), -1).flatten(-2) if pairs_adjacent else torch.cat((a, b), -1)
    return torch.cat((joined, rest), -1)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    ("paged", "adjacent", "causal"), list(itertools.product([False, True], repeat=3))
)
def test_a_cache_is_appended_to_in_place_and_rotated(
    fa2: ModuleType, paged: bool, adjacent: bool, causal: bool, rows: int, dtype: torch.dtype
) -> None:
    batch, capacity, heads, dim = 3, 64, 2, 48
    seqlens = [7, 0, 64 - rows]
    cos, sin = torch.randn(2, 64, 16).to(dtype)
    q, k, v = (random(batch, rows, h, dim, dtype=dtype) for h in (4, heads, heads))
    caches = random(2, batch, capacity, heads, dim, dtype=dtype)
    table = torch.randperm(12)[: batch * 4].reshape(batch, 4).int()
    k_cache, v_cache = caches.clone()
    if paged:
        pages = torch.zeros(2, 12, 16, heads, dim, dtype=dtype)
        pages[:, table.flatten().long()] = caches.reshape(2, 12, 16, heads, dim)
        k_cache, v_cache = pages
    out, lse = fa2.flash_attn_with_kvcache(
        q, k_cache, v_cache, k, v, cos, sin, ints(*seqlens), block_table=table if paged else None,
        causal=causal, rotary_interleaved=adjacent, return_softmax_lse=True,
    )  # fmt: skip
    written_k, written_v = k_cache, v_cache
    if paged:
        written_k = k_cache[table.long()].reshape(batch, capacity, heads, dim)
        written_v = v_cache[table.long()].reshape(batch, capacity, heads, dim)
    for b, used in enumerate(seqlens):
        positions = used + torch.arange(rows)
        new_k = rotated(k[b], cos, sin, positions, adjacent)
        torch.testing.assert_close(written_k[b, used : used + rows], new_k.to(dtype))
        assert torch.equal(written_v[b, used : used + rows], v[b])
        untouched = torch.ones(capacity, dtype=torch.bool)
        untouched[used : used + rows] = False
        assert torch.equal(written_k[b, untouched], caches[0, b, untouched])
        turned = rotated(
            q[b], cos, sin, positions if causal else positions[:1].expand(rows), adjacent
        )
        keys = slice(0, used + rows)
        exact, exact_lse = attention(
            turned[None],
            written_k[b : b + 1, keys],
            written_v[b : b + 1, keys],
            Rule(causal=causal),
        )
        bound = {FP32: 2e-6, BF16: 3e-3}[dtype]
        assert (out[b].double() - exact[0]).norm() / exact.norm() <= bound
        assert (lse[b] - exact_lse[0]).abs().max() <= 1e-3


class Calls(TorchDispatchMode):
    """Notes the names of all ops that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name().split(".")[0])
        return func(*args, **(kwargs or {}))


def test_a_cache_without_new_rows(fa2: ModuleType, fa3: ModuleType) -> None:
    q, caches = random(2, 1, 8, 64), random(2, 5, 200, 2, 64)
    k_cache, v_cache = caches
    entries, lengths, padding = ints(4, 1), ints(150, 31), ints(9, 0)
    results = [
        fa2.flash_attn_with_kvcache(
            q, k_cache, v_cache, cache_seqlens=lengths, cache_batch_idx=entries,
            cache_leftpad=padding, return_softmax_lse=True,
        ),
        fa3.flash_attn_with_kvcache(
            q, k_cache, v_cache, cache_seqlens=lengths, cache_batch_idx=entries,
            cache_leftpad=padding, return_softmax_lse=True,
        ),
    ]  # fmt: skip
    for out, lse in results:
        for b in range(2):
            rows = slice(int(padding[b]), int(lengths[b]))
            k, v = caches[:, entries[b], rows][:, None]
            check(out[b : b + 1], lse[b : b + 1], q[b : b + 1], k, v, Rule())
    whole = fa2.flash_attn_with_kvcache(q, k_cache[:2], v_cache[:2], cache_seqlens=200)
    calls = Calls()
    with calls:
        out = fa2.flash_attn_with_kvcache(q, k_cache[:2], v_cache[:2])
    assert torch.equal(out, whole)
    ops = {name.split("::")[-1] for name in calls.names}
    assert "attention_forward" in ops
    assert not ops & {"full", "full_like", "fill_"}


def test_new_rows_and_queries_may_be_varlen(fa3: ModuleType) -> None:
    caches = random(2, 2, 50, 1, 32)
    k_cache, v_cache = caches.clone()
    q, k, v = random(7, 2, 32), random(5, 1, 32), random(5, 1, 32)
    cu_q, cu_new = ints(0, 3, 7), ints(0, 1, 5)
    out, lse = fa3.flash_attn_with_kvcache(
        q, k_cache, v_cache, k, v, cache_seqlens=ints(10, 20), cu_seqlens_q=cu_q,
        cu_seqlens_k_new=cu_new, max_seqlen_q=4, causal=True, return_softmax_lse=True,
    )  # fmt: skip
    for b, (used, new) in enumerate(((10, 1), (20, 4))):
        keys = torch.cat((caches[0, b, :used], k[cu_new[b] : cu_new[b + 1]]))[None]
        values = torch.cat((caches[1, b, :used], v[cu_new[b] : cu_new[b + 1]]))[None]
        assert torch.equal(k_cache[b : b + 1, : used + new], keys)
        s = slice(cu_q[b], cu_q[b + 1])
        check(out[None, s], lse[None, :, s], q[None, s], keys, values, Rule(causal=True))


def test_paged_varlen_of_flash_attn2(fa2: ModuleType) -> None:
    pages, table = random(2, 6, 32, 2, 64), ints(5, 0, 5, 5, 2, 3).reshape(2, 3)
    q, cu_q, cu_k = random(9, 4, 64), ints(0, 4, 9), ints(0, 70, 110)
    out, lse, _ = fa2.flash_attn_varlen_func(
        q, *pages, cu_q, cu_k, 5, 70, causal=True, block_table=table, return_attn_probs=True
    )
    for b, length in enumerate((70, 40)):
        k, v = pages[:, table[b].long()].flatten(1, 2)[:, None, :length]
        s = slice(cu_q[b], cu_q[b + 1])
        check(out[None, s], lse[None, :, s], q[None, s], k, v, Rule(causal=True))


def test_partial_results_combine(fa3: ModuleType) -> None:
    q, (k, v) = random(2, 9, 4, 32), random(2, 2, 90, 2, 32)
    parts = [
        fa3.flash_attn_func(q, k[:, s], v[:, s], return_attn_probs=True)
        for s in (slice(0, 30), slice(30, 90), slice(90, 90))
    ]
    outs = torch.stack([out for out, _ in parts])
    lses = torch.stack([lse.transpose(1, 2) for _, lse in parts])
    out, lse = fa3.flash_attn_combine(outs, lses)
    check(out, lse.transpose(1, 2), q, k, v, Rule())
    written = torch.empty_like(out)
    assert fa3.flash_attn_combine(outs, lses, out=written)[0] is written
    assert torch.equal(written, out)
    metadata = fa3.get_scheduler_metadata(2, 1, 90, 4, 2, 32, ints(90, 90))
    assert metadata.numel() == 0
    with pytest.raises(RuntimeError, match="lse_partial shape: expected"):
        fa3.flash_attn_combine(outs, lses[:, :1])


def test_what_a_part_that_saw_no_key_holds_counts_for_nothing(fa3: ModuleType) -> None:
    outs, lses = random(3, 2, 4, 2, 8), random(3, 2, 4, 2)
    lses[0, 0], outs[0, 0] = -torch.inf, torch.nan
    lses[:, 1, 0], outs[:, 1, 0] = -torch.inf, torch.nan
    outs[2, 0, 3, 1, 5] = torch.nan
    lses[1, 1, 2, 1] = torch.nan
    out, lse = fa3.flash_attn_combine(outs, lses)
    weights = (lses.double() - lses.double().logsumexp(0)).exp()
    exact = torch.where(lses[..., None].isneginf(), 0.0, outs * weights[..., None]).sum(0)
    torch.testing.assert_close(out, exact.float(), equal_nan=True)
    assert (out[1, 0] == 0).all()
    assert lse[1, 0].isneginf().all()
    assert out.isnan().sum() == 1 + 8
    assert lse.isnan().sum() == 1
    written = torch.empty(2, 4, 2, 8, dtype=BF16)
    assert fa3.flash_attn_combine(outs, lses, written, BF16)[0] is written
    torch.testing.assert_close(written, out.to(BF16), equal_nan=True)
    assert fa3.flash_attn_combine(outs, lses, out_dtype=FP16)[0].dtype == FP16


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"out": torch.empty(4, 2, 8)}, r"out shape: expected \[2, 4, 2, 8\], got \[4, 2, 8\]"),
        ({"out": torch.empty(2, 4, 2, 8), "out_dtype": BF16}, "out_dtype value: expected None or"),
        ({"out": torch.empty(2, 4, 2, 8).int()}, "out dtype: expected float32, float16 or bfloat"),
        ({"out_dtype": torch.float64}, "out_dtype dtype: expected float32, float16 or bfloat16"),
    ],
)
def test_results_that_cannot_be_combined_into_are_refused(
    fa3: ModuleType, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(RuntimeError, match=f"vllm_flash_attn3.flash_attn_combine: {text}"):
        fa3.flash_attn_combine(random(3, 2, 4, 2, 8), random(3, 2, 4, 2), **options)


def test_a_gradient_is_refused(fa2: ModuleType, fa3: ModuleType) -> None:
    q, k, v = random(3, 1, 4, 2, 16)
    v.requires_grad_()
    for function in (fa2.flash_attn_func, fa3.flash_attn_func, fa2.flash_attn_with_kvcache):
        with pytest.raises(RuntimeError, match="requires_grad: expected inputs without it"):
            function(q, k, v)
        with torch.no_grad():
            function(q, k, v)


@pytest.mark.parametrize(
    ("package", "function", "unsupported"),
    [
        ("flash-attn2", "flash_attn_func", {"dropout_p": 0.1}),
        ("flash-attn2", "fwd", {"p_dropout": 0.1}),
        ("flash-attn2", "fwd", {"return_softmax": True}),
        ("flash-attn3", "flash_attn_func", {"qv": torch.ones(1)}),
        ("flash-attn3", "flash_attn_func", {"q_descale": torch.ones(1)}),
        ("flash-attn3", "flash_attn_func", {"attention_chunk": 64}),
        ("vllm-flash-attn3", "flash_attn_with_kvcache", {"v_descale": torch.ones(1)}),
        ("vllm-flash-attn3", "flash_attn_with_kvcache", {"scheduler_metadata": torch.ones(1)}),
    ],
)
def test_what_a_build_cannot_do_is_refused(
    load_package: Load, package: str, function: str, unsupported: dict[str, Any]
) -> None:
    q, k, v = random(3, 1, 4, 2, 16)
    (name,) = unsupported
    with pytest.raises(RuntimeError, match=rf"\.{function}: {name} (value|size): expected"):
        getattr(load_package(package), function)(q, k, v, **unsupported)


GOOD: dict[str, Any] = {
    "q": torch.ones(2, 3, 4, 16),
    "k": torch.ones(2, 5, 2, 16),
    "v": torch.ones(2, 5, 2, 16),
}
VARLEN_GOOD = {name: tensor.flatten(0, 1) for name, tensor in GOOD.items()}
CU = {"cu_seqlens_q": ints(0, 3, 6), "cu_seqlens_k": ints(0, 5, 10)}
PAGED = {"block_table": ints(0, 1).reshape(2, 1), "seqused_k": ints(5, 5)}
ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"k": torch.ones(2, 5, 2, 16).half()}, "k dtype: expected float32 as q, got float16"),
    ({"q": torch.ones(2, 3, 4, 16).int()},
     "q dtype: expected float32, float16, bfloat16 or float64, got int32"),
    ({"k": torch.ones(5, 2, 16)}, "k rank: expected 4, got 3"),
    ({"k": torch.ones(2, 5, 3, 16), "v": torch.ones(2, 5, 3, 16)},
     "k heads: expected a divisor of the 4 heads of q, got 3"),
    ({"k": torch.ones(2, 5, 2, 8)}, "k shape: expected [2, 5, 2, 16], got [2, 5, 2, 8]"),
    ({"k": torch.ones(3, 5, 2, 16), "v": torch.ones(3, 5, 2, 16)},
     "k shape: expected [2, 5, 2, 16], got [3, 5, 2, 16]"),
    ({"v": torch.ones(2, 6, 2, 16)}, "v shape: expected [2, 5, 2, 16], got [2, 6, 2, 16]"),
    ({name: torch.ones(1, 2, 1, 264) for name in GOOD},
     "q head dimension: expected a number in [1, 256], got 264"),
    ({"softcap": -1.0},
     "softcap value: expected a finite number of at least 0, got -1.000000"),
    ({"softmax_scale": float("inf")}, "softmax_scale value: expected a finite number, got inf"),
    ({"window_size": (-2, 0)}, "window_size value: expected numbers of at least -1, got [-2, 0]"),
    ({"num_splits": -1}, "num_splits value: expected at least 0, got -1"),
    ({"alibi_slopes": torch.ones(3)}, "alibi_slopes shape: expected [4], got [3]"),
    ({"alibi_slopes": torch.ones(4).double()}, "alibi_slopes dtype: expected float32, got float64"),
    ({"s_aux": torch.ones(2)}, "s_aux shape: expected [4], got [2]"),
    ({"seqused_k": ints(5, 6)}, "seqused_k value 1: expected a number in [0, 5], got 6"),
    ({"seqused_k": ints(5, -1)}, "seqused_k value 1: expected a number in [0, 5], got -1"),
    ({"seqused_k": torch.tensor([5, 5])}, "seqused_k dtype: expected int32, got int64"),
    ({"seqused_q": ints(4, 0)}, "seqused_q value 0: expected a number in [0, 3], got 4"),
    ({"leftpad_k": ints(6, 0)}, "leftpad_k value 0: expected a number in [0, 5], got 6"),
    ({"cache_batch_idx": ints(0, 2)},
     "cache_batch_idx value 1: expected a number in [0, 1], got 2"),
    ({**VARLEN_GOOD, **CU, "cu_seqlens_q": ints(0, 3, 7)},
     "cu_seqlens_q value 2: expected a number in [3, 6], got 7"),
    ({**VARLEN_GOOD, **CU, "cu_seqlens_q": ints(1, 3, 6)},
     "cu_seqlens_q value 0: expected 0, got 1"),
    ({**VARLEN_GOOD, **CU, "cu_seqlens_k": ints(0, 5, 4)},
     "cu_seqlens_k value 2: expected a number in [5, 10], got 4"),
    ({**VARLEN_GOOD, **CU, "cu_seqlens_k": ints(0, 10)},
     "cu_seqlens_k shape: expected [3], got [2]"),
    ({**PAGED, "block_table": ints(0, 2).reshape(2, 1)},
     "block_table value [1, 0]: expected a number in [0, 1], got 2"),
    ({**PAGED, "seqused_k": ints(5, 6)}, "seqused_k value 1: expected a number in [0, 5], got 6"),
    ({"block_table": PAGED["block_table"]},
     "seqused_k presence: expected given, or cu_seqlens_k, where block_table is, got None"),
    ({"rotary_cos": torch.ones(8, 9), "rotary_sin": torch.ones(8, 9), "rotary_seqlens": ints(0, 0)},
     "rotary_cos shape: expected at most 8 columns, got [8, 9]"),
    ({"rotary_cos": torch.ones(8, 4), "rotary_sin": torch.ones(8, 4), "rotary_seqlens": ints(0, 6),
      "causal": True}, "rotary_seqlens value 1: expected a number in [0, 5], got 6"),
    ({"out": torch.ones(2, 3, 4, 15)}, "out shape: expected [2, 3, 4, 16], got [2, 3, 4, 15]"),
    ({"out": torch.ones(1, 3, 4, 16).expand(2, -1, -1, -1)},
     "out strides: expected elements that share no memory, got [0, 64, 16, 1]"),
    ({"out": GOOD["q"]}, "out memory: expected disjoint from q, got overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), ERRORS, ids=[e[1][:40] for e in ERRORS])
def test_bad_arguments_are_named_with_what_was_expected(
    fa2: ModuleType, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(RuntimeError) as failure:
        attend(fa2, **(GOOD | arguments))
    assert str(failure.value).splitlines()[0] == f"flash_attn2.attention_forward: {text}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cache_seqlens": ints(3, 0)},
         "attention_with_cache: cache_seqlens value 0: expected a number in [0, 2], got 3"),
        ({"k": torch.ones(2, 3, 1, 16)},
         "attention_with_cache: k shape: expected [2, 3, 2, 16], got [2, 3, 1, 16]"),
        ({"v": None},
         "flash_attn_with_kvcache: v presence: expected both of k and v, or neither, got None"),
        ({"k": None, "v": None, "rotary_cos": torch.ones(8, 4)},
         "flash_attn_with_kvcache: rotary_cos presence: expected None where no k is appended, "
         "got a tensor"),
        ({"rotary_cos": torch.ones(4, 4), "rotary_sin": torch.ones(4, 4)},
         "attention_with_cache: rotary_seqlens value 0: expected a number in [0, 1], got 2"),
        ({"rotary_sin": torch.ones(8, 4)},
         "attention_with_cache: rotary_cos presence: expected all of rotary_cos, rotary_sin and "
         "rotary_seqlens, or none of cos and sin, got None"),
        ({"cache_seqlens": torch.tensor([2, 0])},
         "flash_attn_with_kvcache: cache_seqlens dtype: expected torch.int32, got torch.int64"),
        ({"cache_seqlens": None},
         "flash_attn_with_kvcache: cache_seqlens presence: expected given with k, got None"),
        ({"cache_batch_idx": ints(0, 2)},
         "attention_with_cache: cache_batch_idx value 1: expected a number in [0, 1], got 2"),
        # What the attention refuses is known before anything is appended.
        ({"softcap": -1.0},
         "attention_with_cache: softcap value: expected a finite number of at least 0, got "
         "-1.000000"),
        ({"alibi_slopes": torch.ones(3)},
         "attention_with_cache: alibi_slopes shape: expected [4], got [3]"),
        ({"q": torch.ones(2, 3, 3, 16)},
         "attention_with_cache: k_cache heads: expected a divisor of the 3 heads of q, got 2"),
        ({"q": torch.ones(3, 3, 4, 16)},
         "attention_with_cache: cache_seqlens shape: expected [3], got [2]"),
    ],
)  # fmt: skip
def test_a_cache_is_never_written_outside(
    fa2: ModuleType, arguments: dict[str, Any], text: str
) -> None:
    caches = torch.zeros(2, 2, 5, 2, 16)
    new = torch.ones(2, 3, 2, 16)
    good = {"q": GOOD["q"], "k": new, "v": new.clone(), "cache_seqlens": ints(2, 0)}
    with pytest.raises(RuntimeError) as failure:
        fa2.flash_attn_with_kvcache(k_cache=caches[0], v_cache=caches[1], **(good | arguments))
    assert str(failure.value).splitlines()[0] == f"flash_attn2.{text}"
    assert (caches == 0).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cu_seqlens_k_new": ints(0, 1, 2)}, "cu_seqlens_k_new presence: expected None where no"),
        ({"rotary_seqlens": ints(0, 0)}, "rotary_seqlens presence: expected None where no k"),
        ({"rotary_sin": torch.ones(8, 4)}, "rotary_sin presence: expected None where no k"),
        ({"cache_seqlens": torch.tensor([2, 0])}, "cache_seqlens dtype: expected torch.int32, got"),
        ({"k": torch.ones(2, 1, 2, 16), "v": torch.ones(2, 1, 2, 16), "cache_seqlens": 1,
          "rotary_seqlens": ints(0, 0)},
         "rotary_seqlens presence: expected None without rotary_cos and rotary_sin"),
    ],
)  # fmt: skip
def test_arguments_that_would_be_ignored_are_refused(
    fa3: ModuleType, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(RuntimeError, match=text):
        fa3.flash_attn_with_kvcache(GOOD["q"], GOOD["k"].clone(), GOOD["v"].clone(), **arguments)


def test_an_empty_cache_has_no_entry_that_an_index_could_name(fa2: ModuleType) -> None:
    q, empty = random(2, 1, 4, 16), torch.empty(0, 8, 2, 16)
    for new in (None, random(2, 1, 2, 16)):
        with pytest.raises(RuntimeError, match="cache_batch_idx value 0: expected none, for there"):
            fa2.flash_attn_with_kvcache(
                q, empty, empty.clone(), new, new, cache_seqlens=0, cache_batch_idx=ints(0, 1)
            )


def test_keys_and_values_may_share_a_buffer_row_by_row(fa2: ModuleType) -> None:
    """Views that interleave share no byte; q may come from the same buffer too."""
    q, new = random(2, 3, 4, 16), random(2, 3, 2, 2, 16)
    both = random(2, 40, 2, 2, 16)
    apart = [tensor.contiguous() for tensor in both.unbind(2)]
    options = {"cache_seqlens": ints(5, 37), "causal": True}
    expected = fa2.flash_attn_with_kvcache(q, *apart, *new.unbind(2), **options)
    out = fa2.flash_attn_with_kvcache(q, *both.unbind(2), *new.unbind(2), **options)
    assert torch.equal(out, expected)
    for view, cache in zip(both.unbind(2), apart, strict=True):
        assert torch.equal(view, cache)
    room = random(2, 20, 5, 4, 16)
    q, k, v, out, _ = room.unbind(2)
    expected = fa2.flash_attn_func(q.clone(), k.clone(), v.clone())
    assert fa2.fwd(q, k, v, out)[0] is out
    assert torch.equal(out, expected)


def test_windows_wider_than_anything_are_no_windows(fa2: ModuleType) -> None:
    q, k, v = random(3, 1, 90, 2, 32)
    expected = fa2.flash_attn_func(q, k, v)
    for sides in ((2**63 - 1, 2**63 - 1), (2**62, -1), (-1, 2**31), (2**32 + 1, 2**33)):
        assert torch.equal(fa2.flash_attn_func(q, k, v, window_size=sides), expected)
        causal = fa2.flash_attn_func(q, k, v, window_size=sides, causal=True)
        assert torch.equal(causal, fa2.flash_attn_func(q, k, v, causal=True))


def test_random_arguments_only_ever_raise_or_agree(fa2: ModuleType) -> None:
    generator = torch.Generator().manual_seed(3)

    def pick(*values: Any) -> Any:
        return values[int(torch.randint(len(values), (), generator=generator))]

    agreed = 0
    for _ in range(600):
        batch, rows, keys, dim = pick(0, 1, 3), pick(0, 1, 9, 70), pick(0, 1, 130), pick(1, 8, 33)
        q = random(batch, rows, pick(1, 2, 3, 6), dim)
        k, v = random(2, pick(batch, batch, 2), keys, pick(1, 2, 3), pick(dim, dim, 8))
        rule = Rule(
            causal=pick(False, True),
            window=(pick(-1, 0, 5), pick(-1, 0, 5)),
            softcap=pick(0.0, 3.0),
            alibi=pick(None, torch.rand(2), torch.rand(batch, q.shape[2])),
            sinks=pick(None, torch.randn(q.shape[2])),
        )  # fmt: skip
        try:
            out, lse = attend(
                fa2, q=q, k=k, v=v, causal=rule.causal, window_size=rule.window,
                softcap=rule.softcap, alibi_slopes=rule.alibi, s_aux=rule.sinks,
                num_splits=pick(0, 1, 3),
            )  # fmt: skip
        except RuntimeError as failure:
            assert str(failure).startswith("flash_attn2.attention_forward: ")
            continue
        check(out, lse, q, k, v, rule)
        agreed += 1
    assert agreed > 100


@pytest.mark.parametrize("mask", ["plain", "everything"])
def test_the_ops_pass_the_checks_of_torch_library(fa2: ModuleType, mask: str) -> None:
    q, k, v = random(2, 6, 4, 16), random(2, 9, 2, 16), random(2, 9, 2, 16)
    optional: list[Any] = [None] * 12
    if mask == "everything":
        optional[3], optional[4] = ints(9, 4), ints(1, 0)
        optional[7], optional[8] = torch.rand(4), torch.rand(4)
    arguments = (
        torch.empty_like(q), torch.empty(2, 4, 6), q, k, v, *optional,
        0.25, True, 5, 0, 2.0, True, 0,
    )  # fmt: skip
    torch.library.opcheck(fa2.ops.attention_forward.default, arguments)
    new = random(2, 3, 2, 16)
    append = (k, v, new, new.clone(), ints(1, 6), None, None, None, None, None, None, True)
    torch.library.opcheck(fa2.ops.append_kv.default, append)
    with_cache = (
        torch.empty_like(q), torch.empty(2, 4, 6), k, v, q, new, new.clone(), ints(1, 6), None,
        None, ints(4, 9), *optional[4:6], None, *optional[7:], 0.25, True, 5, 0, 2.0, True, 0,
    )  # fmt: skip
    torch.library.opcheck(fa2.ops.attention_with_cache.default, with_cache)


def test_functions_trace_into_one_graph_with_dynamic_lengths(
    fa2: ModuleType, fa3: ModuleType
) -> None:
    functions = (
        lambda q, k, v: fa2.flash_attn_func(q, k, v, causal=True),
        lambda q, k, v: fa3.flash_attn_func(q, k, v, window_size=(3, 0), return_attn_probs=True)[1],
        lambda q, k, v: fa2.flash_attn_with_kvcache(q[:, :1], k, v, cache_seqlens=4),
    )
    for function in functions:
        torch._dynamo.reset()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
        for batch, rows in ((2, 5), (3, 8), (4, 9)):
            q, (k, v) = random(batch, rows, 4, 16), random(2, batch, rows + 2, 2, 16)
            assert torch.equal(compiled(q, k, v), function(q, k, v))


def test_functions_export(fa2: ModuleType) -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return fa2.flash_attn_func(q, k, v, causal=True)

    q, k, v = random(3, 2, 5, 2, 16)
    exported = torch.export.export(Attention(), (q, k, v)).module()
    assert torch.equal(exported(q, k, v), fa2.flash_attn_func(q, k, v, causal=True))


@pytest.mark.parametrize("package", PACKAGES)
def test_c_calls_give_the_bits_of_the_torch_build(load_package: Load, package: str) -> None:
    (library,) = (Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / package / "build").glob(
        "tvm-ffi*-cpu-*/*.so"
    )
    module = tvm_ffi.load_module(str(library))
    q, (k, v) = random(2, 20, 4, 32), random(2, 2, 30, 2, 32)
    expected, expected_lse = attend(load_package(package), q=q, k=k, v=v, causal=True)
    out, lse = torch.empty_like(expected), torch.empty_like(expected_lse)
    absent = [None] * 12
    module.attention_forward(out, lse, q, k, v, *absent, 32**-0.5, True, -1, -1, 0.0, True, 0)
    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)
    cache = torch.zeros(2, 2, 8, 2, 32)
    module.append_kv(*cache, k[:, :3], v[:, :3], ints(5, 1), *[None] * 6, True)
    assert torch.equal(cache[0, 0, 5:], k[0, :3])
    assert torch.equal(cache[1, 1, 1:4], v[1, :3])
    used, seen = ints(2, 5), ints(5, 8)
    module.attention_with_cache(
        out, lse, *cache, q, k[:, 3:6], v[:, 3:6], used, None, None, seen, *[None] * 8,
        32**-0.5, True, -1, -1, 0.0, True, 0,
    )  # fmt: skip
    assert torch.equal(cache[0, 0, 2:5], k[0, 3:6])
    expected, expected_lse = attend(
        load_package(package), q=q, k=cache[0], v=cache[1], seqused_k=seen, causal=True
    )
    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)
    with pytest.raises(RuntimeError, match=r"attention_forward: lse shape: expected \[2, 4, 20\]"):
        module.attention_forward(out, lse[:1], q, k, v, *absent, 1.0, True, -1, -1, 0.0, True, 0)
    listing = subprocess.run(
        ["readelf", "-d", str(library)], capture_output=True, text=True, check=True
    ).stdout
    needed = {line.split("[")[1].rstrip("]") for line in listing.splitlines() if "NEEDED" in line}
    assert needed <= {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"}


def test_memory_grows_with_the_queries_only() -> None:
    """A child's peak over that of its tensors: scores of the first call would take 8 GiB. Each row
    of the second has 64 partial results, whatever the rows of a block might be.
    """
    folder = Path(os.environ["KERNELHUB_PACKAGES_DIR"]) / "flash-attn2"
    program = f"""
import kernels, pathlib, resource, torch
kernel = kernels.get_local_kernel(pathlib.Path({str(folder)!r}), backend='cpu')
torch.set_num_threads(1)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

q, k, v = torch.randn(3, 1, 32768, 1, 8)
out = kernel.flash_attn_func(q[:, :64], k[:, :64], v[:, :64])
before = peak()
out = kernel.flash_attn_func(q, k, v, window_size=(300, 300))
print(peak() - before)
q, (k, v) = torch.randn(16, 1, 32, 8), torch.randn(2, 1, 8192, 1, 8).expand(2, 16, 8192, 32, 8)
before = peak()
out = kernel.flash_attn_with_kvcache(q, k, v, num_splits=64)
print(peak() - before)
"""
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    whole, split = (int(line) for line in child.stdout.split())
    out_and_lse_kib = 32768 * 9 * 4 // 1024
    assert whole <= out_and_lse_kib + 4096
    partial_kib = 16 * 32 * 64 * (8 + 2) * 4 // 1024
    assert split <= partial_kib + 4096
