# SPDX-License-Identifier: Apache-2.0
"""Layers that replace a model's activation modules. They keep no state of their own."""

import torch
from torch import nn

from ._ops import ops


def _half_like(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


class SiluAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: silu(x1) * x2."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = _half_like(x)
        ops.silu_and_mul(out, x)
        return out


class MulAndSilu(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: x1 * silu(x2)."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = _half_like(x)
        ops.mul_and_silu(out, x)
        return out


class GeluAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: gelu(x1) * x2."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = _half_like(x)
        ops.gelu_and_mul(out, x)
        return out


class GeluTanhAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: gelu_tanh(x1) * x2."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = _half_like(x)
        ops.gelu_tanh_and_mul(out, x)
        return out


class FatreluAndMul(nn.Module):
    """`[..., 2 * d]` -> `[..., d]`: (x1 if x1 > threshold else 0) * x2.

    For direct use: a layer with a constructor cannot replace another one.
    """

    can_torch_compile = True
    has_backward = False

    def __init__(self, threshold: float = 0.0):
        super().__init__()
        self.threshold = threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = _half_like(x)
        ops.fatrelu_and_mul(out, x, self.threshold)
        return out


class Silu(nn.Module):
    """Elementwise x / (1 + exp(-x))."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ops.silu(out, x)
        return out


class Gelu(nn.Module):
    """Elementwise 0.5 x (1 + erf(x / sqrt(2)))."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ops.gelu(out, x)
        return out


class GeluTanh(nn.Module):
    """Elementwise 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ops.gelu_tanh(out, x)
        return out


class FastGELU(nn.Module):
    """Elementwise gelu_tanh with every step rounded to the dtype."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ops.gelu_fast(out, x)
        return out


class NewGELU(nn.Module):
    """Elementwise gelu_tanh over x * x * x, every step rounded to the dtype."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ops.gelu_new(out, x)
        return out


class QuickGELU(nn.Module):
    """Elementwise x / (1 + exp(-1.702 x))."""

    can_torch_compile = True
    has_backward = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ops.gelu_quick(out, x)
        return out


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
]
