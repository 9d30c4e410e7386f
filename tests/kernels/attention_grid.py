# SPDX-License-Identifier: Apache-2.0
"""The grid of attention calls, and what is asserted of each: whoever computes it."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from attention_reference import BF16, FP16, FP32, RELATIVE, Rule, attention, check, visible

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
SMALL_SIZES = ((1, 203), (2, 63), (64, 2), (70, 203))
SMALL_DIMS = (32, 40, 128)
NAN_RULES = (Rule(causal=True), Rule(window=(0, 0)), Rule(window=(150, 40)))
# Rows of q, or keys of 300, whose column 3 is NaN.
NAN_PLACES = ({"q": 2}, {"k": 290}, {"v": 290}, {"v": 291}, {"k": 1, "v": 200})
PAGE = 16


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


def nan_places(shape: Sequence[int], where: dict[str, int], seen: torch.Tensor) -> torch.Tensor:
    """Bool, shaped as out: where the NaN of one of NAN_PLACES must come out."""
    places = torch.zeros(*shape, dtype=torch.bool)
    if "q" in where:
        places[:, where["q"]] |= seen[where["q"]].any()
    if "k" in where:
        places |= seen[:, where["k"]][None, :, None, None]
    if "v" in where:
        places[..., 3] |= seen[:, where["v"]][None, :, None]
    return places


def compare_nan(
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
    if set(where) == {"v"}:  # whose other columns count as ever
        exact, _ = attention(q, k, v.nan_to_num(0.0), rule)
        rest = torch.arange(40) != 3
        error = (out.double() - exact)[..., rest].norm() / exact[..., rest].norm()
        assert error <= RELATIVE[dtype]
