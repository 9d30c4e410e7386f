# SPDX-License-Identifier: Apache-2.0
"""Attention with the functions of FlashAttention 2: forward, on CPU and CUDA."""

import torch

from ._attention import (
    Lengths,
    NewRows,
    OptionalTensor,
    Rotation,
    Scoring,
    Window,
    attend,
    attend_with_cache,
    fail,
    refuse,
)
from ._ops import ops

Output = torch.Tensor | tuple[torch.Tensor, torch.Tensor, None]


def _result(out: torch.Tensor, lse: torch.Tensor, return_attn_probs: bool) -> Output:
    return (out, lse, None) if return_attn_probs else out


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: OptionalTensor = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Output:
    """softmax(q k' * softmax_scale + bias) v for q `[B, Sq, Hq, D]`, k and v `[B, Sk, Hk, D]`.

    Hq is a multiple of Hk. Query i sees key j where i + Sk - Sq - left <= j <= i + Sk - Sq + right;
    -1 in `window_size` is unlimited, and `causal` makes right zero. A query that sees no key gives
    zeros. `softcap` c > 0: scores become c * tanh(score / c). `alibi_slopes` fp32 `[Hq]` or
    `[B, Hq]` adds -slope * |i + Sk - Sq - j|. With `return_attn_probs`: (out, lse, None), lse fp32
    `[B, Hq, Sq]`, -inf where no key is seen. `deterministic` is honoured always.
    """
    refuse("flash_attn2.flash_attn_func", dropout_p=(0.0, dropout_p))
    out, lse = attend(
        "flash_attn2.flash_attn_func",
        q,
        k,
        v,
        Scoring(softmax_scale, causal, window_size, softcap, alibi_slopes),
    )
    return _result(out, lse, return_attn_probs)


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: OptionalTensor = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: OptionalTensor = None,
) -> Output:
    """`flash_attn_func` over sequences that lie one after the other: q `[total, Hq, D]`.

    Sequence b has the rows cu_seqlens[b] to cu_seqlens[b + 1] (int32 `[B + 1]`); lse is
    `[Hq, total]`. With `block_table` int32 `[B, pages]`, k and v are `[blocks, page, Hk, D]` and
    cu_seqlens_k gives lengths. The maximum lengths are not needed.
    """
    refuse("flash_attn2.flash_attn_varlen_func", dropout_p=(0.0, dropout_p))
    out, lse = attend(
        "flash_attn2.flash_attn_varlen_func",
        q,
        k,
        v,
        Scoring(softmax_scale, causal, window_size, softcap, alibi_slopes),
        Lengths(cu_seqlens_q, cu_seqlens_k, block_table=block_table),
    )
    return _result(out, lse, return_attn_probs)


def flash_attn_qkvpacked_func(
    qkv: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: OptionalTensor = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Output:
    """`flash_attn_func` of qkv `[B, S, 3, H, D]`."""
    return flash_attn_func(
        *qkv.unbind(2),
        dropout_p,
        softmax_scale,
        causal,
        window_size,
        softcap,
        alibi_slopes,
        deterministic,
        return_attn_probs,
    )


def flash_attn_kvpacked_func(
    q: torch.Tensor,
    kv: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: OptionalTensor = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Output:
    """`flash_attn_func` of q and kv `[B, Sk, 2, Hk, D]`."""
    return flash_attn_func(
        q,
        *kv.unbind(2),
        dropout_p,
        softmax_scale,
        causal,
        window_size,
        softcap,
        alibi_slopes,
        deterministic,
        return_attn_probs,
    )


def flash_attn_varlen_qkvpacked_func(
    qkv: torch.Tensor,
    cu_seqlens: torch.Tensor,
    max_seqlen: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: OptionalTensor = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Output:
    """`flash_attn_varlen_func` of qkv `[total, 3, H, D]`."""
    return flash_attn_varlen_func(
        *qkv.unbind(1),
        cu_seqlens,
        cu_seqlens,
        max_seqlen,
        max_seqlen,
        dropout_p,
        softmax_scale,
        causal,
        window_size,
        softcap,
        alibi_slopes,
        deterministic,
        return_attn_probs,
    )


def flash_attn_varlen_kvpacked_func(
    q: torch.Tensor,
    kv: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: OptionalTensor = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Output:
    """`flash_attn_varlen_func` of q and kv `[total, 2, Hk, D]`."""
    return flash_attn_varlen_func(
        q,
        *kv.unbind(1),
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p,
        softmax_scale,
        causal,
        window_size,
        softcap,
        alibi_slopes,
        deterministic,
        return_attn_probs,
    )


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: OptionalTensor = None,
    v: OptionalTensor = None,
    rotary_cos: OptionalTensor = None,
    rotary_sin: OptionalTensor = None,
    cache_seqlens: int | OptionalTensor = None,
    cache_batch_idx: OptionalTensor = None,
    cache_leftpad: OptionalTensor = None,
    block_table: OptionalTensor = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: OptionalTensor = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention over a cache `[B, rows, Hk, D]`, or `[blocks, page, Hk, D]` with `block_table`.

    `k` and `v` `[B, new, Hk, D]` are first written in place behind the `cache_seqlens` rows (int or
    int32 `[B]`), k rotated by rows cache_seqlens + i of `rotary_cos` and `rotary_sin`
    `[positions, rotary_dim / 2]`; q is rotated alike where causal or windowed, else all of it by
    row cache_seqlens. `cache_batch_idx` int32 `[B]` names entries of the cache, `cache_leftpad`
    int32 `[B]` rows to skip at its start. Keys are split into `num_splits` parts that are summed
    apart, 0: as many as suit the device. A call that is refused has written nothing.
    """
    out, lse = attend_with_cache(
        "flash_attn2.flash_attn_with_kvcache",
        q,
        k_cache,
        v_cache,
        NewRows(k, v),
        cache_seqlens,
        Lengths(leftpad_k=cache_leftpad, block_table=block_table, cache_batch_idx=cache_batch_idx),
        Rotation(rotary_cos, rotary_sin, rotary_interleaved=rotary_interleaved),
        Scoring(softmax_scale, causal, window_size, softcap, alibi_slopes, num_splits=num_splits),
    )
    return (out, lse) if return_softmax_lse else out


def fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: OptionalTensor = None,
    alibi_slopes: OptionalTensor = None,
    p_dropout: float = 0.0,
    softmax_scale: float | None = None,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    return_softmax: bool = False,
    gen: torch.Generator | None = None,
) -> list[torch.Tensor]:
    """`flash_attn_func` as [out, lse]; `out`, where given, is written and returned."""
    refuse("flash_attn2.fwd", p_dropout=(0.0, p_dropout), return_softmax=(False, return_softmax))
    return list(
        attend(
            "flash_attn2.fwd",
            q,
            k,
            v,
            Scoring(
                softmax_scale,
                is_causal,
                (window_size_left, window_size_right),
                softcap,
                alibi_slopes,
            ),
            out=out,
        )
    )


def varlen_fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    out: OptionalTensor = None,
    seqused_k: OptionalTensor = None,
    leftpad_k: OptionalTensor = None,
    block_table: OptionalTensor = None,
    alibi_slopes: OptionalTensor = None,
    max_seqlen_q: int = 0,
    max_seqlen_k: int = 0,
    p_dropout: float = 0.0,
    softmax_scale: float | None = None,
    zero_tensors: bool = False,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    return_softmax: bool = False,
    gen: torch.Generator | None = None,
) -> list[torch.Tensor]:
    """`flash_attn_varlen_func` as [out, lse]; sequence b uses seqused_k[b] of its keys."""
    refuse(
        "flash_attn2.varlen_fwd",
        p_dropout=(0.0, p_dropout),
        return_softmax=(False, return_softmax),
    )
    return list(
        attend(
            "flash_attn2.varlen_fwd",
            q,
            k,
            v,
            Scoring(
                softmax_scale,
                is_causal,
                (window_size_left, window_size_right),
                softcap,
                alibi_slopes,
            ),
            Lengths(cu_seqlens_q, cu_seqlens_k, None, seqused_k, leftpad_k, block_table),
            out,
        )
    )


def fwd_kvcache(
    q: torch.Tensor,
    kcache: torch.Tensor,
    vcache: torch.Tensor,
    k: OptionalTensor = None,
    v: OptionalTensor = None,
    seqlens_k: OptionalTensor = None,
    rotary_cos: OptionalTensor = None,
    rotary_sin: OptionalTensor = None,
    cache_batch_idx: OptionalTensor = None,
    leftpad_k: OptionalTensor = None,
    block_table: OptionalTensor = None,
    alibi_slopes: OptionalTensor = None,
    out: OptionalTensor = None,
    softmax_scale: float | None = None,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    is_rotary_interleaved: bool = True,
    num_splits: int = 0,
) -> list[torch.Tensor]:
    """`flash_attn_with_kvcache` as [out, lse]; `out`, where given, is written and returned."""
    if k is not None and seqlens_k is None:
        fail("flash_attn2.fwd_kvcache", "seqlens_k", "presence", "given with k", None)
    return list(
        attend_with_cache(
            "flash_attn2.fwd_kvcache",
            q,
            kcache,
            vcache,
            NewRows(k, v),
            seqlens_k,
            Lengths(leftpad_k=leftpad_k, block_table=block_table, cache_batch_idx=cache_batch_idx),
            Rotation(rotary_cos, rotary_sin, rotary_interleaved=is_rotary_interleaved),
            Scoring(
                softmax_scale,
                is_causal,
                (window_size_left, window_size_right),
                softcap,
                alibi_slopes,
                num_splits=num_splits,
            ),
            out,
        )
    )


__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
    "fwd",
    "fwd_kvcache",
    "ops",
    "varlen_fwd",
]
