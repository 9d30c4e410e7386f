# SPDX-License-Identifier: Apache-2.0
"""The formulas of the activation package: exact in fp64, stepwise, and as torch composes them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

SINGLE_ROUNDING = ("silu", "gelu", "gelu_tanh", "gelu_quick")
STEPWISE = ("gelu_fast", "gelu_new")
GATED = ("silu_and_mul", "mul_and_silu", "gelu_and_mul", "gelu_tanh_and_mul", "fatrelu_and_mul")
UNARY = SINGLE_ROUNDING + STEPWISE
ALL = UNARY + GATED


def exact(op: str, x: torch.Tensor) -> torch.Tensor:
    """Single-rounding ops in fp64, written without cancellation."""
    x = x.double()
    if op == "silu":
        return x * torch.sigmoid(x)
    if op == "gelu":
        return 0.5 * x * torch.special.erfc(-x / 2**0.5)
    if op == "gelu_tanh":
        return x * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))
    return x * torch.sigmoid(1.702 * x)


def stepwise(op: str, x: torch.Tensor, t: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """gelu_fast and gelu_new with every step rounded by `t`, tanh correctly rounded."""
    dtype = x.dtype
    x = x if dtype == torch.float64 else x.float()
    if op == "gelu_fast":
        inner = t(t(x * 0.79788456) * t(1 + t(t(0.044715 * x) * x)))
    else:
        inner = t(0.79788456 * t(x + t(0.044715 * t(t(x * x) * x))))
    tanh = t(torch.tanh(inner.double()).to(dtype).to(x.dtype))
    return t(t(0.5 * x) * t(1 + tanh)).to(dtype)


def without_rounding(op: str, x: torch.Tensor) -> torch.Tensor:
    """Any op of one tensor in fp64, gelu_fast and gelu_new without their steps."""
    if op in STEPWISE:
        return stepwise(op, x.double(), lambda value: value)
    return exact(op, x)


def rounding_to(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """T(.): to storage precision and back to fp32."""
    return lambda value: value.to(dtype).float()


def eager(op: str, x: torch.Tensor) -> torch.Tensor:
    """What a model without kernels computes."""
    if op == "gelu_fast":
        return 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x)))
    if op == "gelu_new":
        return 0.5 * x * (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * (x * x * x))))
    if op == "gelu_quick":
        return x * torch.sigmoid(1.702 * x)
    if op == "silu":
        return F.silu(x)
    if op in ("gelu", "gelu_tanh"):
        return F.gelu(x, approximate="tanh" if op == "gelu_tanh" else "none")
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    if op == "mul_and_silu":
        return first * F.silu(second)
    if op == "fatrelu_and_mul":
        return F.threshold(first, 0.25, 0.0) * second
    return eager(op.removesuffix("_and_mul"), first) * second


def exact_gated(op: str, x: torch.Tensor) -> torch.Tensor:
    """T(act(x)) * y in fp64 over the activation that is rounded to x.dtype first."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    if op == "mul_and_silu":
        return first.double() * exact("silu", second).to(x.dtype).double()
    if op == "fatrelu_and_mul":
        return torch.where(first <= 0.25, 0.0, first.double()) * second.double()
    return exact(op.removesuffix("_and_mul"), first).to(x.dtype).double() * second.double()
