# SPDX-License-Identifier: Apache-2.0
"""Activation functions that write into a caller's tensor.

Every function takes `out` and `x` of one dtype (float32, float16, bfloat16; float64 on CPU) on one
device and returns `out`. Gated functions read `x` as `[..., 2 * d]` and write `out` `[..., d]`; the
others need `out` of the shape of `x`, and `out` may be `x` itself. Rows may be strided.

What writes a given tensor has no gradient: `layers` holds the differentiable functions `f(x)`, and
`ops.<op>_backward(grad_input, grad_out, input)` the gradients themselves.
"""

import warnings

import torch

from . import layers
from ._derivatives import forward_ad, refuse_tangents
from ._ops import ops

_warned = False


def _say_that_detached(op: str, out: torch.Tensor, x: torch.Tensor) -> None:
    # Called where a derivative may be asked for only: the checks cost more than a small op.
    global _warned
    refuse_tangents(f"activation.{op}", out=out, x=x)
    if (
        _warned
        or not x.requires_grad
        or torch.compiler.is_compiling()
        or not torch.is_grad_enabled()
    ):
        return
    warnings.warn(
        "activation: an input requires grad, but a function that writes into a given tensor is "
        "cut off from the graph: the result carries no gradient. Use the function of the same "
        "name in activation.layers, which has a backward, or torch.no_grad()",
        UserWarning,
        stacklevel=3,
    )
    _warned = True


def silu_and_mul(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = silu(x1) * x2, with x1, x2 the halves of the last dimension of x."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("silu_and_mul", out, x)
    ops.silu_and_mul.default(out, x)
    return out


def mul_and_silu(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = x1 * silu(x2), with x1, x2 the halves of the last dimension of x."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("mul_and_silu", out, x)
    ops.mul_and_silu.default(out, x)
    return out


def gelu_and_mul(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = gelu(x1) * x2, with x1, x2 the halves of the last dimension of x."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu_and_mul", out, x)
    ops.gelu_and_mul.default(out, x)
    return out


def gelu_tanh_and_mul(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = gelu_tanh(x1) * x2, with x1, x2 the halves of the last dimension of x."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu_tanh_and_mul", out, x)
    ops.gelu_tanh_and_mul.default(out, x)
    return out


def fatrelu_and_mul(out: torch.Tensor, x: torch.Tensor, threshold: float = 0.0) -> torch.Tensor:
    """out = (x1 if x1 > threshold else 0) * x2, with x1, x2 the halves of x. NaN stays NaN."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("fatrelu_and_mul", out, x)
    ops.fatrelu_and_mul.default(out, x, threshold)
    return out


def gelu(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = 0.5 x (1 + erf(x / sqrt(2)))."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu", out, x)
    ops.gelu.default(out, x)
    return out


def silu(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = x / (1 + exp(-x))."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("silu", out, x)
    ops.silu.default(out, x)
    return out


def gelu_tanh(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), rounded once."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu_tanh", out, x)
    ops.gelu_tanh.default(out, x)
    return out


def gelu_fast(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """gelu_tanh as the composed formula of torch ops computes it: every step rounded to x.dtype."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu_fast", out, x)
    ops.gelu_fast.default(out, x)
    return out


def gelu_new(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """gelu_tanh over x * x * x, every step rounded to x.dtype."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu_new", out, x)
    ops.gelu_new.default(out, x)
    return out


def gelu_quick(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """out = x / (1 + exp(-1.702 x))."""
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached("gelu_quick", out, x)
    ops.gelu_quick.default(out, x)
    return out


__all__ = [
    "fatrelu_and_mul",
    "gelu",
    "gelu_and_mul",
    "gelu_fast",
    "gelu_new",
    "gelu_quick",
    "gelu_tanh",
    "gelu_tanh_and_mul",
    "layers",
    "mul_and_silu",
    "ops",
    "silu",
    "silu_and_mul",
]
