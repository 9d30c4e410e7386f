# SPDX-License-Identifier: Apache-2.0
"""Attention with the functions of FlashAttention 3: forward, on CPU and CUDA."""

import torch

from ._attention import Lengths, NewRows, OptionalTensor, Rotation, Scoring, Window
from ._attention3 import (
    Output,
    Unsupported,
    attend3,
    attend3_with_cache,
    flash_attn_combine,
    get_scheduler_metadata,
)
from ._ops import ops


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
    `num_splits` cuts the keys into parts that are summed apart, 0: as many as suit the device.
    `deterministic` is honoured always; `pack_gqa` and `sm_margin` change how GPUs are used, never a
    value.
    """
    return attend3(
        "flash_attn_func",
        q,
        k,
        v,
        Scoring(softmax_scale, causal, window_size, softcap, num_splits=num_splits),
        Unsupported(qv, q_descale, k_descale, v_descale, attention_chunk),
        return_attn_probs,
    )


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
    lengths are not needed.
    """
    return attend3(
        "flash_attn_varlen_func",
        q,
        k,
        v,
        Scoring(softmax_scale, causal, window_size, softcap, num_splits=num_splits),
        Unsupported(qv, q_descale, k_descale, v_descale, attention_chunk),
        return_attn_probs,
        Lengths(cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k),
    )


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
    `cache_leftpad` int32 `[B]` rows to skip at its start. `num_splits` 0: as many parts as
    suit the device. A call that is refused has written nothing.
    """
    return attend3_with_cache(
        "flash_attn_with_kvcache",
        q,
        k_cache,
        v_cache,
        NewRows(k, v, cu_seqlens_k_new),
        cache_seqlens,
        Lengths(
            cu_seqlens_q,
            leftpad_k=cache_leftpad,
            block_table=page_table,
            cache_batch_idx=cache_batch_idx,
        ),
        Rotation(rotary_cos, rotary_sin, rotary_seqlens, rotary_interleaved),
        Scoring(softmax_scale, causal, window_size, softcap, num_splits=num_splits),
        Unsupported(qv, q_descale, k_descale, v_descale, attention_chunk),
        scheduler_metadata,
        return_softmax_lse,
    )


__all__ = [
    "flash_attn_combine",
    "flash_attn_func",
    "flash_attn_varlen_func",
    "flash_attn_with_kvcache",
    "get_scheduler_metadata",
    "ops",
]
