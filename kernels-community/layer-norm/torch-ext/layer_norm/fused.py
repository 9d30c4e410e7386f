# SPDX-License-Identifier: Apache-2.0
"""Dropout, scaling, residual addition and normalisation in one pass, forward and backward.

    x = dropout(x0 * rowscale * layerscale) + dropout(x1) + residual
    z = norm(x) * weight + bias

The functions are differentiable (once) with respect to every tensor but `rowscale`, and trace into
one graph. `x` is returned beside `z` where `prenorm` is set, masks (uint8, 1: kept) where
`return_dropout_mask` is. `x` has the residual's dtype; without one that of `x0`, or float32 where
`residual_in_fp32` is set. Weights, biases and layerscale share a dtype, that of `x0` or float32.

Which elements dropout keeps follows from a seed that is drawn from `generator`, or torch's default
one, on the tensors' device: the same seed keeps the same elements on every device.
"""

import torch

from ._autograd import FusedCall, draw_seed, makes_x, register
from ._ops import ops

register()

Tensor = torch.Tensor
MaybeTensor = torch.Tensor | None


def _outputs(
    call: FusedCall, results: tuple[Tensor, ...], prenorm: bool, masks: tuple[Tensor, ...]
) -> list[Tensor]:
    """What is returned behind z: x where `prenorm` is set, and masks; without dropout of ones."""
    given = [results[2] if makes_x(call) else call.x0] if prenorm else []
    if call.dropout_p > 0.0:
        return [*given, *masks]
    return [*given, *(torch.ones_like(call.x0, dtype=torch.uint8) for _ in masks)]


def _single(
    is_rms_norm: bool,
    x0: Tensor,
    residual: MaybeTensor,
    weight: Tensor,
    bias: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale: MaybeTensor,
    layerscale: MaybeTensor,
    x0_subset: MaybeTensor,
    out_subset: MaybeTensor,
    rowscale_const: float,
    out_numrows: int,
    prenorm: bool,
    residual_in_fp32: bool,
    return_dropout_mask: bool,
    generator: torch.Generator | None,
) -> Tensor | tuple[Tensor, ...]:
    has_subsets = x0_subset is not None or out_subset is not None
    call = FusedCall(
        x0.reshape(-1, x0.shape[-1]) if has_subsets else x0,
        residual=(
            residual.reshape(-1, x0.shape[-1]) if has_subsets and residual is not None else residual
        ),
        gamma0=weight,
        beta0=bias,
        rowscale=rowscale,
        colscale=layerscale,
        x0_subset=x0_subset,
        z_subset=out_subset,
        seed=draw_seed(dropout_p, generator, x0),
        dropout_p=dropout_p,
        epsilon=epsilon,
        rowscale_const=rowscale_const,
        z_numrows=out_numrows,
        residual_in_fp32=residual_in_fp32,
        is_rms_norm=is_rms_norm,
    )
    results = ops.dropout_add_norm_functional(*call)
    masks = (results[3],) if return_dropout_mask else ()
    more = _outputs(call, results, prenorm, masks)
    if return_dropout_mask:
        more[-1] = more[-1].view(x0.shape)
    return (results[0], *more) if more else results[0]


def _parallel(
    is_rms_norm: bool,
    x0: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    weight0: Tensor,
    bias0: MaybeTensor,
    weight1: MaybeTensor,
    bias1: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    prenorm: bool,
    residual_in_fp32: bool,
    return_dropout_mask: bool,
    generator: torch.Generator | None,
) -> tuple[MaybeTensor, ...]:
    call = FusedCall(
        x0,
        x1,
        residual,
        weight0,
        bias0,
        weight1,
        bias1,
        seed=draw_seed(dropout_p, generator, x0),
        dropout_p=dropout_p,
        epsilon=epsilon,
        residual_in_fp32=residual_in_fp32,
        is_rms_norm=is_rms_norm,
    )
    results = ops.dropout_add_norm_functional(*call)
    mask1 = results[4] if x1 is not None else torch.ones_like(x0, dtype=torch.uint8)
    masks = (results[3], mask1) if return_dropout_mask else ()
    more = _outputs(call, results, prenorm, masks)
    return (results[0], results[1] if weight1 is not None else None, *more)


def dropout_add_layer_norm(
    x0: Tensor,
    residual: MaybeTensor,
    weight: Tensor,
    bias: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale: MaybeTensor = None,
    layerscale: MaybeTensor = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """x0, residual `[..., d]`; weight, bias, layerscale `[d]`; rowscale, one number a row."""
    return _single(
        False,
        x0,
        residual,
        weight,
        bias,
        dropout_p,
        epsilon,
        rowscale,
        layerscale,
        None,
        None,
        1.0,
        0,
        prenorm,
        residual_in_fp32,
        return_dropout_mask,
        generator,
    )


def dropout_add_rms_norm(
    x0: Tensor,
    residual: MaybeTensor,
    weight: Tensor,
    bias: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale: MaybeTensor = None,
    layerscale: MaybeTensor = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """As dropout_add_layer_norm, with the root mean square for the norm."""
    return _single(
        True,
        x0,
        residual,
        weight,
        bias,
        dropout_p,
        epsilon,
        rowscale,
        layerscale,
        None,
        None,
        1.0,
        0,
        prenorm,
        residual_in_fp32,
        return_dropout_mask,
        generator,
    )


def dropout_add_layer_norm_subset(
    x0: Tensor,
    residual: MaybeTensor,
    weight: Tensor,
    bias: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    layerscale: MaybeTensor = None,
    x0_subset: MaybeTensor = None,
    out_subset: MaybeTensor = None,
    rowscale_const: float = 1.0,
    out_numrows: int = 0,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Row r of x takes row `x0_subset[r] - 1` of x0 and writes row `out_subset[r] - 1` of z (int32;
    0: none, no number twice). z `[out_numrows, d]`, zeros in rows that nothing writes."""
    return _single(
        False,
        x0,
        residual,
        weight,
        bias,
        dropout_p,
        epsilon,
        None,
        layerscale,
        x0_subset,
        out_subset,
        rowscale_const,
        out_numrows,
        prenorm,
        residual_in_fp32,
        return_dropout_mask,
        generator,
    )


def dropout_add_rms_norm_subset(
    x0: Tensor,
    residual: MaybeTensor,
    weight: Tensor,
    bias: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    layerscale: MaybeTensor = None,
    x0_subset: MaybeTensor = None,
    out_subset: MaybeTensor = None,
    rowscale_const: float = 1.0,
    out_numrows: int = 0,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """As dropout_add_layer_norm_subset, with the root mean square for the norm."""
    return _single(
        True,
        x0,
        residual,
        weight,
        bias,
        dropout_p,
        epsilon,
        None,
        layerscale,
        x0_subset,
        out_subset,
        rowscale_const,
        out_numrows,
        prenorm,
        residual_in_fp32,
        return_dropout_mask,
        generator,
    )


def dropout_add_layer_norm_parallel_residual(
    x0: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    weight0: Tensor,
    bias0: MaybeTensor,
    weight1: MaybeTensor,
    bias1: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> tuple[MaybeTensor, ...]:
    """(z0, z1 or None where there is no weight1, then x and both masks where asked for)."""
    return _parallel(
        False,
        x0,
        x1,
        residual,
        weight0,
        bias0,
        weight1,
        bias1,
        dropout_p,
        epsilon,
        prenorm,
        residual_in_fp32,
        return_dropout_mask,
        generator,
    )


def dropout_add_rms_norm_parallel_residual(
    x0: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    weight0: Tensor,
    bias0: MaybeTensor,
    weight1: MaybeTensor,
    bias1: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> tuple[MaybeTensor, ...]:
    """As dropout_add_layer_norm_parallel_residual, with the root mean square for the norm."""
    return _parallel(
        True,
        x0,
        x1,
        residual,
        weight0,
        bias0,
        weight1,
        bias1,
        dropout_p,
        epsilon,
        prenorm,
        residual_in_fp32,
        return_dropout_mask,
        generator,
    )


__all__ = [
    "dropout_add_layer_norm",
    "dropout_add_layer_norm_parallel_residual",
    "dropout_add_layer_norm_subset",
    "dropout_add_rms_norm",
    "dropout_add_rms_norm_parallel_residual",
    "dropout_add_rms_norm_subset",
]
