# SPDX-License-Identifier: Apache-2.0
"""Attention forward: prompts of one length or of several packed behind each other, and single
queries against a cache, dense or in pages, beside torch's fused form, each of its backends, and the
libraries that are installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from protocol.gate import Floor
from protocol.precision import ATTENTION
from protocol.rows import FUSED, OURS, READ, Row
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from families.family import Buffers, Call, Candidate, Family, Problem, Scope, Tensors, installed
from families.floors import (
    Rows,
    against,
    cpu_ahead_or_at_memory,
    gpu_share_of_copy,
    judged,
    label,
    ratio,
)
from families.peers import FLASHINFER

DTYPES = (torch.float32, torch.bfloat16)
PREFILL, CAUSAL, DECODE = "attention_prefill", "attention_prefill_causal", "attention_decode"
# Least speed against torch's fused attention on a CPU.
FLOORS = {PREFILL: 1.0, CAUSAL: 1.0, DECODE: 3.0}

# The published setting: 16 Ki tokens, heads * dimension = 2048.
TOKENS, WIDTH = 16384, 2048
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
# TFLOP/s of FlashAttention-2 on an H100 SXM, fp16, by op, dimension and length: what the first
# release must reach from FROM_LENGTH on.
FA2_ON_H100 = {
    (PREFILL, 64): (282, 306, 318, 321, 322, 324),
    (CAUSAL, 64): (180, 229, 262, 284, 295, 299),
    (PREFILL, 128): (309, 350, 362, 368, 370, 370),
    (CAUSAL, 128): (191, 260, 298, 319, 333, 339),
    (PREFILL, 256): (275, 313, 321, 323, 324, 326),
    (CAUSAL, 256): (208, 251, 279, 293, 297, 298),
}
FROM_LENGTH = 2048
FLASH, CUDNN, EFFICIENT = "sdpa flash", "sdpa cudnn", "sdpa efficient"
FA2, FA3 = "flash_attn 2", "flash_attn 3"
BACKENDS = {
    FLASH: SDPBackend.FLASH_ATTENTION,
    CUDNN: SDPBackend.CUDNN_ATTENTION,
    EFFICIENT: SDPBackend.EFFICIENT_ATTENTION,
}
# Their modules, and what they call the table of pages.
WHEELS = {FA2: ("flash_attn", "block_table"), FA3: ("flash_attn_interface", "page_table")}
BESIDE_BEST = 0.92
DECODE_PERCENT, DECODE_TOKENS = 80.0, 256 << 10
PAGES = (16, 64, 256)
PAGED_BESIDE_DENSE = 1.05
# Packed sequences, as a problem's "lengths" call them, and the least rate beside a dense batch.
# Mixed ones are this many times the batch, from one token to the length of the batch.
BALANCED, MIXED = "balanced", "mixed"
PACKED_BESIDE_DENSE = {BALANCED: 0.95, MIXED: 0.8}
MIXED_SEQUENCES = 4
# FlashInfer reads a dense cache as pages of this size.
DENSE_PAGE = 64
FLASHINFER_WORKSPACE = 128 << 20


def sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> Call:
    """torch's attention on contiguous `[batch, heads, rows, dim]`, which suits it best."""
    heads_first = [one.transpose(1, 2).contiguous() for one in (q, k, v)]
    mask = None
    if is_causal and q.shape[1] != k.shape[1]:
        ones = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
        mask, is_causal = ones.tril(k.shape[1] - q.shape[1]), False
    call = partial(
        functional.scaled_dot_product_attention,
        *heads_first,
        mask,
        is_causal=is_causal,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return lambda: call().transpose(1, 2)


def with_backend(backend: SDPBackend, call: Call) -> object:
    """A call of torch's attention by one of its backends."""
    with sdpa_kernel(backend):
        return call()


def first_of(call: Call) -> object:
    """Some versions of a library return the log-sum-exp too."""
    returned = call()
    return returned[0] if isinstance(returned, tuple) else returned


class Attention(Family):
    """`shape` is (batch, queries, keys, heads, heads of keys, dimension).

    A problem with a "page" in its setting has its keys in pages of so many, too: `shared` holds the
    pages of keys and of values, their table and the lengths. One with "lengths" is a batch of
    prompts packed behind each other, `shape` the dense batch that it stands beside: `shared` holds
    the offsets of the sequences.
    """

    name = "attention"
    package = "flash-attn2"
    ops = (PREFILL, CAUSAL, DECODE)
    headline = ops
    rowwise = False
    compute_bound = (PREFILL, CAUSAL)
    read_bound = (DECODE,)

    def problem(self, op: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Problem:
        """The bytes of q, k, v and out; the arithmetic of both products."""
        batch, queries, keys, heads, kv_heads, dim = shape
        elements = 2 * batch * dim * (queries * heads + keys * kv_heads)
        flops = 4 * batch * heads * queries * keys * dim // (2 if op == CAUSAL else 1)
        return Problem(op, dtype, shape, elements * dtype.itemsize, flops)

    def cpu_problems(self, op: str, scope: Scope) -> Iterator[Problem]:
        # torch's attention takes the best instruction set always: the others have no match.
        if not scope.references:
            return
        if not scope.best:  # how it scales
            is_asked = op == PREFILL or (op == CAUSAL and not scope.quick)
            for dtype in DTYPES if is_asked else ():
                yield self.problem(op, dtype, (1, 2048, 2048, 16, 16, 128))
            return
        for dtype in DTYPES:
            if op == DECODE:
                yield self.problem(op, dtype, (1, 1, 8192, 32, 8, 128))
                if not scope.quick:
                    yield self.problem(op, dtype, (8, 1, 1024, 16, 16, 64))
            else:
                yield self.problem(op, dtype, (1, 2048, 2048, 16, 16, 128))
                if not scope.quick:
                    yield self.problem(op, dtype, (4, 512, 512, 32, 8, 64))

    def gpu_problems(self, op: str, is_quick: bool) -> Iterator[Problem]:
        aligned = {"launch": "stream", "layout": "aligned"}
        half = torch.bfloat16
        if op == DECODE:
            for batch, keys in ((8, 32768),) if is_quick else ((1, 4096), (8, 32768), (4, 131072)):
                dense = replace(
                    self.problem(op, half, (batch, 1, keys, 32, 4, 128)), setting=aligned
                )
                yield dense
                for page in PAGES[1:2] if is_quick else PAGES:
                    yield replace(dense, setting={**aligned, "layout": "paged", "page": page})
            return
        for dim in (128,) if is_quick else (64, 128, 256):
            for length in (4096,) if is_quick else LENGTHS:
                heads = WIDTH // dim
                for dtype in (half, torch.float16) if (dim, length) == (128, 4096) else (half,):
                    shape = (TOKENS // length, length, length, heads, heads, dim)
                    yield replace(self.problem(op, dtype, shape), setting=aligned)
        if is_quick:
            return
        for lengths in PACKED_BESIDE_DENSE:
            yield self.packed(op, half, (TOKENS // 4096, 4096, 4096, 16, 16, 128), lengths)

    def packed(self, op: str, dtype: torch.dtype, shape: tuple[int, ...], lengths: str) -> Problem:
        """Prompts behind each other beside the dense batch of `shape`."""
        dense = self.problem(op, dtype, shape)
        setting = {"launch": "stream", "layout": "packed", "lengths": lengths}
        tokens = sequence_lengths(replace(dense, setting=setting))
        pairs = sum(one * one for one in tokens)
        batch, length = shape[:2]
        return replace(
            dense,
            bytes=dense.bytes * sum(tokens) // (batch * length),
            flops=dense.flops * pairs // (batch * length * length),
            setting=setting,
        )

    def checked_as(self, problem: Problem) -> Problem:
        if "launch" in problem.setting:  # a GPU compares all of it
            return problem
        batch, queries, keys, *rest = problem.shape
        return replace(problem, shape=(batch, min(queries, 128), min(keys, 300), *rest))

    def buffers(self, problem: Problem, device: str) -> Buffers:
        batch, queries, keys, heads, kv_heads, dim = problem.shape
        new = partial(torch.randn, dtype=problem.dtype, device=device)
        if "lengths" in problem.setting:
            ends = torch.tensor([0, *sequence_lengths(problem)]).cumsum(0)
            q, k, v = (new(int(ends[-1]), count, dim) for count in (heads, kv_heads, kv_heads))
            return Buffers((q, k, v), (_poisoned(q),), (ends.int().to(device),))
        q = new(batch, queries, heads, dim)
        k, v = (new(batch, keys, kv_heads, dim) for _ in range(2))
        out = _poisoned(q)
        page = int(problem.setting.get("page", 0))
        if not page:
            return Buffers((q, k, v), (out,))
        table = torch.randperm(batch * keys // page, device=device).int().view(batch, -1)
        lengths = torch.full((batch,), keys, dtype=torch.int32, device=device)
        pools = []
        for tensor in (k, v):
            pool = torch.empty_like(tensor).view(-1, page, kv_heads, dim)
            pool[table.flatten().long()] = tensor.view(-1, page, kv_heads, dim)
            pools.append(pool)
        return Buffers((q, k, v), (out,), (*pools, table, lengths))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        q, k, v = buffers.inputs
        is_causal = problem.op == CAUSAL
        if "lengths" not in problem.setting:
            return (_exact(q, k, v, is_causal),)
        lengths = sequence_lengths(problem)
        sequences = zip(*(one.split(lengths) for one in (q, k, v)), strict=True)
        whole = [_exact(*(one[None] for one in each), is_causal)[0] for each in sequences]
        return (torch.cat(whole),)

    def bound(self, problem: Problem) -> float:
        return ATTENTION[problem.dtype]

    def c_op(self, op: str) -> str:
        return "attention_forward"

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        (q, k, v), (out,) = buffers.inputs, buffers.outputs
        table = lengths = offsets = None
        if "lengths" in problem.setting:
            (offsets,) = buffers.shared
            lse = torch.empty(q.shape[1], q.shape[0], device=q.device)
        else:
            lse = torch.empty(q.shape[0], q.shape[2], q.shape[1], device=q.device)
        if "page" in problem.setting:
            k, v, table, lengths = buffers.shared
        optional = (offsets, offsets, None, lengths, None, table, *(None,) * 6)
        rule = (q.shape[-1] ** -0.5, problem.op == CAUSAL, -1, -1, 0.0, True, 0)
        return (out, lse, q, k, v, *optional, *rule)

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        return _bound(module, problem, buffers, "block_table")

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        if not {"page", "lengths"}.isdisjoint(problem.setting):
            return None
        return lambda buffers: sdpa(*buffers.inputs, problem.op == CAUSAL)

    def others(self, problem: Problem, baseline: Path | None) -> list[Candidate]:
        return [
            *(self._backend(problem, name) for name in BACKENDS),
            *(self._wheel(problem, name) for name in WHEELS),
            self._flashinfer(problem),
        ]

    def _backend(self, problem: Problem, name: str) -> Candidate:
        attend = self.fused(problem)
        if attend is None:
            return Candidate(name, None, "torch knows no pages and no packed sequences")
        return Candidate(
            name, lambda buffers: partial(with_backend, BACKENDS[name], attend(buffers))
        )

    def _wheel(self, problem: Problem, name: str) -> Candidate:
        module, table = WHEELS[name]

        def bind(function: Callable[..., object]) -> Callable[[Buffers], Call]:
            functions = SimpleNamespace(**{_function(problem): function})
            return lambda buffers: partial(first_of, _bound(functions, problem, buffers, table))

        return installed(name, f"{module}:{_function(problem)}", bind)

    def _flashinfer(self, problem: Problem) -> Candidate:
        if problem.op != DECODE:
            return Candidate(FLASHINFER, None, "timed for single queries")
        wrapper = "flashinfer.decode:BatchDecodeWithPagedKVCacheWrapper"
        return installed(
            FLASHINFER, wrapper, lambda planned: partial(_flashinfer_decode, planned, problem)
        )

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        op = candidates[OURS].op
        if op in self.read_bound:
            return cpu_ahead_or_at_memory(candidates, FUSED, FLOORS[op], READ)
        return against(candidates, FUSED, FLOORS[op])

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        ours = candidates[OURS]
        batch, length, keys, *_, dim = ours.shape
        if ours.op == DECODE:
            found = _beside_dense(ours, aligned)
            for other in (FA3, FLASHINFER):
                found += against(candidates, other, 1.0)
            if batch * keys >= DECODE_TOKENS:
                found += gpu_share_of_copy(candidates, DECODE_PERCENT)
            return found
        if "lengths" in ours.setting:
            return _packed_beside_dense(ours, aligned)
        if length < FROM_LENGTH:
            return []
        found = against(candidates, FLASH, 1.0) + _published(ours)
        return found + (_beside_best(candidates) if dim <= 128 else [])


def sequence_lengths(problem: Problem) -> list[int]:
    """Tokens of every prompt of a packed problem: as many in each as in the dense batch, or from
    one token to that many in steps as even as they come, long ones and short ones in turn.
    """
    batch, length = problem.shape[:2]
    if problem.setting["lengths"] == BALANCED:
        return [length] * batch
    count = MIXED_SEQUENCES * batch
    steps = [1 + (length - 1) * i // max(1, count - 1) for i in range(count)]
    return [steps[i // 2 if i % 2 == 0 else -1 - i // 2] for i in range(count)]


def _poisoned(like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, float("nan"))


def _exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> torch.Tensor:
    """Attention in fp64 over `[batch, rows, heads, dim]`, a head at a time: memory for the scores
    of one.
    """
    out = torch.empty(q.shape, dtype=torch.float64, device=q.device)
    group = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for head in range(k.shape[2]):
            keys, values = k[b, :, head].double(), v[b, :, head].double()
            for i in range(head * group, (head + 1) * group):
                scores = q[b, :, i].double() @ keys.mT * q.shape[-1] ** -0.5
                if is_causal:
                    later = torch.ones(scores.shape, dtype=torch.bool, device=q.device)
                    scores.masked_fill_(later.triu(k.shape[1] - q.shape[1] + 1), -torch.inf)
                out[b, :, i] = scores.softmax(-1) @ values
    return out


def _function(problem: Problem) -> str:
    """What libraries call the function for a problem."""
    if problem.op == DECODE:
        return "flash_attn_with_kvcache"
    return "flash_attn_varlen_func" if "lengths" in problem.setting else "flash_attn_func"


def _bound(
    module: ModuleType | SimpleNamespace, problem: Problem, buffers: Buffers, table_name: str
) -> Call:
    """The function of a library for a problem; it calls the table of pages `table_name`."""
    function, (q, k, v) = getattr(module, _function(problem)), buffers.inputs
    if "page" in problem.setting:
        keys, values, table, lengths = buffers.shared
        cache = {"cache_seqlens": lengths, table_name: table}
        return partial(function, q, keys, values, **cache)
    if problem.op == DECODE:
        return partial(function, q, k, v)
    is_causal = problem.op == CAUSAL
    if "lengths" not in problem.setting:
        return partial(function, q, k, v, causal=is_causal)
    (offsets,), longest = buffers.shared, problem.shape[1]
    return partial(function, q, k, v, offsets, offsets, longest, longest, causal=is_causal)


def _flashinfer_decode(wrapper: Callable[..., Any], problem: Problem, buffers: Buffers) -> Call:
    """A planned call over pages; a dense cache is pages in their order. Planning is not timed: it
    is done once for all layers of a model.
    """
    batch, _, keys, heads, kv_heads, dim = problem.shape
    q, k, v = buffers.inputs
    page = int(problem.setting.get("page", DENSE_PAGE))
    if buffers.shared:
        k, v, table, _ = buffers.shared
    else:
        k, v = (one.view(-1, page, kv_heads, dim) for one in (k, v))
        table = torch.arange(batch * keys // page, dtype=torch.int32, device=q.device)
    pages = torch.arange(batch + 1, dtype=torch.int32, device=q.device) * (keys // page)
    last = torch.full((batch,), page, dtype=torch.int32, device=q.device)
    workspace = torch.zeros(FLASHINFER_WORKSPACE, dtype=torch.uint8, device=q.device)
    planned = wrapper(workspace, "NHD", use_tensor_cores=heads > kv_heads)
    planned.plan(
        pages,
        table.flatten(),
        last,
        heads,
        kv_heads,
        dim,
        page,
        q_data_type=q.dtype,
        kv_data_type=k.dtype,
    )
    queries = q[:, 0]
    return lambda: planned.run(queries, (k, v)).unsqueeze(1)


def _published(ours: Row) -> list[Floor]:
    """The column of FlashAttention-2."""
    *_, dim = ours.shape
    if ours.tflops is None or ours.shape[1] not in LENGTHS or (ours.op, dim) not in FA2_ON_H100:
        return []
    least = FA2_ON_H100[ours.op, dim][LENGTHS.index(ours.shape[1])]
    rates = [ours.flops / time / 1e6 for time in ours.turns] or [ours.tflops]
    return judged(f"{label(ours)}: TFLOP/s", rates, least)


def _beside_dense(ours: Row, dense: Row | None) -> list[Floor]:
    """A cache in pages beside a dense one."""
    if "page" not in ours.setting or dense is None or not dense.us_median or not ours.us_median:
        return []
    what = f"{label(ours)} in pages of {ours.setting['page']}: time over the dense cache's"
    times = [time / dense.us_median for time in ours.turns or (ours.us_median,)]
    return judged(what, times, PAGED_BESIDE_DENSE, at_most=True)


def _packed_beside_dense(ours: Row, dense: Row | None) -> list[Floor]:
    """The rate of prompts behind each other beside that of a batch of one length."""
    if dense is None or not dense.tflops or not ours.us_median:
        return []
    lengths = str(ours.setting["lengths"])
    what = f"{label(ours)}, {lengths} lengths: TFLOP/s over the dense batch's"
    rates = [ours.flops / time / 1e6 for time in ours.turns or (ours.us_median,)]
    return judged(what, [rate / dense.tflops for rate in rates], PACKED_BESIDE_DENSE[lengths])


def _beside_best(candidates: Rows) -> list[Floor]:
    """The better of cuDNN and FlashAttention-3, where they are there."""
    speeds = {name: ratio(candidates, name, OURS) for name in (CUDNN, FA3)}
    known = {name: speed for name, speed in speeds.items() if speed is not None}
    return against(candidates, min(known, key=known.__getitem__), BESIDE_BEST) if known else []
