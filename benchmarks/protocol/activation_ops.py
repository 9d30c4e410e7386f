# SPDX-License-Identifier: Apache-2.0
"""The activation ops as torch computes them: exact in fp64, fused, and composed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from protocol.precision import SINGLE_ROUNDING, STEPWISE_OR_GATED

Function = Callable[[torch.Tensor], torch.Tensor]

STEPWISE = ("gelu_fast", "gelu_new")
GATED = ("silu_and_mul", "mul_and_silu", "gelu_and_mul", "gelu_tanh_and_mul", "fatrelu_and_mul")
UNARY = ("silu", "gelu", "gelu_tanh", "gelu_quick", *STEPWISE)
ALL = UNARY + GATED
THRESHOLD = 0.25


def bounds(op: str) -> dict[torch.dtype, float]:
    """Largest relative error in the 2-norm for N(0, 1) inputs, by dtype."""
    single = op in UNARY and op not in STEPWISE
    return SINGLE_ROUNDING if single else STEPWISE_OR_GATED


def exact(op: str, x: torch.Tensor) -> torch.Tensor:
    """The op in fp64, written without cancellation; gated ops round the activation to x.dtype."""
    if op in GATED:
        first, second = x.chunk(2, -1)
        if op == "fatrelu_and_mul":
            return torch.where(first <= THRESHOLD, 0.0, first.double()) * second.double()
        if op == "mul_and_silu":
            first, second = second, first
        act = "silu" if "silu" in op else op.removesuffix("_and_mul")
        return exact(act, first).to(x.dtype).double() * second.double()
    x = x.double()
    if op == "silu":
        return x * torch.sigmoid(x)
    if op == "gelu":
        return 0.5 * x * torch.special.erfc(-x / 2**0.5)
    if op == "gelu_quick":
        return x * torch.sigmoid(1.702 * x)
    slope = (2 / torch.pi) ** 0.5 if op == "gelu_tanh" else 0.79788456
    return x * torch.sigmoid(2 * slope * (x + 0.044715 * x**3))


def composed(op: str) -> Function:
    """The formula that a model without kernels runs."""
    return _COMPOSED[op]


def fused(op: str) -> Callable[[torch.Tensor, torch.Tensor], object] | None:
    """torch's own op of one pass, called as `f(x, out)`; None where it has none."""
    return _FUSED.get(op)


def passes(op: str) -> int:
    """Elements that must be read and written for each element of the output."""
    return 3 if op in GATED else 2


def _halves(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Function:
    return lambda x: function(*x.chunk(2, -1))


_COMPOSED: dict[str, Function] = {
    "silu": lambda x: x * torch.sigmoid(x),
    "gelu": lambda x: x * 0.5 * (1.0 + torch.erf(x / 1.4142135623730951)),
    "gelu_tanh": lambda x: (
        0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu_fast": lambda x: 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x))),
    "gelu_new": lambda x: (
        0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "silu_and_mul": _halves(lambda x, y: functional.silu(x) * y),
    "mul_and_silu": _halves(lambda x, y: x * functional.silu(y)),
    "gelu_and_mul": _halves(lambda x, y: functional.gelu(x) * y),
    "gelu_tanh_and_mul": _halves(lambda x, y: functional.gelu(x, approximate="tanh") * y),
    "fatrelu_and_mul": _halves(lambda x, y: functional.threshold(x, THRESHOLD, 0.0) * y),
}

_FUSED: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "silu": lambda x, out: torch._C._nn.silu(x, out=out),
    "gelu": lambda x, out: torch._C._nn.gelu(x, out=out),
    "gelu_tanh": lambda x, out: torch._C._nn.gelu(x, approximate="tanh", out=out),
    "gelu_fast": lambda x, out: torch._C._nn.gelu(x, approximate="tanh", out=out),
    "gelu_new": lambda x, out: torch._C._nn.gelu(x, approximate="tanh", out=out),
}
