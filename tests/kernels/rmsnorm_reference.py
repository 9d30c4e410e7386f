# SPDX-License-Identifier: Apache-2.0
"""RMS normalisation as models compose it from torch ops, and in fp64."""

import torch

CASTINGS = ("llama", "gemma", "none")


def eager(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    eps: float,
    offset: float = 0.0,
    casting: str = "llama",
) -> torch.Tensor:
    """The composed formula, with its roundings; fp64 for fp64."""
    wide = x if x.dtype == torch.float64 else x.float()
    n = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    dtype = x.dtype if weight is None else torch.promote_types(x.dtype, weight.dtype)
    if casting == "llama":
        n = n.to(x.dtype)
    if weight is None:
        return n.to(x.dtype)
    if casting != "llama":
        weight = weight.to(n.dtype)
    result = n * (weight + offset if offset else weight)
    return result if casting == "llama" else result.to(x.dtype if casting == "gemma" else dtype)


def exact(
    x: torch.Tensor, weight: torch.Tensor | None, eps: float, offset: float = 0.0
) -> torch.Tensor:
    """fp64 of the same rounded inputs."""
    return eager(x.double(), None if weight is None else weight.double(), eps, offset, "none")


def exact_gradients(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """fp64 gradients of x and weight."""
    wide, scale = x.double().requires_grad_(), weight.double().requires_grad_()
    result = exact(wide, scale, eps, offset)
    return torch.autograd.grad(result, (wide, scale), grad_out.double())
