# SPDX-License-Identifier: Apache-2.0
"""The layer that replaces `torch.nn.ReLU`, and the function it calls."""

import torch
from torch import nn

from ._autograd import register
from ._derivatives import forward_ad
from ._ops import ops

register()


def relu(x: torch.Tensor) -> torch.Tensor:
    """max(x, 0) as a new contiguous tensor, of any layout of `x`; differentiable
    once, in forward mode, too."""
    # The functional op costs a passage through Python's dispatcher: only derivatives need it.
    if forward_ad._current_level >= 0 or (x.requires_grad and torch.is_grad_enabled()):
        return ops.relu_functional(x)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    ops.relu(out, x.contiguous())
    return out


class ReLU(nn.Module):
    """Elementwise max(x, 0). NaN stays NaN."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu(x)


__all__ = ["ReLU", "relu"]
