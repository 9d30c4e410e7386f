# SPDX-License-Identifier: Apache-2.0
"""max(x, 0) on CPU and CUDA: the smallest package of the family."""

import warnings

import torch

from . import layers
from ._derivatives import forward_ad, refuse_tangents
from ._ops import ops

_warned = False


def _say_that_detached(x: torch.Tensor, out: torch.Tensor) -> None:
    # Called where a derivative may be asked for only: the checks cost more than a small op.
    global _warned
    refuse_tangents("relu.relu", x=x, out=out)
    if (
        _warned
        or not x.requires_grad
        or torch.compiler.is_compiling()
        or not torch.is_grad_enabled()
    ):
        return
    warnings.warn(
        "relu: the input requires grad, but relu(x, out) writes into a given tensor and is cut "
        "off from the graph: the result carries no gradient. Use relu(x), or torch.no_grad()",
        UserWarning,
        stacklevel=3,
    )
    _warned = True


def relu(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """max(x, 0); NaN stays NaN.

    `x` float32, float16 or bfloat16 (on CPU also float64). Without `out` the result is a new
    contiguous tensor and differentiable, and `x` may have any layout. `out`, of the shape, dtype
    and device of `x`, is written and returned: rows of both may be strided, it may be `x` itself,
    and it carries no gradient. Raises RuntimeError "relu.relu: ..." on bad arguments.
    """
    if out is None:
        return layers.relu(x)
    if x.requires_grad or forward_ad._current_level >= 0:
        _say_that_detached(x, out)
    ops.relu.default(out, x)
    return out


__all__ = ["layers", "ops", "relu"]
