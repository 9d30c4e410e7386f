# SPDX-License-Identifier: Apache-2.0
"""What the functions of every attention package share: one call of the ops, and honest refusals."""

import torch

from ._ops import ops

OptionalTensor = torch.Tensor | None
Result = tuple[torch.Tensor, torch.Tensor]


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


def attend(
    function: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    out: OptionalTensor = None,
    cu_seqlens_q: OptionalTensor = None,
    cu_seqlens_k: OptionalTensor = None,
    seqused_q: OptionalTensor = None,
    seqused_k: OptionalTensor = None,
    leftpad_k: OptionalTensor = None,
    block_table: OptionalTensor = None,
    cache_batch_idx: OptionalTensor = None,
    alibi_slopes: OptionalTensor = None,
    s_aux: OptionalTensor = None,
    rotary_cos: OptionalTensor = None,
    rotary_sin: OptionalTensor = None,
    rotary_seqlens: OptionalTensor = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    num_splits: int = 0,
) -> Result:
    """Output and fp32 log-sum-exp of one forward pass; tensors as `flash_attn_func` documents."""
    refuse_gradients(function, q, k, v, alibi_slopes, s_aux)
    q, k, v = unit_stride(q), unit_stride(k), unit_stride(v)
    if out is None:
        out = torch.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=q.device)
    if cu_seqlens_q is None:
        lse_shape = (q.shape[0], q.shape[-2], q.shape[1])
    else:
        lse_shape = (q.shape[1], q.shape[0])
    lse = torch.empty(lse_shape, dtype=torch.float32, device=q.device)
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    ops.attention_forward(
        out,
        lse,
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        seqused_q,
        seqused_k,
        leftpad_k,
        block_table,
        cache_batch_idx,
        alibi_slopes,
        None if s_aux is None else s_aux.float(),
        rotary_cos,
        rotary_sin,
        rotary_seqlens,
        scale,
        causal,
        window_size[0],
        window_size[1],
        softcap,
        rotary_interleaved,
        num_splits,
    )
    return out, lse


def lengths_of(
    seqlens: int | OptionalTensor, batch: int, rows: int, device: torch.device
) -> torch.Tensor:
    """`seqlens` as int32 `[batch]`; all `rows` of the cache where it is None."""
    if isinstance(seqlens, torch.Tensor):
        return seqlens
    number = rows if seqlens is None else seqlens
    return torch.full((batch,), number, dtype=torch.int32, device=device)


def attend_with_cache(
    function: str,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    *,
    k: OptionalTensor,
    v: OptionalTensor,
    cache_seqlens: int | OptionalTensor,
    leftpad_k: OptionalTensor,
    block_table: OptionalTensor,
    cache_batch_idx: OptionalTensor,
    rotary_cos: OptionalTensor,
    rotary_sin: OptionalTensor,
    rotary_interleaved: bool,
    cu_seqlens_q: OptionalTensor = None,
    cu_seqlens_k_new: OptionalTensor = None,
    rotary_seqlens: OptionalTensor = None,
    out: OptionalTensor = None,
    alibi_slopes: OptionalTensor = None,
    s_aux: OptionalTensor = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    num_splits: int = 0,
) -> Result:
    """Append `k` and `v` to the cache in place, if given, then attend over all of it."""
    refuse_gradients(function, q, k_cache, v_cache, k, v)
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        if cache.shape[-1] > 1 and cache.stride(-1) != 1:
            fail(function, name, "last stride", "1", cache.stride(-1))
    if (k is None) != (v is None):
        fail(function, "k" if k is None else "v", "presence", "both of k and v, or neither", None)
    if rotary_cos is not None and k is None:
        fail(function, "rotary_cos", "presence", "None where no k is appended", "a tensor")
    batch = q.shape[0] if cu_seqlens_q is None else cu_seqlens_q.shape[0] - 1
    rows = k_cache.shape[1]
    if block_table is not None:
        rows *= block_table.shape[1]
        if cache_seqlens is None:
            fail(function, "cache_seqlens", "presence", "given for a paged cache", None)
    used = lengths_of(cache_seqlens, batch, 0 if k is not None else rows, q.device)
    positions = used if rotary_seqlens is None else rotary_seqlens
    if k is not None and v is not None:
        ops.append_kv(
            k_cache,
            v_cache,
            unit_stride(k),
            unit_stride(v),
            used,
            cu_seqlens_k_new,
            block_table,
            cache_batch_idx,
            rotary_cos,
            rotary_sin,
            positions,
            rotary_interleaved,
        )
        used = used + (k.shape[1] if cu_seqlens_k_new is None else cu_seqlens_k_new.diff())
    return attend(
        function,
        q,
        k_cache,
        v_cache,
        out=out,
        cu_seqlens_q=cu_seqlens_q,
        seqused_k=used.int(),
        leftpad_k=leftpad_k,
        block_table=block_table,
        cache_batch_idx=cache_batch_idx,
        alibi_slopes=alibi_slopes,
        s_aux=s_aux,
        rotary_cos=rotary_cos,
        rotary_sin=rotary_sin,
        rotary_seqlens=positions if rotary_cos is not None else None,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        rotary_interleaved=rotary_interleaved,
        num_splits=num_splits,
    )
