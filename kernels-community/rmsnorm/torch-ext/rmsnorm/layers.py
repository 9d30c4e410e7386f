# SPDX-License-Identifier: Apache-2.0
"""Layers that replace a model's normalisation modules, and the functions they call.

The functions take tensors of any layout and return new contiguous ones; they and the layers are
differentiable (once, forward mode included) and trace into one graph. Layers keep no state of their
own.
"""

import torch
from torch import nn

from ._autograd import FusedAddRMSNormFunction, RMSNormFunction, register
from ._derivatives import forward_ad
from ._ops import ops

register()


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    eps: float = 1e-6,
    weight_offset: float = 0.0,
    casting: str = "llama",
) -> torch.Tensor:
    """`[..., d]` -> `[..., d]`: (weight_offset + weight) * x / sqrt(mean(x^2) + eps).

    `casting` says where the result is rounded: "llama" rounds x / rms to the dtype of x and gives
    the promoted dtype of x and weight, "none" rounds once to that one, "gemma" once to that of x.
    """
    if forward_ad._current_level >= 0 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return ops.rms_norm_fwd(x.contiguous(), weight, eps, weight_offset, casting)[0]  # type: ignore[no-any-return]
    if torch.is_grad_enabled() and (
        x.requires_grad or (weight is not None and weight.requires_grad)
    ):
        # Copied outside of the node: what it keeps must know the graph.
        return RMSNormFunction.apply(x.contiguous(), weight, eps, weight_offset, casting)  # type: ignore[no-any-return]
    return ops.rms_norm_fwd_nograd(x, weight, eps, weight_offset, casting)[0]  # type: ignore[no-any-return]


def fused_add_rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor | None = None,
    eps: float = 1e-6,
    weight_offset: float = 0.0,
    casting: str = "llama",
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rms_norm(sum), sum), with sum = x + residual rounded to their dtype, in new tensors."""
    if forward_ad._current_level >= 0 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        out, total, _ = ops.fused_add_rms_norm_fwd(
            x.contiguous(), residual.contiguous(), weight, eps, weight_offset, casting
        )
    elif torch.is_grad_enabled() and (
        x.requires_grad or residual.requires_grad or (weight is not None and weight.requires_grad)
    ):
        out, total = FusedAddRMSNormFunction.apply(x, residual, weight, eps, weight_offset, casting)
    else:
        out, total, _ = ops.fused_add_rms_norm_fwd_nograd(
            x, residual, weight, eps, weight_offset, casting
        )
    return out, total


def _epsilon(module: nn.Module) -> float:
    eps: float | None = getattr(module, "variance_epsilon", None)
    return module.eps if eps is None else eps  # type: ignore[return-value]


class RMSNorm(nn.Module):
    """RMS normalisation over the last dimension with the rounding of Llama.

    Reads `weight` (`[d]`) and `variance_epsilon`, or `eps`, from the module that it replaces. A
    module that multiplies before it rounds gets results at most two units in the last place off.
    """

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, self.weight, _epsilon(self))


class LlamaRMSNorm(nn.Module):
    """RMS normalisation as LlamaRMSNorm computes it; reads `weight` and `variance_epsilon`."""

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, self.weight, _epsilon(self))


class GemmaRMSNorm(nn.Module):
    """RMS normalisation with a weight centred at 0, all in fp32 and rounded once.

    Reads `weight` (`[d]`) and `variance_epsilon`, or `eps`, from the module that it replaces.
    """

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    eps: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, self.weight, _epsilon(self), 1.0, "gemma")


class FusedAddRMSNorm(nn.Module):
    """(x, residual) -> (rms_norm(x + residual), x + residual); reads `weight` and
    `variance_epsilon`, or `eps`."""

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    variance_epsilon: float

    def forward(
        self, hidden_states: torch.Tensor, residual: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return fused_add_rms_norm(hidden_states, residual, self.weight, _epsilon(self))


__all__ = [
    "FusedAddRMSNorm",
    "GemmaRMSNorm",
    "LlamaRMSNorm",
    "RMSNorm",
    "fused_add_rms_norm",
    "rms_norm",
]
