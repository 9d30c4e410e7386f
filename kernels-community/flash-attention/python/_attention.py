# SPDX-License-Identifier: Apache-2.0
"""What the functions of every attention package share: one call of an op, and honest refusals."""

from typing import NamedTuple

import torch

from ._derivatives import forward_ad, refuse_tangents
from ._ops import ops

OptionalTensor = torch.Tensor | None
Result = tuple[torch.Tensor, torch.Tensor]
Window = tuple[int, int]


class Scoring(NamedTuple):
    """How products of q and k become weights, and into how many parts the keys are cut."""

    softmax_scale: float | None = None  # None: one over the root of the head dimension
    causal: bool = False
    window_size: Window = (-1, -1)
    softcap: float = 0.0
    alibi_slopes: OptionalTensor = None
    s_aux: OptionalTensor = None
    num_splits: int = 0


class Lengths(NamedTuple):
    """Which rows of q, k and v a sequence has; in the order of the ops."""

    cu_seqlens_q: OptionalTensor = None
    cu_seqlens_k: OptionalTensor = None
    seqused_q: OptionalTensor = None
    seqused_k: OptionalTensor = None
    leftpad_k: OptionalTensor = None
    block_table: OptionalTensor = None
    cache_batch_idx: OptionalTensor = None


class Rotation(NamedTuple):
    """The rotation of q and of new rows of k."""

    rotary_cos: OptionalTensor = None
    rotary_sin: OptionalTensor = None
    rotary_seqlens: OptionalTensor = None
    rotary_interleaved: bool = True


class NewRows(NamedTuple):
    """What is appended to a cache first, if anything."""

    k: OptionalTensor = None
    v: OptionalTensor = None
    cu_seqlens_k_new: OptionalTensor = None


def fail(function: str, argument: str, what: str, expected: str, got: object) -> None:
    """Raise the error that the ops raise too."""
    raise RuntimeError(f"{function}: {argument} {what}: expected {expected}, got {got}")


def refuse(function: str, **unsupported: tuple[object, object]) -> None:
    """Raise where an argument differs from the only value that this build honours.

    Each argument is a pair: that value, and the one that was passed.
    """
    for name, (honoured, passed) in unsupported.items():
        if passed is None and honoured is None:
            continue
        if isinstance(passed, torch.Tensor) or passed != honoured:
            got = "a tensor" if isinstance(passed, torch.Tensor) else passed
            fail(function, name, "value", f"{honoured}, all that this build supports", got)


def refuse_gradients(function: str, *tensors: OptionalTensor) -> None:
    """Raise where a result without a gradient would take part in training unnoticed."""
    if not torch.is_grad_enabled():
        return
    if any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise RuntimeError(
            f"{function}: requires_grad: expected inputs without it (this build has no backward), "
            "got True. Use torch.no_grad(), or torch's scaled_dot_product_attention for training"
        )


def unit_stride(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last dimension is not contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def results_of(
    q: torch.Tensor, v: torch.Tensor, out: OptionalTensor, cu_seqlens_q: OptionalTensor
) -> Result:
    """What a call writes: `out`, or a new tensor where it is None, and the log-sum-exp."""
    if out is None:
        out = torch.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=q.device)
    if cu_seqlens_q is None:
        lse_shape = (q.shape[0], q.shape[-2], q.shape[1])
    else:
        lse_shape = (q.shape[1], q.shape[0])
    return out, torch.empty(lse_shape, dtype=torch.float32, device=q.device)


def options_of(
    q: torch.Tensor, scoring: Scoring, rotation: Rotation
) -> tuple[tuple[OptionalTensor, ...], tuple[float | bool | int, ...]]:
    """The last optional tensors and the numbers of an op."""
    scale = scoring.softmax_scale
    s_aux = scoring.s_aux
    tensors = (scoring.alibi_slopes, None if s_aux is None else s_aux.float(), *rotation[:3])
    numbers = (
        q.shape[-1] ** -0.5 if scale is None else scale,
        scoring.causal,
        *scoring.window_size,
        scoring.softcap,
        rotation.rotary_interleaved,
        scoring.num_splits,
    )
    return tensors, numbers


def attend(
    function: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scoring: Scoring,
    lengths: Lengths = Lengths(),  # noqa: B008 (immutable)
    out: OptionalTensor = None,
    rotation: Rotation = Rotation(),  # noqa: B008
) -> Result:
    """Output and fp32 log-sum-exp of one forward pass; tensors as `flash_attn_func` documents."""
    refuse_gradients(function, q, k, v, scoring.alibi_slopes, scoring.s_aux)
    if forward_ad._current_level >= 0:
        biases = {"alibi_slopes": scoring.alibi_slopes, "s_aux": scoring.s_aux}
        refuse_tangents(function, q=q, k=k, v=v, **biases, out=out)
    q = unit_stride(q)
    out, lse = results_of(q, v, out, lengths.cu_seqlens_q)
    tensors, numbers = options_of(q, scoring, rotation)
    ops.attention_forward(out, lse, q, unit_stride(k), unit_stride(v), *lengths, *tensors, *numbers)
    return out, lse


def cache_lengths(
    function: str, seqlens: int | OptionalTensor, batch: int, device: torch.device
) -> OptionalTensor:
    """`seqlens` as int32 `[batch]`, or None for all rows of the cache: a decode step without
    lengths launches nothing to make them.
    """
    if isinstance(seqlens, torch.Tensor):
        if seqlens.dtype != torch.int32:
            fail(function, "cache_seqlens", "dtype", "torch.int32", seqlens.dtype)
        return seqlens
    if seqlens is None:
        return None
    return torch.full((batch,), seqlens, dtype=torch.int32, device=device)


def check_cache_arguments(
    function: str,
    caches: tuple[torch.Tensor, torch.Tensor],
    new: NewRows,
    cache_seqlens: int | OptionalTensor,
    lengths: Lengths,
    rotation: Rotation,
) -> None:
    """Raise for arguments that say nothing together, and for caches that would be copied."""
    for name, cache in zip(("k_cache", "v_cache"), caches, strict=True):
        if cache.shape[-1] > 1 and cache.stride(-1) != 1:
            fail(function, name, "last stride", "1", cache.stride(-1))
    if (new.k is None) != (new.v is None):
        argument = "k" if new.k is None else "v"
        fail(function, argument, "presence", "both of k and v, or neither", None)
    if new.k is None:
        needs_k = {"cu_seqlens_k_new": new.cu_seqlens_k_new} | rotation._asdict()
        for name in ("cu_seqlens_k_new", "rotary_cos", "rotary_sin", "rotary_seqlens"):
            if needs_k[name] is not None:
                fail(function, name, "presence", "None where no k is appended", "a tensor")
    if cache_seqlens is None and new.k is not None:
        fail(function, "cache_seqlens", "presence", "given with k", None)
    if cache_seqlens is None and lengths.block_table is not None:
        fail(function, "cache_seqlens", "presence", "given for a paged cache", None)


def attend_with_cache(
    function: str,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    new: NewRows,
    cache_seqlens: int | OptionalTensor,
    lengths: Lengths,
    rotation: Rotation,
    scoring: Scoring,
    out: OptionalTensor = None,
) -> Result:
    """Append `new` to the cache in place, if given, then attend over all of it.

    `lengths` tells everything but how long the sequences of the cache are.
    """
    check_cache_arguments(function, (k_cache, v_cache), new, cache_seqlens, lengths, rotation)
    k, v, cu_seqlens_k_new = new
    batch = q.shape[0] if lengths.cu_seqlens_q is None else lengths.cu_seqlens_q.shape[0] - 1
    used = cache_lengths(function, cache_seqlens, batch, q.device)
    if k is None or v is None or used is None:
        return attend(function, q, k_cache, v_cache, scoring, lengths._replace(seqused_k=used), out)
    refuse_gradients(function, q, k_cache, v_cache, k, v, scoring.alibi_slopes, scoring.s_aux)
    if forward_ad._current_level >= 0:
        biases = {"alibi_slopes": scoring.alibi_slopes, "s_aux": scoring.s_aux}
        tables = {"rotary_cos": rotation.rotary_cos, "rotary_sin": rotation.rotary_sin}
        caches = {"k_cache": k_cache, "v_cache": v_cache}
        refuse_tangents(function, q=q, **caches, k=k, v=v, **tables, **biases, out=out)
    if rotation.rotary_seqlens is None and rotation.rotary_cos is not None:
        rotation = rotation._replace(rotary_seqlens=used)
    q = unit_stride(q)
    out, lse = results_of(q, v_cache, out, lengths.cu_seqlens_q)
    tensors, numbers = options_of(q, scoring, rotation)
    rows = k.shape[1] if cu_seqlens_k_new is None else cu_seqlens_k_new.diff()
    ops.attention_with_cache(
        out,
        lse,
        k_cache,
        v_cache,
        q,
        unit_stride(k),
        unit_stride(v),
        used,
        cu_seqlens_k_new,
        lengths.cu_seqlens_q,
        used + rows,
        lengths.leftpad_k,
        lengths.block_table,
        lengths.cache_batch_idx,
        *tensors,
        *numbers,
    )
    return out, lse
