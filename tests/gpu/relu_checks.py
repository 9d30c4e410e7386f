# SPDX-License-Identifier: Apache-2.0
"""The checks of the relu package."""

from __future__ import annotations

import precision
import torch
from checks import HALVES, WITHOUT_SHARED_MEMORY, Context, Family, has_op, patterns


def relu(context: Context) -> None:
    """relu and its backward are exact on every 16-bit value, NaN included."""
    ops = context.package("relu").ops
    for dtype in HALVES:
        x = patterns(context, dtype)
        out = torch.empty_like(x)
        ops.relu(out, x)
        assert bool((precision.same_bits(out, torch.relu(x)) | ((out == 0) & (x <= 0))).all())
        if has_op(ops, "relu_backward"):
            grad, result = torch.randn_like(x), torch.empty_like(x)
            ops.relu_backward(result, grad, x)
            keeps = (x > 0) | x.isnan()
            assert bool((result[keeps] == grad[keeps]).all())
            assert not bool(result[~keeps].any())


FAMILY = Family(
    packages=("relu",),
    ops=("relu",),
    checks=(relu,),
    on_any_device=(relu,),
    sanitized=(relu,),
    sanitizer_tools=WITHOUT_SHARED_MEMORY,
)
