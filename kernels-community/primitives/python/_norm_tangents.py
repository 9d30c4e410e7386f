# SPDX-License-Identifier: Apache-2.0
"""Forward-mode derivative of the norms over the last dimension."""

import torch

MaybeTensor = torch.Tensor | None


def norm_tangent(
    x: torch.Tensor,
    weight: MaybeTensor,
    eps: float,
    x_tangent: MaybeTensor,
    weight_tangent: MaybeTensor,
    bias_tangent: MaybeTensor = None,
    *,
    is_centred: bool,
    offset: float = 0.0,
    dtype: torch.dtype,
) -> MaybeTensor:
    """The tangent, of `dtype`, of (offset + weight) * n(x) + bias; None where no input has one.

    n(x) = c / sqrt(mean(c^2) + eps) with c = x - mean(x) where `is_centred`, else c = x. Computed
    in float32 (float64 for float64), rounded once.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    centred = x.to(wide)
    if is_centred:
        centred = centred - centred.mean(-1, keepdim=True)
    rstd = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    normal = centred * rstd
    parts = []
    if x_tangent is not None:
        change = x_tangent.to(wide)
        if is_centred:
            change = change - change.mean(-1, keepdim=True)
        change = (change - normal * (normal * change).mean(-1, keepdim=True)) * rstd
        parts.append(change if weight is None else change * (offset + weight.to(wide)))
    if weight_tangent is not None:
        parts.append(normal * weight_tangent.to(wide))
    if bias_tangent is not None:
        parts.append(bias_tangent.to(wide).expand_as(normal))
    return sum(parts[1:], parts[0]).to(dtype) if parts else None


__all__ = ["norm_tangent"]
