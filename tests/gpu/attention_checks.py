# SPDX-License-Identifier: Apache-2.0
"""The checks of the attention packages; flash-attn2 stands for the kernels that all share."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise

import attention_reference as reference
import grid
import torch
from checks import Context, Family, needs_graphs
from precision import BF16, FP16

DIMS = (32, 40, 64, 80, 96, 128, 160, 192, 256)
# Of q and k, and of v: every tile of the sm_90a kernels, filled or not.
DIM_PAIRS = (
    *((dim, dim) for dim in (40, 64, 80, 96, 128, 160, 192, 256)),
    *((192, 128), (64, 256)),
)
# The tiles themselves.
TILES = ((64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256))
LENGTHS = (1, 2, 63, 64, 113, 128, 203, 512, 1023, 2048)
HEADS = ((2, 2), (4, 2), (8, 1))
RULES = ("none", "causal", "local", "softcap", "alibi")
SPLITS = (1, 2, 7, 0)
PAGES = (16, 64, 256)


def _rule(name: str, heads: int) -> reference.Rule:
    return {
        "none": reference.Rule(),
        "causal": reference.Rule(causal=True),
        "local": reference.Rule(window=(37, 21)),
        "softcap": reference.Rule(causal=True, softcap=15.0),
        "alibi": reference.Rule(causal=True, alibi=torch.rand(heads)),
    }[name]


def _randn(context: Context, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(shape, device=context.device).to(dtype)


def _on_host(rule: reference.Rule, *tensors: torch.Tensor) -> None:
    """Compare (out, lse, q, k, v) with the reference, on the host."""
    out, lse, q, k, v = (tensor.cpu() for tensor in tensors)
    reference.check(out, lse, q, k, v, rule)


def _flags(rule: reference.Rule, device: str) -> dict[str, object]:
    return {
        "causal": rule.causal,
        "window_size": rule.window,
        "softcap": rule.softcap,
        "alibi_slopes": None if rule.alibi is None else rule.alibi.to(device),
    }


def attention(context: Context) -> None:
    """flash_attn_func and its varlen form against fp64 over a cover of the attention grid."""
    package = context.package("flash-attn2")
    lengths = LENGTHS[:7] if context.is_quick else LENGTHS
    cases = grid.pairwise(DIMS, lengths, lengths, HEADS, RULES, (BF16, FP16))
    for dim, rows, keys, (heads, heads_k), name, dtype in cases[:: 4 if context.is_quick else 1]:
        rule = _rule(name, heads)
        q = _randn(context, dtype, 2, rows, heads, dim)
        k, v = (_randn(context, dtype, 2, keys, heads_k, dim) for _ in range(2))
        flags = _flags(rule, context.device)
        out, lse, _ = package.flash_attn_func(q, k, v, return_attn_probs=True, **flags)
        _on_host(rule, out, lse, q, k, v)
        sizes = ((rows, keys), (0, 3), (max(1, rows // 3), 0), (rows, max(1, keys // 2)))
        starts_q, starts_k = (
            torch.tensor([0, *accumulate(size[i] for size in sizes)], dtype=torch.int32)
            for i in range(2)
        )
        packed = [
            _randn(context, dtype, int(starts[-1]), n, dim)
            for starts, n in ((starts_q, heads), (starts_k, heads_k), (starts_k, heads_k))
        ]
        starts = [one.to(context.device) for one in (starts_q, starts_k)]
        most = (max(size[i] for size in sizes) for i in range(2))
        out, lse, _ = package.flash_attn_varlen_func(
            *packed, *starts, *most, return_attn_probs=True, **flags
        )
        for b in range(len(sizes)):
            own_q, own_k = (slice(int(s[b]), int(s[b + 1])) for s in (starts_q, starts_k))
            tensors = [packed[0][None, own_q], *(one[None, own_k] for one in packed[1:])]
            _on_host(rule, out[None, own_q], lse[None, :, own_q], *tensors)


def attention_paths(context: Context) -> None:
    """Prefill twice: as compute capability 9.0 takes it, and with the one argument (entries of the
    cache by name) that keeps a call to the sm_80 kernels.
    """
    package = context.package("flash-attn2")
    lengths = (64, 113, 203) if context.is_quick else (64, 113, 203, 1023, 2048)
    heads_of = (*HEADS, (7, 1))
    cases = grid.pairwise(DIM_PAIRS, lengths, lengths, heads_of, RULES, (BF16, FP16))
    for dims, rows, keys, (heads, heads_k), name, dtype in cases[:: 4 if context.is_quick else 1]:
        rule = _rule(name, heads)
        q = _randn(context, dtype, 2, rows, heads, dims[0])
        k, v = (_randn(context, dtype, 2, keys, heads_k, dim) for dim in dims)
        flags = _flags(rule, context.device) | {"num_splits": 1, "return_softmax_lse": True}
        entries = torch.arange(2, dtype=torch.int32, device=context.device)
        sums = []
        for named in (None, entries):
            out, lse, *_ = package.flash_attn_with_kvcache(
                q, k, v, cache_seqlens=keys, cache_batch_idx=named, **flags
            )
            _on_host(rule, out, lse, q, k, v)
            sums.append(lse)
        # The kernels add up in different orders: equal bits would be those of one kernel.
        if context.device == "cuda" and torch.cuda.get_device_capability() == (9, 0) and keys > 64:
            assert not torch.equal(*sums)


def attention_cache(context: Context) -> None:
    """Decode steps and short prompts over dense and paged caches, for every number of splits."""
    package = context.package("flash-attn2")
    for dim, heads in ((64, (8, 1)), (128, (32, 8)), (256, (4, 2))):
        for rows, keys in ((1, 2048), (1, 77), (5, 1023)):
            for splits in SPLITS[:: 3 if context.is_quick else 1]:
                _decode(context, package, dim, heads, rows, keys, splits)


def _decode(
    context: Context,
    package: object,
    dim: int,
    heads: tuple[int, int],
    rows: int,
    keys: int,
    splits: int,
) -> None:
    rule = reference.Rule(causal=True)
    q = _randn(context, BF16, 3, rows, heads[0], dim)
    k, v = (_randn(context, BF16, 3, keys, heads[1], dim) for _ in range(2))
    used = torch.tensor([keys, keys // 2 + rows, rows], dtype=torch.int32)
    flags = {"causal": True, "num_splits": splits, "return_softmax_lse": True}
    results = [
        package.flash_attn_with_kvcache(  # type: ignore[attr-defined]
            q, k, v, cache_seqlens=used.to(context.device), **flags
        )
    ]
    for page in PAGES:
        count = -(-keys // page)
        order = torch.randperm(3 * count, device=context.device)
        pools = []
        for tensor in (k, v):
            shape = (3 * count, page, heads[1], dim)
            padded = torch.full((3, count * page, *shape[2:]), math.nan, device=context.device)
            padded = padded.to(BF16)
            padded[:, :keys] = tensor
            pool = torch.empty(shape, dtype=BF16, device=context.device)
            pool[order] = padded.reshape(shape)
            pools.append(pool)
        table = order.int().reshape(3, count)
        results.append(
            package.flash_attn_with_kvcache(  # type: ignore[attr-defined]
                q, *pools, cache_seqlens=used.to(context.device), block_table=table, **flags
            )
        )
    for out, lse, *_ in results:
        for b, n in enumerate(used.tolist()):
            one = slice(b, b + 1)
            _on_host(rule, out[one], lse[one], q[one], k[one, :n], v[one, :n])


def attention_repeats(context: Context) -> None:
    """20 repeats give the same bits, and a sequence alone those that it has in a batch."""
    package = context.package("flash-attn2")
    q = _randn(context, BF16, 6, 300, 8, 128)
    k, v = (_randn(context, BF16, 6, 300, 2, 128) for _ in range(2))
    first = package.flash_attn_func(q, k, v, causal=True)
    for _ in range(20):
        assert torch.equal(package.flash_attn_func(q, k, v, causal=True), first)
    step = {"num_splits": 1, "cache_seqlens": 300}
    whole = package.flash_attn_with_kvcache(q[:, :1], k, v, **step)
    alone = package.flash_attn_with_kvcache(q[4:5, :1], k[4:5], v[4:5], **step)
    assert torch.equal(whole[4:5], alone)


def attention_alone(context: Context) -> None:
    """A sequence of a packed batch has the bits that it has alone, whichever kernel takes it."""
    third = context.package("vllm-flash-attn3").flash_attn_varlen_func
    starts = [0, 1, 4, 204, 504]  # sequences for both kernels, alone and beside one another
    flat = _randn(context, BF16, starts[-1], 8, 128)
    keys = _randn(context, BF16, 2, starts[-1], 2, 128)
    cu = torch.tensor(starts, dtype=torch.int32, device=context.device)
    together = third(flat, *keys, cu, cu, 300, 300, causal=True)
    for begin, end in pairwise(starts):
        one = torch.tensor([0, end - begin], dtype=torch.int32, device=context.device)
        rows, length = slice(begin, end), end - begin
        alone = third(flat[rows], *keys[:, rows], one, one, length, length, causal=True)
        assert torch.equal(together[rows], alone)


def attention_threads(context: Context) -> None:
    """The first call of a new thread, to which no context is bound yet, gives the usual bits."""
    package = context.package("flash-attn2")
    q, k, v = (_randn(context, BF16, 1, 200, 2, 64) for _ in range(3))

    def call() -> torch.Tensor:
        out, *_ = package.flash_attn_with_kvcache(
            q, k, v, cache_seqlens=200, num_splits=1, return_softmax_lse=True
        )
        return out

    with ThreadPoolExecutor(1) as thread:
        elsewhere = thread.submit(call).result()
    assert torch.equal(elsewhere, call())


def attention_many_works(context: Context) -> None:
    """Several works for every multiprocessor, long and short; a small call where there are none."""
    package = context.package("flash-attn2")
    is_cuda = context.device == "cuda"
    rule = reference.Rule(causal=True)
    batch, heads, rows = (4, 16, 2048) if is_cuda else (2, 2, 150)
    lengths = (0, 5, 1500, 129, 0, 2047, 64, 300) if is_cuda else (0, 5, 150, 33, 0, 64)
    for dim, dim_v in TILES:
        q, k = (_randn(context, BF16, batch, rows, heads, dim) for _ in range(2))
        v = _randn(context, BF16, batch, rows, heads, dim_v)
        out, lse, _ = package.flash_attn_func(q, k, v, causal=True, return_attn_probs=True)
        for b in range(batch):
            one = slice(b, b + 1)
            _on_host(rule, out[one], lse[one], q[one], k[one], v[one])
        starts = list(accumulate(lengths, initial=0))
        cu = torch.tensor(starts, dtype=torch.int32, device=context.device)
        q, k = (_randn(context, BF16, starts[-1], heads, dim) for _ in range(2))
        v = _randn(context, BF16, starts[-1], heads, dim_v)
        most = max(lengths)
        out, lse, _ = package.flash_attn_varlen_func(
            q, k, v, cu, cu, most, most, causal=True, return_attn_probs=True
        )
        for begin, end in pairwise(starts):
            own = slice(begin, end)
            tensors = (one[None, own] for one in (q, k, v))
            _on_host(rule, out[None, own], lse[None, :, own], *tensors)


def attention_foreign_values(context: Context) -> None:
    """NaN behind the used keys of a cache reaches no row, of one work or of the next."""
    package = context.package("flash-attn2")
    lengths = (300, 17, 129, 80, 1, 112, 255, 64)
    batch = len(lengths) * (12 if context.device == "cuda" else 1)
    used = torch.tensor(lengths, dtype=torch.int32, device=context.device)
    used = used.repeat(batch // len(lengths))
    behind = torch.arange(320, device=context.device) >= used[:, None]
    for dim, dim_v in TILES:
        q = _randn(context, BF16, batch, 40, 6, dim)
        k, v = (_randn(context, BF16, batch, 320, 3, one) for one in (dim, dim_v))
        step = {"cache_seqlens": used, "num_splits": 1, "return_softmax_lse": True}
        clean = package.flash_attn_with_kvcache(q, k, v, **step)[:2]
        k[behind], v[behind] = math.nan, math.nan
        found = package.flash_attn_with_kvcache(q, k, v, **step)[:2]
        assert all(map(torch.equal, found, clean))
        assert found[0].isfinite().all()


def _capture(step: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """The graph of a step, and what its replays write."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    return graph, captured


def attention_capture_prefill(context: Context) -> None:
    """Prefill of many rows and whole keys replays from a CUDA graph with new contents."""
    needs_graphs(context)
    package = context.package("flash-attn2")
    for dim in (64, 128, 256):
        q, k, v = (_randn(context, FP16, 2, rows, 4, dim) for rows in (200, 500, 500))
        used = torch.tensor([500, 333], dtype=torch.int32, device="cuda")

        def step(
            q: torch.Tensor = q,
            k: torch.Tensor = k,
            v: torch.Tensor = v,
            used: torch.Tensor = used,
        ) -> torch.Tensor:
            out: torch.Tensor = package.flash_attn_with_kvcache(
                q, k, v, cache_seqlens=used, causal=True, num_splits=1
            )
            return out

        graph, captured = _capture(step)
        for length in (201, 480):
            used.fill_(length)
            for tensor in (q, k, v):
                tensor.normal_()
            graph.replay()
            torch.cuda.synchronize()
            assert torch.equal(step(), captured)


def attention_capture(context: Context) -> None:
    """Prefill, append and split decode replay from one CUDA graph with new contents."""
    needs_graphs(context)
    package = context.package("flash-attn2")
    q, new_k, new_v = (_randn(context, FP16, 2, 1, n, 64) for n in (8, 2, 2))
    k, v = (_randn(context, FP16, 2, 4096, 2, 64) for _ in range(2))
    used = torch.tensor([5, 9], dtype=torch.int32, device="cuda")

    def step() -> torch.Tensor:
        out: torch.Tensor = package.flash_attn_with_kvcache(
            q, k, v, new_k, new_v, cache_seqlens=used, causal=True
        )
        return out

    graph, captured = _capture(step)
    for length in (100, 4000):
        used.fill_(length)
        for tensor in (q, new_k, new_v):
            tensor.normal_()
        graph.replay()
        torch.cuda.synchronize()
        replayed, appended = captured.clone(), k[:, length].clone()
        assert torch.equal(appended, new_k[:, 0])
        assert torch.equal(step(), replayed)


def attention_sinks(context: Context) -> None:
    """Sink logits of the vLLM flavour against fp64, split or not."""
    package = context.package("vllm-flash-attn3")
    for dim, rows in ((64, 200), (128, 1)):
        sinks = torch.randn(8) * 2
        rule = reference.Rule(causal=True, window=(60, 0), sinks=sinks)
        q = _randn(context, BF16, 2, rows, 8, dim)
        k, v = (_randn(context, BF16, 2, 777, 2, dim) for _ in range(2))
        for splits in (1, 5):
            out, lse, *_ = package.flash_attn_func(
                q,
                k,
                v,
                causal=True,
                window_size=(60, 0),
                num_splits=splits,
                s_aux=sinks.to(context.device),
                return_attn_probs=True,
            )
            _on_host(rule, out, lse, q, k, v)


FAMILY = Family(
    packages=("flash-attn2", "vllm-flash-attn3"),
    ops=("attention_forward", "append_kv", "attention_with_cache"),
    checks=(
        *(attention_threads, attention, attention_paths, attention_many_works, attention_cache),
        *(attention_repeats, attention_alone, attention_capture, attention_capture_prefill),
        *(attention_sinks, attention_foreign_values),
    ),
    on_any_device=(
        *(attention_threads, attention, attention_paths, attention_many_works, attention_cache),
        *(attention_repeats, attention_alone, attention_sinks, attention_foreign_values),
    ),
    sanitized=(attention, attention_paths, attention_cache, attention_foreign_values),
)
