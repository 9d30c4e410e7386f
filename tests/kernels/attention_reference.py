# SPDX-License-Identifier: Apache-2.0
"""Attention written from its formula, on dense tensors `[B, S, H, D]`, and the bounds on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

FP32, FP16, BF16, FP64 = torch.float32, torch.float16, torch.bfloat16, torch.float64

# Relative error in the 2-norm, and absolute error of the log-sum-exp, for inputs N(0, 1).
RELATIVE = {FP32: 2e-6, BF16: 3.0e-3, FP16: 4e-4, FP64: 1e-13}
LSE = {FP32: 1e-5, BF16: 1e-3, FP16: 1e-3, FP64: 1e-5}


@dataclass(frozen=True)
class Rule:
    """Everything but the tensors. `window` is (left, right), -1 unlimited."""

    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    alibi: torch.Tensor | None = None
    sinks: torch.Tensor | None = None
    scale: float | None = None


def visible(rows: int, keys: int, rule: Rule) -> torch.Tensor:
    """Bool `[rows, keys]`: what each query sees, aligned at the last query and key."""
    distance = torch.arange(rows)[:, None] + keys - rows - torch.arange(keys)[None, :]
    left, right = rule.window
    right = 0 if rule.causal else right
    seen = torch.ones(rows, keys, dtype=torch.bool)
    if left >= 0:
        seen &= distance <= left
    if right >= 0:
        seen &= distance >= -right
    return seen


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rule: Rule, dtype: torch.dtype = FP64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp with every step rounded to `dtype`."""
    group = q.shape[2] // k.shape[2]
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    rows, keys = q.shape[1], k.shape[1]
    scale = q.shape[-1] ** -0.5 if rule.scale is None else rule.scale
    scores = torch.einsum("bihd,bjhd->bhij", q * scale, k)
    if rule.softcap > 0:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    if rule.alibi is not None:
        distance = (torch.arange(rows)[:, None] + keys - rows - torch.arange(keys)).abs()
        slopes = rule.alibi.reshape(-1, q.shape[2], 1, 1)
        scores = scores - (slopes.double() * distance).to(dtype)
    seen = visible(rows, keys, rule)
    scores = scores.masked_fill(~seen, -math.inf)
    extended = scores
    if rule.sinks is not None:
        sinks = rule.sinks.to(dtype).reshape(1, -1, 1, 1).expand(q.shape[0], -1, rows, 1)
        extended = torch.cat((scores, sinks), -1)
    sees_any = seen.any(-1)
    weights = extended.softmax(-1)[..., :keys].masked_fill(~sees_any[:, None], 0.0)
    lse = extended.double().logsumexp(-1).masked_fill(~sees_any, -math.inf)
    return torch.einsum("bhij,bjhd->bihd", weights.to(dtype), v), lse


def check(
    out: torch.Tensor,
    lse: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rule: Rule,
) -> None:
    """Assert every bound on a result: 2-norm, largest error against eager's, log-sum-exp."""
    exact, exact_lse = attention(q, k, v, rule)
    assert out.shape == exact.shape
    assert out.dtype == q.dtype
    assert lse.dtype == FP32
    if out.numel() == 0:
        return
    finite = exact_lse.isfinite()
    assert torch.equal(lse.isneginf(), ~finite)
    assert torch.where(finite, lse - exact_lse, 0.0).abs().max() <= LSE[q.dtype]
    norm = exact.norm()
    error = (out.double() - exact).abs()
    if norm == 0:
        assert error.max() == 0
        return
    assert error.norm() / norm <= RELATIVE[q.dtype]
    if q.dtype in (FP32, FP64):
        return  # the next bound is one on low precision
    eager, _ = attention(q, k, v, replace(rule), q.dtype)
    spacing = ((exact.to(q.dtype) + 0.3) - 0.3 - exact.to(q.dtype)).abs().max().double()
    factor = 3 if rule.softcap > 0 else 2
    bound = factor * (eager.double() - exact).abs().max() + 2 * spacing
    assert error.max() <= bound
