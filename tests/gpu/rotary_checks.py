# SPDX-License-Identifier: Apache-2.0
"""The checks of the rotary package."""

from __future__ import annotations

import itertools
import threading

import precision
import rotary_reference as reference
import torch
from checks import DTYPES, WITHOUT_SHARED_MEMORY, Absent, Context, Family, same

HEADS = ((1, 1), (4, 2), (9, 3), (32, 8))
WIDTHS = (2, 20, 64, 80, 128, 134)
TYPES = [(dtype, table) for dtype in DTYPES for table in {dtype, torch.float32}]


def tables(
    context: Context, *shape: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin on the device."""
    cos, sin = reference.tables(*shape, dtype=dtype)
    return cos.to(context.device), sin.to(context.device)


def views(
    context: Context, heads: tuple[int, int], width: int, layout: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q and k [2, H, 33, width], and the buffer of canaries that they lie in."""
    total, extra = sum(heads), 3 if layout == "padded" else 0
    start = 1 if layout == "offset" else 0
    buffer = torch.full(
        (start + 2 * 33 * total * (width + extra) + 9,), 77.0, dtype=dtype, device=context.device
    )
    whole = buffer[start:-9].view(2, 33, total, width + extra)[..., :width]
    q, k = whole.split(heads, dim=2)
    if layout == "heads_first":
        flat = buffer[start:-9].split([2 * 33 * n * width for n in heads])
        q, k = (f.view(2, n, 33, width).transpose(1, 2) for f, n in zip(flat, heads, strict=True))
    for x in (q, k):
        x.copy_(torch.randn(x.shape, device=context.device))
    return q.transpose(1, 2), k.transpose(1, 2), buffer


def rotary_numerics(context: Context) -> None:
    """Rotation of queries and keys against fp64, every dtype and dtype of the tables."""
    ops = context.package("rotary").ops
    for dtype, table in TYPES:
        q = torch.randn(2, 32, 512, 128, device=context.device).to(dtype)
        k = torch.randn(2, 8, 512, 128, device=context.device).to(dtype)
        cos, sin = tables(context, 2, 512, 128, dtype=table)
        outs = [torch.full_like(x, float("nan")) for x in (q, k)]
        ops.apply_rotary_transformers(*outs, q, k, cos, sin, False, 1)
        for out, x in zip(outs, (q, k), strict=True):
            error = precision.relative_error(out, reference.rotated(x, cos, sin))
            assert error <= precision.ROTARY[dtype], f"{dtype} {table}: {error:.2e}"


def rotary_bits(context: Context) -> None:
    """Every layout, width and flag gives the bits of the fp32 formula, in place too, and nothing
    else is written."""
    ops = context.package("rotary").ops
    layouts = ("fused", "heads_first", "padded", "offset")
    widths = (20, 128) if context.is_quick else WIDTHS
    heads = HEADS[1:3] if context.is_quick else HEADS
    for (dtype, table), layout, width, count in itertools.product(TYPES, layouts, widths, heads):
        for interleaved, partial, cached in itertools.product((False, True), repeat=3):
            q, k, buffer = views(context, count, width, layout, dtype)
            rotary_dim = width // 4 * 2 if partial and width > 2 else width
            rows = (40, rotary_dim) if cached else (2, 33, rotary_dim)
            cos, sin = tables(context, *rows, dtype=table)
            picked = torch.randint(0, 40, (2, 33), device=context.device) if cached else None
            options = (picked, rotary_dim, interleaved, partial, 1)
            expected = [reference.fp32_formula(x, cos, sin, *options) for x in (q, k)]
            place = buffer.clone()
            outs = [place.as_strided(x.shape, x.stride(), x.storage_offset()) for x in (q, k)]
            for out in outs:
                out.fill_(float("nan"))
            ops.rotary_embedding_out(*outs, q, k, cos, sin, *options)
            where = f"{dtype} {table} {layout} {width} {count} {options[1:]} cached={cached}"
            for out, value in zip(outs, expected, strict=True):
                assert same(out, value), where
            ops.rotary_embedding(q, k, cos, sin, *options)
            assert same(buffer, place), f"in place: {where}"


def rotary_halves(context: Context) -> None:
    """apply_rotary on strided halves and broadcast tables, in place."""
    ops = context.package("rotary").ops
    for (dtype, table), conj in itertools.product(TYPES, (False, True)):
        x = torch.randn(3, 17, 5, 96, device=context.device).to(dtype)
        cos, sin = tables(context, 17, 96, dtype=table)
        expected = reference.fp32_formula(x, cos, sin, conj=conj)
        first, second = x.chunk(2, dim=-1)
        c, s = cos[:, None, :48], sin[:, None, :48]
        ops.apply_rotary(first, second, c, s, first, second, conj)
        assert same(x, expected), f"{dtype} {table}"


def rotary_determinism(context: Context) -> None:
    """Repeated calls give the same bits, and a row alone those of the row in a batch."""
    ops = context.package("rotary").ops
    q = torch.randn(64, 8, 64, 128, device=context.device).bfloat16()
    cos, sin = tables(context, 64, 64, 128)

    def rotated(x: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        ops.rotary_embedding_out(out, None, x, None, c, s, None, 128, False, False, 1)
        return out

    first = rotated(q, cos, sin)
    for _ in range(5 if context.is_quick else 20):
        assert same(rotated(q, cos, sin), first)
    alone = rotated(q[5:6, 3:4, 7:8], cos[5:6, 7:8], sin[5:6, 7:8])
    assert same(alone, first[5:6, 3:4, 7:8])


def rotary_positions(context: Context) -> None:
    """Rows of positions outside the table are NaN, the others are right, on a GPU."""
    if context.device == "cpu":
        raise Absent("the CPU build refuses such positions")
    ops = context.package("rotary").ops
    cos, sin = tables(context, 40, 64)
    for kind in (torch.int32, torch.int64):
        positions = torch.tensor([0, -1, 39, 40, 2**31 - 1, 7], dtype=kind, device=context.device)
        q = torch.randn(6, 4, 64, device=context.device)
        kept = positions.clamp(0, 39)
        expected = reference.fp32_formula(q, cos, sin, kept)
        expected[positions != kept] = float("nan")
        ops.rotary_embedding(q, None, cos, sin, positions, 64, False, False, 1)
        assert same(q, expected)


def rotary_streams(context: Context) -> None:
    """A side stream, replays of a captured graph with new inputs, and eight threads."""
    ops = context.package("rotary").ops
    q, k, _ = views(context, (8, 2), 128, "fused", torch.bfloat16)
    cos, sin = tables(context, 2, 33, 128)
    outs = torch.empty_like(q), torch.empty_like(k)

    def call(results: tuple[torch.Tensor, ...] = outs) -> None:
        ops.apply_rotary_transformers(*results, q, k, cos, sin, False, 1)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        q.mul_(2)
        call()
    torch.cuda.current_stream().wait_stream(side)
    assert same(outs[0], reference.fp32_formula(q, cos, sin))

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    for _ in range(3):
        q.normal_()
        graph.replay()
        assert same(outs[0], reference.fp32_formula(q, cos, sin))
        assert same(outs[1], reference.fp32_formula(k, cos, sin))

    results = [(torch.empty_like(q), torch.empty_like(k)) for _ in range(8)]
    torch.cuda.synchronize()
    threads = [threading.Thread(target=call, args=(pair,)) for pair in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    assert all(same(pair[0], outs[0]) and same(pair[1], outs[1]) for pair in results)


def rotary_huge(context: Context) -> None:
    """More than 2^31 elements, the last of them checked."""
    if context.device == "cpu" or torch.cuda.mem_get_info()[0] < 20 << 30:
        raise Absent("needs 20 GB of free device memory")
    ops = context.package("rotary").ops
    tokens = (1 << 31) // (4 * 128) + 1
    q = torch.randn(1, 4, 128, device=context.device).bfloat16().expand(tokens, 4, 128).contiguous()
    cos, sin = tables(context, 1, 128)
    ops.rotary_embedding(q, None, cos, sin, None, 128, False, False, 1)
    assert torch.equal(q[-1], q[0])
    assert torch.equal(q[tokens // 2], q[0])


FAMILY = Family(
    packages=("rotary",),
    ops=("apply_rotary_transformers",),
    checks=(
        rotary_numerics,
        rotary_bits,
        rotary_halves,
        rotary_determinism,
        rotary_positions,
        rotary_streams,
        rotary_huge,
    ),
    on_any_device=(rotary_numerics, rotary_bits, rotary_halves, rotary_determinism),
    sanitized=(rotary_bits, rotary_halves, rotary_positions),
    sanitizer_tools=WITHOUT_SHARED_MEMORY,
)
