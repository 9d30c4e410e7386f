# SPDX-License-Identifier: Apache-2.0
"""Layers that replace a model's activation modules, and the functions they call.

The functions take `x` alone, of any layout, and return a new contiguous tensor; they and the layers
are differentiable (once, forward mode included) and trace into one graph. Layers keep no state of
their own.
"""

from collections.abc import Callable

import torch
from torch import nn

from ._autograd import empty_result, register
from ._derivatives import forward_ad
from ._ops import ops

register()


def _call(
    op: Callable[..., None],
    functional: Callable[..., torch.Tensor],
    gated: bool,
    x: torch.Tensor,
    *threshold: float,
) -> torch.Tensor:
    # The functional op costs a passage through Python's dispatcher: only derivatives need it.
    if forward_ad._current_level >= 0 or (x.requires_grad and torch.is_grad_enabled()):
        return functional(x, *threshold)
    out = empty_result(x, gated)
    op(out, x.contiguous(), *threshold)
    return out


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """`[..., 2 * d]` -> `[..., d]`: silu(x1) * x2."""
    return _call(ops.silu_and_mul, ops.silu_and_mul_functional, True, x)


def mul_and_silu(x: torch.Tensor) -> torch.Tensor:
    """`[..., 2 * d]` -> `[..., d]`: x1 * silu(x2)."""
    return _call(ops.mul_and_silu, ops.mul_and_silu_functional, True, x)


def gelu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """`[..., 2 * d]` -> `[..., d]`: gelu(x1) * x2."""
    return _call(ops.gelu_and_mul, ops.gelu_and_mul_functional, True, x)


def gelu_tanh_and_mul(x: torch.Tensor) -> torch.Tensor:
    """`[..., 2 * d]` -> `[..., d]`: gelu_tanh(x1) * x2."""
    return _call(ops.gelu_tanh_and_mul, ops.gelu_tanh_and_mul_functional, True, x)


def fatrelu_and_mul(x: torch.Tensor, threshold: float = 0.0) -> torch.Tensor:
    """`[..., 2 * d]` -> `[..., d]`: (x1 if x1 > threshold else 0) * x2."""
    return _call(ops.fatrelu_and_mul, ops.fatrelu_and_mul_functional, True, x, threshold)


def silu(x: torch.Tensor) -> torch.Tensor:
    """Elementwise x / (1 + exp(-x))."""
    return _call(ops.silu, ops.silu_functional, False, x)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """Elementwise 0.5 x (1 + erf(x / sqrt(2)))."""
    return _call(ops.gelu, ops.gelu_functional, False, x)


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """Elementwise 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    return _call(ops.gelu_tanh, ops.gelu_tanh_functional, False, x)


def gelu_fast(x: torch.Tensor) -> torch.Tensor:
    """Elementwise gelu_tanh with every step rounded to the dtype."""
    return _call(ops.gelu_fast, ops.gelu_fast_functional, False, x)


def gelu_new(x: torch.Tensor) -> torch.Tensor:
    """Elementwise gelu_tanh over x * x * x, every step rounded to the dtype."""
    return _call(ops.gelu_new, ops.gelu_new_functional, False, x)


def gelu_quick(x: torch.Tensor) -> torch.Tensor:
    """Elementwise x / (1 + exp(-1.702 x))."""
    return _call(ops.gelu_quick, ops.gelu_quick_functional, False, x)


class SiluAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: silu(x1) * x2."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return silu_and_mul(x)


class MulAndSilu(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: x1 * silu(x2)."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return mul_and_silu(x)


class GeluAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: gelu(x1) * x2."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu_and_mul(x)


class GeluTanhAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: gelu_tanh(x1) * x2."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu_tanh_and_mul(x)


class FatreluAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: (x1 if x1 > threshold else 0) * x2.

    For direct use: a layer with a constructor cannot replace another one.
    """

    can_torch_compile = True
    has_backward = True

    def __init__(self, threshold: float = 0.0):
        super().__init__()
        self.threshold = threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fatrelu_and_mul(x, self.threshold)


class Silu(nn.Module):
    """Elementwise x / (1 + exp(-x))."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return silu(x)


class Gelu(nn.Module):
    """Elementwise 0.5 x (1 + erf(x / sqrt(2)))."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu(x)


class GeluTanh(nn.Module):
    """Elementwise 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu_tanh(x)


class FastGELU(nn.Module):
    """Elementwise gelu_tanh with every step rounded to the dtype."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu_fast(x)


class NewGELU(nn.Module):
    """Elementwise gelu_tanh over x * x * x, every step rounded to the dtype."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu_new(x)


class QuickGELU(nn.Module):
    """Elementwise x / (1 + exp(-1.702 x))."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gelu_quick(x)


__all__ = [
    "FastGELU",
    "FatreluAndMul",
    "Gelu",
    "GeluAndMul",
    "GeluTanh",
    "GeluTanhAndMul",
    "MulAndSilu",
    "NewGELU",
    "QuickGELU",
    "Silu",
    "SiluAndMul",
    "fatrelu_and_mul",
    "gelu",
    "gelu_and_mul",
    "gelu_fast",
    "gelu_new",
    "gelu_quick",
    "gelu_tanh",
    "gelu_tanh_and_mul",
    "mul_and_silu",
    "silu",
    "silu_and_mul",
]
