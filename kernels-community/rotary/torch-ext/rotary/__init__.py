# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: pairs (x1, x2) become (x1 cos - x2 sin, x1 sin + x2 cos).

What is rotated is float32, float16 or bfloat16 (float64 on CPU); cos and sin have its dtype or
float32. All arithmetic is float32, rounded once.

What writes given tensors (`apply_rotary`, `rotary_embedding`) has no gradient;
`apply_rotary_transformers` and `layers.rotary_embedding` return new tensors and do.
"""

import warnings

import torch

from . import layers
from ._autograd import apply_rotary_transformers
from ._derivatives import forward_ad, refuse_tangents
from ._ops import ops

_warned = False


# Bound once: a call through the name of an op looks for overloads first.
_apply_rotary, _rotary_embedding = ops.apply_rotary.default, ops.rotary_embedding.default


def _warn_if_detached(*tensors: torch.Tensor | None) -> None:
    """For a call with gradients enabled."""
    global _warned
    if _warned or not any([tensor is not None and tensor.requires_grad for tensor in tensors]):
        return
    if torch.compiler.is_compiling():
        return
    warnings.warn(
        "rotary: an input requires grad, but a function that writes into given tensors is cut "
        "off from the graph: the result carries no gradient. Use apply_rotary_transformers or "
        "layers.rotary_embedding, which have a backward, or torch.no_grad()",
        UserWarning,
        stacklevel=3,
    )
    _warned = True


def apply_rotary(
    x1: torch.Tensor,
    x2: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out1: torch.Tensor,
    out2: torch.Tensor,
    conj: bool,
) -> None:
    """out1 = x1 cos - x2 sin, out2 = x1 sin + x2 cos; `conj` changes the sign of sin.

    x1, x2, out1, out2 of one shape `[..., R]`, usually halves of larger tensors; out1 may be x1 and
    out2 x2. `cos` and `sin` `[..., R]` broadcast over them, aligned at the right.
    """
    if forward_ad._current_level >= 0:
        refuse_tangents("rotary.apply_rotary", x1=x1, x2=x2, cos=cos, sin=sin, out1=out1, out2=out2)
    if torch.is_grad_enabled():
        _warn_if_detached(x1, x2, cos, sin)
    _apply_rotary(x1, x2, cos, sin, out1, out2, conj)


def rotary_embedding(
    q: torch.Tensor,
    k: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None = None,
    rotary_dim: int | None = None,
    interleaved: bool = False,
    conj: bool = False,
    unsqueeze_dim: int = 1,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """layers.rotary_embedding in place: rotates q and k (which may be None) and returns them."""
    if forward_ad._current_level >= 0:
        refuse_tangents("rotary.rotary_embedding", q=q, k=k, cos=cos, sin=sin)
    if torch.is_grad_enabled():
        _warn_if_detached(q, k, cos, sin)
    width = q.shape[-1] if rotary_dim is None else rotary_dim
    _rotary_embedding(q, k, cos, sin, positions, width, interleaved, conj, unsqueeze_dim)
    return q, k


__all__ = ["apply_rotary", "apply_rotary_transformers", "layers", "ops", "rotary_embedding"]
