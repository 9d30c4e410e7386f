# SPDX-License-Identifier: Apache-2.0
"""The layer that replaces a model's rotary function, and a differentiable function of more forms.

Results are new tensors with the layouts of what was rotated; both trace into one graph.
"""

import torch
from torch import nn

from . import _autograd
from ._autograd import rotary_embedding

_autograd.register()


class apply_rotary_transformers(nn.Module):  # noqa: N801
    """Rotates the halves of q and k, in place of `apply_rotary_pos_emb` of a Llama-like model.

    Not for models that rotate the other way round (nanochat), interleaved pairs (GLM, Cohere) or a
    part of the columns: `rotary_embedding` has a flag for each.
    """

    can_torch_compile = True
    has_backward = True

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        unsqueeze_dim: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return _autograd.apply_rotary_transformers(q, k, cos, sin, unsqueeze_dim)


__all__ = ["apply_rotary_transformers", "rotary_embedding"]
