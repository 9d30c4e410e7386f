# SPDX-License-Identifier: Apache-2.0
"""Layers that replace a model's normalisation modules. They keep no state of their own."""

import torch
from torch import nn

from ._ops import ops


def _epsilon(module: nn.Module) -> float:
    eps = getattr(module, "eps", None)
    return module.variance_epsilon if eps is None else eps


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension.

    Reads `weight` and `bias` (`[d]` or None) and `eps`, or `variance_epsilon`, from the module that
    it replaces.
    """

    can_torch_compile = True
    has_backward = False

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = input.contiguous()
        out = torch.empty_like(x)
        ops.layer_norm(out, x, self.weight, self.bias, _epsilon(self))
        return out


__all__ = ["LayerNorm"]
