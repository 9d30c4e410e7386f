# SPDX-License-Identifier: Apache-2.0
"""The checks of the layer-norm package."""

from __future__ import annotations

import precision
import torch
from checks import DTYPES, Context, Family


def layer_norm(context: Context) -> None:
    """layer_norm against fp64, with and without parameters, odd widths and pitches."""
    ops = context.package("layer-norm").ops
    for dtype in DTYPES:
        for cols in (1, 7, 64, 1023, 4096, 65537):
            x = torch.randn(33, cols + 3, device=context.device).to(dtype)[:, 1 : cols + 1]
            weight, bias = torch.randn(2, cols, device=context.device).to(dtype)
            for parameters in ((weight, bias), (weight, None), (None, None)):
                out = torch.full((33, cols), float("nan"), dtype=dtype, device=context.device)
                ops.layer_norm(out, x, *parameters, 1e-5)
                wide = [None if p is None else p.double() for p in parameters]
                expected = torch.nn.functional.layer_norm(x.double(), (cols,), *wide, eps=1e-5)
                if not bool(expected.any()):
                    assert not bool(out.any())
                    continue
                error = precision.relative_error(out, expected)
                assert error <= precision.LAYER_NORM[dtype], f"{dtype} {cols}: {error:.2e}"


FAMILY = Family(
    packages=("layer-norm",),
    ops=("layer_norm",),
    checks=(layer_norm,),
    on_any_device=(layer_norm,),
    sanitized=(layer_norm,),
)
