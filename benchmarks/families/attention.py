# SPDX-License-Identifier: Apache-2.0
"""Attention forward: prompts, and single queries against a cache, beside torch's fused form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import ModuleType

import torch
from protocol.gate import Floor
from protocol.precision import ATTENTION
from protocol.rows import FUSED, Row
from torch.nn import functional

from families.family import Buffers, Call, Family, Problem, Scope, Tensors
from families.floors import against

DTYPES = (torch.float32, torch.bfloat16)
PREFILL, CAUSAL, DECODE = "attention_prefill", "attention_prefill_causal", "attention_decode"
# Least speed against torch's fused attention.
FLOORS = {PREFILL: 1.0, CAUSAL: 1.0, DECODE: 3.0}


class Attention(Family):
    """`shape` is (batch, queries, keys, heads, heads of keys, dimension)."""

    name = "attention"
    package = "flash-attn2"
    ops = (PREFILL, CAUSAL, DECODE)
    headline = ops
    rowwise = False
    cpu_only = True
    compute_bound = (PREFILL, CAUSAL)

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
        return iter(())

    def checked_as(self, problem: Problem) -> Problem:
        batch, queries, keys, *rest = problem.shape
        return replace(problem, shape=(batch, min(queries, 128), min(keys, 300), *rest))

    def buffers(self, problem: Problem, device: str) -> Buffers:
        batch, queries, keys, heads, kv_heads, dim = problem.shape
        new = partial(torch.randn, dtype=problem.dtype, device=device)
        q = new(batch, queries, heads, dim)
        k, v = (new(batch, keys, kv_heads, dim) for _ in range(2))
        return Buffers((q, k, v), (torch.full_like(q, float("nan")),))

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        q, k, v = (one.double().transpose(1, 2) for one in buffers.inputs)
        k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
        scores = q @ k.mT * q.shape[-1] ** -0.5
        if problem.op == CAUSAL:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool)
            scores.masked_fill_(later.triu(scores.shape[-1] - scores.shape[-2] + 1), -torch.inf)
        return ((scores.softmax(-1) @ v).transpose(1, 2),)

    def bound(self, problem: Problem) -> float:
        return ATTENTION[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        return buffers.inputs

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        if problem.op == DECODE:
            return partial(module.flash_attn_with_kvcache, *buffers.inputs)
        return partial(module.flash_attn_func, *buffers.inputs, causal=problem.op == CAUSAL)

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        """On contiguous `[batch, heads, rows, dim]`, which suits torch best."""

        def bind(buffers: Buffers) -> Call:
            heads_first = [one.transpose(1, 2).contiguous() for one in buffers.inputs]
            q, k = buffers.inputs[:2]
            attend = functional.scaled_dot_product_attention
            is_causal = problem.op == CAUSAL and q.shape[1] == k.shape[1]
            mask = None
            if problem.op == CAUSAL and not is_causal:
                ones = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
                mask = ones.tril(k.shape[1] - q.shape[1])
            call = partial(attend, *heads_first, mask, is_causal=is_causal, enable_gqa=True)
            return lambda: call().transpose(1, 2)

        return bind

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        (op,) = {row.op for row in candidates.values()}
        return against(candidates, FUSED, FLOORS[op])
