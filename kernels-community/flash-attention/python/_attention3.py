# SPDX-License-Identifier: Apache-2.0
"""What the packages with the functions of FlashAttention 3 share."""

from typing import NamedTuple

import torch

from ._attention import (
    Lengths,
    NewRows,
    OptionalTensor,
    Result,
    Rotation,
    Scoring,
    Window,
    attend,
    attend_with_cache,
    fail,
    refuse,
)
from ._package import NAME

Output = torch.Tensor | Result


class Unsupported(NamedTuple):
    """Arguments of FlashAttention 3 that this build honours at their defaults alone."""

    qv: OptionalTensor = None
    q_descale: OptionalTensor = None
    k_descale: OptionalTensor = None
    v_descale: OptionalTensor = None
    attention_chunk: int = 0

    def refuse(self, function: str) -> None:
        """Raise for the first that is passed."""
        defaults = Unsupported()._asdict()
        refuse(
            function, **{name: (defaults[name], value) for name, value in self._asdict().items()}
        )


def attend3(
    name: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scoring: Scoring,
    unsupported: Unsupported,
    returns_lse: bool,
    lengths: Lengths = Lengths(),  # noqa: B008 (immutable)
) -> Output:
    """`attend` for function `name`."""
    function = f"{NAME}.{name}"
    unsupported.refuse(function)
    out, lse = attend(function, q, k, v, scoring, lengths)
    return (out, lse) if returns_lse else out


def attend3_with_cache(
    name: str,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    new: NewRows,
    cache_seqlens: int | OptionalTensor,
    lengths: Lengths,
    rotation: Rotation,
    scoring: Scoring,
    unsupported: Unsupported,
    scheduler_metadata: OptionalTensor,
    returns_lse: bool,
) -> Output:
    """`attend_with_cache` for function `name`."""
    function = f"{NAME}.{name}"
    unsupported.refuse(function)
    if scheduler_metadata is not None and scheduler_metadata.numel() > 0:
        expected = "0, as get_scheduler_metadata of this build gives"
        fail(function, "scheduler_metadata", "size", expected, scheduler_metadata.numel())
    out, lse = attend_with_cache(
        function, q, k_cache, v_cache, new, cache_seqlens, lengths, rotation, scoring
    )
    return (out, lse) if returns_lse else out


def flash_attn_combine(
    out_partial: torch.Tensor,
    lse_partial: torch.Tensor,
    out: OptionalTensor = None,
    out_dtype: torch.dtype | None = None,
) -> Result:
    """Attention over all keys from that over parts of them.

    `out_partial` fp32 `[splits, B, S, H, D]` and `lse_partial` fp32 `[splits, B, S, H]` give out
    `[B, S, H, D]` (of `out_dtype`, fp32 where it is None, or written to `out`) and lse `[B, S, H]`.
    A part with lse -inf has seen no key: whatever its out holds counts for nothing. NaN spreads.
    Composed of torch's operations: a call that splits keys itself does not come through here.
    """
    function = f"{NAME}.flash_attn_combine"
    for argument, tensor, rank in (
        ("out_partial", out_partial, 5),
        ("lse_partial", lse_partial, 4),
    ):
        if tensor.dim() != rank or tensor.dtype != torch.float32:
            expected, got = f"float32 of rank {rank}", f"{tensor.dtype} of rank {tensor.dim()}"
            fail(function, argument, "form", expected, got)
    if out_partial.shape[:-1] != lse_partial.shape:
        expected, shape = str(list(out_partial.shape[:-1])), list(lse_partial.shape)
        fail(function, "lse_partial", "shape", expected, shape)
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    if out is not None:
        if out.shape != out_partial.shape[1:]:
            fail(function, "out", "shape", str(list(out_partial.shape[1:])), list(out.shape))
        if out.device != out_partial.device:
            fail(function, "out", "device", str(out_partial.device), out.device)
        if out_dtype not in (None, out.dtype):
            fail(function, "out_dtype", "value", f"None or {out.dtype}, that of out", out_dtype)
        out_dtype = out.dtype
    if out_dtype is not None and out_dtype not in dtypes:
        argument = "out_dtype" if out is None else "out"
        fail(function, argument, "dtype", "float32, float16 or bfloat16", out_dtype)
    lse = lse_partial.logsumexp(0)
    is_blind = lse_partial.isneginf().unsqueeze(-1)
    weights = (lse_partial - lse).exp().unsqueeze(-1)
    total = (out_partial * weights).masked_fill(is_blind, 0.0).sum(0)
    if out is not None:
        return out.copy_(total), lse
    return total.to(out_dtype or torch.float32), lse


def get_scheduler_metadata(
    batch_size: int,
    max_seqlen_q: int,
    max_seqlen_k: int,
    num_heads_q: int,
    num_heads_kv: int,
    headdim: int,
    cache_seqlens: torch.Tensor,
    qkv_dtype: torch.dtype = torch.bfloat16,
    headdim_v: int | None = None,
    cu_seqlens_q: OptionalTensor = None,
    cu_seqlens_k_new: OptionalTensor = None,
    cache_leftpad: OptionalTensor = None,
    page_size: int | None = None,
    max_seqlen_k_new: int = 0,
    causal: bool = False,
    window_size: Window = (-1, -1),
    attention_chunk: int = 0,
    has_softcap: bool = False,
    num_splits: int = 0,
    pack_gqa: bool | None = None,
    sm_margin: int = 0,
) -> torch.Tensor:
    """An empty int32 tensor: a call schedules itself from its own sizes, nothing is prepared."""
    refuse(f"{NAME}.get_scheduler_metadata", attention_chunk=(0, attention_chunk))
    return torch.empty(0, dtype=torch.int32, device=cache_seqlens.device)
