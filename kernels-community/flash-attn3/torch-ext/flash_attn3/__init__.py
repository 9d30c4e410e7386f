# SPDX-License-Identifier: Apache-2.0
"""Attention with the functions of FlashAttention 3: forward, on CPU."""

import torch

from ._attention import OptionalTensor, attend, attend_with_cache, fail, refuse
from ._ops import ops

Output = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
Window = tuple[int, int]


def _refuse_all(
    function: str,
    qv: object,
    q_descale: object,
    k_descale: object,
    v_descale: object,
    attention_chunk: int,
) -> None:
    refuse(
        function,
        qv=(None, qv),
        q_descale=(None, q_descale),
        k_descale=(None, k_descale),
        v_descale=(None, v_descale),
        attention_chunk=(0, attention_chunk),
    )


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: OptionalTensor = None,
    q_descale: OptionalTensor = None,
    k_descale: OptionalTensor = None,
    v_descale: OptionalTensor = None,
    window_size: Window = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Output:
    """softmax(q k' * softmax_scale) v for q `[B, Sq, Hq, D]`, k `[B, Sk, Hk, D]`.

    v is `[B, Sk, Hk, Dv]`, Hq is a multiple of Hk.
    Query i sees key j where i + Sk - Sq - left <= j <= i + Sk - Sq + right;
    -1 in `window_size` is unlimited, and `causal` makes right zero. A query that sees no key gives
    zeros. `softcap` c > 0: scores become c * tanh(score / c).
    With `return_attn_probs`: (out, lse), lse fp32 `[B, Hq, Sq]`, -inf where no key is seen.
    `num_splits`, 0 or more, cuts the keys into parts that are summed apart. `deterministic` is
    honoured always; `pack_gqa` and `sm_margin` change how GPUs are used, never a value.
    """
    name = "flash_attn3.flash_attn_func"
    _refuse_all(name, qv, q_descale, k_descale, v_descale, attention_chunk)
    out, lse = attend(
        name,
        q,
        k,
        v,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        num_splits=num_splits,
    )
    return (out, lse) if return_attn_probs else out


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    seqused_q: OptionalTensor = None,
    seqused_k: OptionalTensor = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: OptionalTensor = None,
    q_descale: OptionalTensor = None,
    k_descale: OptionalTensor = None,
    v_descale: OptionalTensor = None,
    window_size: Window = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Output:
    """`flash_attn_func` over sequences that lie one after the other: q `[total, Hq, D]`.

    Sequence b has the rows cu_seqlens[b] to cu_seqlens[b + 1] (int32 `[B + 1]`), of which it uses
    the first seqused[b]; unused rows of the result are zero. lse is `[Hq, total]`. The maximum
    lengths are not needed on CPU.
    """
    name = "flash_attn3.flash_attn_varlen_func"
    _refuse_all(name, qv, q_descale, k_descale, v_descale, attention_chunk)
    out, lse = attend(
        name,
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        seqused_q=seqused_q,
        seqused_k=seqused_k,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        num_splits=num_splits,
    )
    return (out, lse) if return_attn_probs else out


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: OptionalTensor = None,
    v: OptionalTensor = None,
    qv: OptionalTensor = None,
    rotary_cos: OptionalTensor = None,
    rotary_sin: OptionalTensor = None,
    cache_seqlens: int | OptionalTensor = None,
    cache_batch_idx: OptionalTensor = None,
    cache_leftpad: OptionalTensor = None,
    page_table: OptionalTensor = None,
    cu_seqlens_q: OptionalTensor = None,
    cu_seqlens_k_new: OptionalTensor = None,
    max_seqlen_q: int | None = None,
    rotary_seqlens: OptionalTensor = None,
    q_descale: OptionalTensor = None,
    k_descale: OptionalTensor = None,
    v_descale: OptionalTensor = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    scheduler_metadata: OptionalTensor = None,
    num_splits: int = 0,
    pack_gqa: bool | None = None,
    sm_margin: int = 0,
    return_softmax_lse: bool = False,
) -> Output:
    """Attention over a cache `[B, rows, Hk, D]`, or `[blocks, page, Hk, D]` with `page_table`.

    `k` and `v` `[B, new, Hk, D]`, or `[total, Hk, D]` with `cu_seqlens_k_new`, are first written in
    place behind the `cache_seqlens` rows (int or int32 `[B]`), k rotated by rows p + i of
    `rotary_cos` and `rotary_sin` `[positions, rotary_dim / 2]` where p is `rotary_seqlens`, or else
    cache_seqlens; q is rotated alike where causal or windowed, else all of it by row p. q is
    `[total, Hq, D]` with `cu_seqlens_q`. `cache_batch_idx` int32 `[B]` names entries of the cache,
    `cache_leftpad` int32 `[B]` rows to skip at its start. `num_splits` 0: parts of a fixed length.
    """
    name = "flash_attn3.flash_attn_with_kvcache"
    _refuse_all(name, qv, q_descale, k_descale, v_descale, attention_chunk)
    if scheduler_metadata is not None and scheduler_metadata.numel() > 0:
        fail(
            name,
            "scheduler_metadata",
            "size",
            "0, as get_scheduler_metadata of this build gives",
            scheduler_metadata.numel(),
        )
    out, lse = attend_with_cache(
        name,
        q,
        k_cache,
        v_cache,
        k=k,
        v=v,
        cache_seqlens=cache_seqlens,
        leftpad_k=cache_leftpad,
        block_table=page_table,
        cache_batch_idx=cache_batch_idx,
        rotary_cos=rotary_cos,
        rotary_sin=rotary_sin,
        rotary_interleaved=rotary_interleaved,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k_new=cu_seqlens_k_new,
        rotary_seqlens=rotary_seqlens,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        num_splits=num_splits,
    )
    return (out, lse) if return_softmax_lse else out


def flash_attn_combine(
    out_partial: torch.Tensor,
    lse_partial: torch.Tensor,
    out: OptionalTensor = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over all keys from that over parts of them.

    `out_partial` fp32 `[splits, B, S, H, D]` and `lse_partial` fp32 `[splits, B, S, H]` give out
    `[B, S, H, D]` (of `out_dtype`, or written to `out`) and lse `[B, S, H]`. Composed of torch's
    operations: a call that splits keys itself does not come through here.
    """
    for argument, tensor, rank in (
        ("out_partial", out_partial, 5),
        ("lse_partial", lse_partial, 4),
    ):
        if tensor.dim() != rank or tensor.dtype != torch.float32:
            expected, got = f"float32 of rank {rank}", f"{tensor.dtype} of rank {tensor.dim()}"
            fail("flash_attn3.flash_attn_combine", argument, "form", expected, got)
    if out_partial.shape[:-1] != lse_partial.shape:
        expected = list(out_partial.shape[:-1])
        fail(
            "flash_attn3.flash_attn_combine",
            "lse_partial",
            "shape",
            str(expected),
            list(lse_partial.shape),
        )
    lse = lse_partial.logsumexp(0)
    weights = (lse_partial - lse).exp().nan_to_num(0.0).unsqueeze(-1)
    total = (out_partial * weights).sum(0)
    if out is not None:
        return out.copy_(total), lse
    return total.to(out_dtype or out_partial.dtype), lse


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
    """An empty int32 tensor: the CPU schedules in the call itself, there is nothing to prepare."""
    refuse("flash_attn3.get_scheduler_metadata", attention_chunk=(0, attention_chunk))
    return torch.empty(0, dtype=torch.int32, device=cache_seqlens.device)


__all__ = [
    "flash_attn_combine",
    "flash_attn_func",
    "flash_attn_varlen_func",
    "flash_attn_with_kvcache",
    "get_scheduler_metadata",
    "ops",
]
