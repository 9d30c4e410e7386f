# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation over the last dimension, on CPU and CUDA.

Tensors are float32, float16 or bfloat16 (float64 on CPU); the weight may have another of these
dtypes than the input. Rows may be strided.

What writes a given tensor has no gradient; `apply_rms_norm` and the functions of `layers` have one.
"""

import warnings

import torch

from . import layers
from ._derivatives import forward_ad, refuse_tangents
from ._ops import ops

_warned = False


# Bound once: a call through the name of an op looks for overloads first.
_rms_norm, _gemma_rms_norm = ops.rms_norm.default, ops.gemma_rms_norm.default
_fused_add_rms_norm = ops.fused_add_rms_norm.default


def _warn_if_detached(*tensors: torch.Tensor) -> None:
    """For a call with gradients enabled."""
    global _warned
    if _warned or not any([tensor.requires_grad for tensor in tensors]):
        return
    if torch.compiler.is_compiling():
        return
    warnings.warn(
        "rmsnorm: an input requires grad, but a function that writes into a given tensor is "
        "cut off from the graph: the result carries no gradient. Use the function of the same "
        "name in rmsnorm.layers, which has a backward, or torch.no_grad()",
        UserWarning,
        stacklevel=3,
    )
    _warned = True


def apply_rms_norm(input: torch.Tensor, weight: torch.Tensor, eps: float) -> list[torch.Tensor]:
    """[weight * T(input * rstd), rstd], T the dtype of input; rstd is float32, one a row."""
    results: list[torch.Tensor] = ops.apply_rms_norm(input, weight, eps)
    return results


def apply_rms_norm_backward(
    grad_output: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    output: torch.Tensor,
    rstd: torch.Tensor,
    eps: float,
    input_requires_grad: bool = True,
    weight_requires_grad: bool = True,
) -> list[torch.Tensor | None]:
    """[gradient of input, gradient of weight], None where it is not asked for."""
    if forward_ad._current_level >= 0:
        refuse_tangents(
            "rmsnorm.apply_rms_norm_backward",
            grad_output=grad_output,
            input=input,
            weight=weight,
            output=output,
            rstd=rstd,
        )
    gradients: list[torch.Tensor | None] = ops.apply_rms_norm_backward(
        grad_output, input, weight, output, rstd, eps, input_requires_grad, weight_requires_grad
    )
    return gradients


def rms_norm(
    out: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, epsilon: float = 1e-6
) -> torch.Tensor:
    """out = weight * T(input / rms), rms = sqrt(mean(input^2) + epsilon); may be input itself."""
    if forward_ad._current_level >= 0:
        refuse_tangents("rmsnorm.rms_norm", out=out, input=input, weight=weight)
    if torch.is_grad_enabled():
        _warn_if_detached(input, weight)
    _rms_norm(out, input, weight, epsilon)
    return out


def gemma_rms_norm(
    out: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, epsilon: float = 1e-6
) -> torch.Tensor:
    """out = T((1 + weight) * input / sqrt(mean(input^2) + epsilon)); out may be input itself."""
    if forward_ad._current_level >= 0:
        refuse_tangents("rmsnorm.gemma_rms_norm", out=out, input=input, weight=weight)
    if torch.is_grad_enabled():
        _warn_if_detached(input, weight)
    _gemma_rms_norm(out, input, weight, epsilon)
    return out


def fused_add_rms_norm(
    input: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """residual = T(input + residual), then input = rms_norm(residual); both in place."""
    if forward_ad._current_level >= 0:
        refuse_tangents("rmsnorm.fused_add_rms_norm", input=input, residual=residual, weight=weight)
    if torch.is_grad_enabled():
        _warn_if_detached(input, residual, weight)
    _fused_add_rms_norm(input, residual, weight, epsilon)
    return input, residual


__all__ = [
    "apply_rms_norm",
    "apply_rms_norm_backward",
    "fused_add_rms_norm",
    "gemma_rms_norm",
    "layers",
    "ops",
    "rms_norm",
]
