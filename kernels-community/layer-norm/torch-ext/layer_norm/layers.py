# SPDX-License-Identifier: Apache-2.0
"""Layers that replace a model's normalisation modules, and the functions they call.

The functions take `x` of any layout and return a new contiguous tensor of its dtype; they and the
layers are differentiable (once, forward mode included) and trace into one graph. Layers keep no
state of their own.
"""

import torch
from torch import nn

from ._autograd import PLAIN_NORMS, register
from ._derivatives import forward_ad
from ._ops import ops

register()
_LayerNormFunction = PLAIN_NORMS["layer_norm"].function
_RMSNormFunction = PLAIN_NORMS["rms_norm"].function
_layer_norm_fwd_nograd = ops.layer_norm_fwd_nograd.default
_rms_norm_fwd_nograd = ops.rms_norm_fwd_nograd.default


def _epsilon(module: nn.Module) -> float:
    eps = getattr(module, "eps", None)
    return module.variance_epsilon if eps is None else eps


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimension.

    `weight` and `bias` `[d]` or None, of x's dtype; beside 16-bit x also float32.
    """
    if forward_ad._current_level >= 0 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return ops.layer_norm_functional(x, weight, bias, eps)
    if torch.is_grad_enabled() and (
        x.requires_grad
        or (weight is not None and weight.requires_grad)
        or (bias is not None and bias.requires_grad)
    ):
        return _LayerNormFunction.apply(x, weight, bias, eps)
    return _layer_norm_fwd_nograd(x, weight, bias, eps)


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor | None = None, eps: float = 1e-6
) -> torch.Tensor:
    """x / sqrt(mean of squares + eps) * weight over the last dimension, rounded once.

    `weight` `[d]` or None, of x's dtype; beside 16-bit x also float32.
    """
    if forward_ad._current_level >= 0 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return ops.rms_norm_functional(x, weight, eps)
    if torch.is_grad_enabled() and (
        x.requires_grad or (weight is not None and weight.requires_grad)
    ):
        return _RMSNormFunction.apply(x, weight, eps)
    return _rms_norm_fwd_nograd(x, weight, eps)


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension.

    Reads `weight` and `bias` (`[d]` or None) and `eps`, or `variance_epsilon`, from the module that
    it replaces.
    """

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return layer_norm(input, self.weight, getattr(self, "bias", None), _epsilon(self))


class LlamaRMSNorm(nn.Module):
    """Root mean square normalisation over the last dimension, in float32 and rounded once.

    Reads `weight` (`[d]`) and `variance_epsilon`, or `eps`, from the module that it replaces. The
    result has the dtype of `hidden_states`.
    """

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, self.weight, _epsilon(self))


__all__ = ["LayerNorm", "LlamaRMSNorm", "layer_norm", "rms_norm"]
