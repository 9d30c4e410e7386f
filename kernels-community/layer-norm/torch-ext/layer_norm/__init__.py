# SPDX-License-Identifier: Apache-2.0
"""Layer normalisation over the last dimension, written into a caller's tensor."""

import warnings

import torch

from . import layers
from ._ops import ops

_warned = False


def _warn_if_detached(*tensors: torch.Tensor | None) -> None:
    global _warned
    if _warned or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    if any(tensor is not None and tensor.requires_grad for tensor in tensors):
        _warned = True
        warnings.warn(
            "layer_norm: an input requires grad, but this function has no backward: the result "
            "carries no gradient. Use torch.no_grad(), or torch.nn.functional.layer_norm",
            UserWarning,
            stacklevel=3,
        )


def layer_norm(
    out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """out = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension; returns out.

    `out` and `x` `[..., d]`, `weight` and `bias` `[d]` or None, all of one dtype (float32, float16,
    bfloat16; float64 on CPU) and device. `out` may be `x`; rows may be strided.
    """
    _warn_if_detached(x, weight, bias)
    ops.layer_norm(out, x, weight, bias, eps)
    return out


__all__ = ["layer_norm", "layers", "ops"]
