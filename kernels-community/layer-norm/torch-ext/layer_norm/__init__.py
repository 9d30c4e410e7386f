# SPDX-License-Identifier: Apache-2.0
"""Layer and root mean square normalisation over the last dimension, alone or fused with dropout,
scaling and residual addition.

`layer_norm` and `rms_norm` write into a caller's tensor; what does has no gradient: `layers` holds
the differentiable functions `layer_norm(x, ...)` and `rms_norm(x, ...)`. `dropout_add_layer_norm`
and its relatives are differentiable. `dropout_add_ln_{fwd,bwd}` and
`dropout_add_ln_parallel_residual_{fwd,bwd}` are the functions of the Hub's package.
"""

import warnings

import torch

from . import layers
from ._autograd import FusedCall, makes_x
from ._derivatives import forward_ad, refuse_tangents
from ._ops import ops
from .fused import (
    dropout_add_layer_norm,
    dropout_add_layer_norm_parallel_residual,
    dropout_add_layer_norm_subset,
    dropout_add_rms_norm,
    dropout_add_rms_norm_parallel_residual,
    dropout_add_rms_norm_subset,
)

_warned = False


# Bound once: a call through the name of an op looks for overloads first.
_layer_norm, _rms_norm = ops.layer_norm.default, ops.rms_norm.default


def _warn_if_detached(*tensors: torch.Tensor | None) -> None:
    """For a call with gradients enabled."""
    global _warned
    if _warned or not any([tensor is not None and tensor.requires_grad for tensor in tensors]):
        return
    if torch.compiler.is_compiling():
        return
    warnings.warn(
        "layer_norm: an input requires grad, but a function that writes into a given tensor is "
        "cut off from the graph: the result carries no gradient. Use the function of the same "
        "name in layer_norm.layers, which has a backward, or torch.no_grad()",
        UserWarning,
        stacklevel=3,
    )
    _warned = True


def layer_norm(
    out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """out = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension; returns out.

    `out` and `x` `[..., d]` of one dtype (float32, float16, bfloat16; float64 on CPU); `weight` and
    `bias` `[d]` or None, of that dtype, or both float32 beside 16-bit rows; all on one device.
    `out` may be `x`; rows may be strided.
    """
    if forward_ad._current_level >= 0:
        refuse_tangents("layer_norm.layer_norm", out=out, x=x, weight=weight, bias=bias)
    if torch.is_grad_enabled():
        _warn_if_detached(x, weight, bias)
    _layer_norm(out, x, weight, bias, eps)
    return out


def rms_norm(
    out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor | None = None, eps: float = 1e-6
) -> torch.Tensor:
    """out = x / sqrt(mean of squares + eps) * weight over the last dimension; returns out.

    Tensors as for `layer_norm`.
    """
    if forward_ad._current_level >= 0:
        refuse_tangents("layer_norm.rms_norm", out=out, x=x, weight=weight)
    if torch.is_grad_enabled():
        _warn_if_detached(x, weight)
    _rms_norm(out, x, weight, eps)
    return out


def _with_none(tensors: list[torch.Tensor], absent: set[int]) -> list[torch.Tensor | None]:
    return [None if i in absent else tensor for i, tensor in enumerate(tensors)]


def dropout_add_ln_fwd(
    input: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor | None,
    rowscale: torch.Tensor | None,
    colscale: torch.Tensor | None,
    x0_subset: torch.Tensor | None,
    z_subset: torch.Tensor | None,
    dropout_p: float,
    epsilon: float,
    rowscale_const: float,
    z_numrows: int,
    gen: torch.Generator | None,
    residual_in_fp32: bool,
    is_rms_norm: bool,
) -> list[torch.Tensor | None]:
    """[z, x or None where it would be `input`, dmask or None without dropout, mu, rsigma]."""
    results = ops.dropout_add_ln_fwd(
        input,
        gamma,
        beta,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
        dropout_p,
        epsilon,
        rowscale_const,
        z_numrows,
        gen,
        residual_in_fp32,
        is_rms_norm,
    )
    call = FusedCall(
        input,
        rowscale=rowscale,
        colscale=colscale,
        x0_subset=x0_subset,
        dropout_p=dropout_p,
        rowscale_const=rowscale_const,
        residual_in_fp32=residual_in_fp32,
    )
    absent = {1} if not makes_x(call) else set()
    absent |= {2} if not dropout_p > 0.0 else set()
    return _with_none(results, absent)


def dropout_add_ln_bwd(
    dz: torch.Tensor,
    dx: torch.Tensor | None,
    x: torch.Tensor,
    x0: torch.Tensor | None,
    dmask: torch.Tensor | None,
    mu: torch.Tensor,
    rsigma: torch.Tensor,
    gamma: torch.Tensor,
    rowscale: torch.Tensor | None,
    colscale: torch.Tensor | None,
    x0_subset: torch.Tensor | None,
    z_subset: torch.Tensor | None,
    dropout_p: float,
    rowscale_const: float,
    x0_numrows: int,
    has_residual: bool,
    is_rms_norm: bool,
) -> list[torch.Tensor | None]:
    """[dx0, dresidual or None, dgamma, dbeta, 2 scratch, then dcolscale, scratch with colscale].

    The scratch tensors have no elements: the kernels keep their partial sums to themselves.
    """
    results = ops.dropout_add_ln_bwd(
        dz,
        dx,
        x,
        x0,
        dmask,
        mu,
        rsigma,
        gamma,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
        dropout_p,
        rowscale_const,
        x0_numrows,
        has_residual,
        is_rms_norm,
    )
    return _with_none(results, set() if has_residual else {1})


def dropout_add_ln_parallel_residual_fwd(
    input: torch.Tensor,
    x1: torch.Tensor | None,
    residual: torch.Tensor | None,
    gamma0: torch.Tensor,
    beta0: torch.Tensor | None,
    gamma1: torch.Tensor | None,
    beta1: torch.Tensor | None,
    dropout_p: float,
    epsilon: float,
    gen: torch.Generator | None,
    residual_in_fp32: bool,
    is_rms_norm: bool,
) -> list[torch.Tensor | None]:
    """[z0, z1, x, dmask0, dmask1, mu, rsigma]; None where there is none."""
    results = ops.dropout_add_ln_parallel_residual_fwd(
        input,
        x1,
        residual,
        gamma0,
        beta0,
        gamma1,
        beta1,
        dropout_p,
        epsilon,
        gen,
        residual_in_fp32,
        is_rms_norm,
    )
    call = FusedCall(input, x1, residual, dropout_p=dropout_p, residual_in_fp32=residual_in_fp32)
    absent = {1} if gamma1 is None else set()
    absent |= {2} if not makes_x(call) else set()
    absent |= {3} if not dropout_p > 0.0 else set()
    absent |= {4} if not dropout_p > 0.0 or x1 is None else set()
    return _with_none(results, absent)


def dropout_add_ln_parallel_residual_bwd(
    dz0: torch.Tensor,
    dz1: torch.Tensor | None,
    dx: torch.Tensor | None,
    x: torch.Tensor,
    dmask0: torch.Tensor | None,
    dmask1: torch.Tensor | None,
    mu: torch.Tensor,
    rsigma: torch.Tensor,
    gamma0: torch.Tensor,
    gamma1: torch.Tensor | None,
    dropout_p: float,
    has_x1: bool,
    has_residual: bool,
    is_rms_norm: bool,
) -> list[torch.Tensor | None]:
    """[dx0, dx1, dresidual, dgamma0, dbeta0, dgamma1, dbeta1, 4 scratch]; None where none is."""
    results = ops.dropout_add_ln_parallel_residual_bwd(
        dz0,
        dz1,
        dx,
        x,
        dmask0,
        dmask1,
        mu,
        rsigma,
        gamma0,
        gamma1,
        dropout_p,
        has_x1,
        has_residual,
        is_rms_norm,
    )
    absent = {1} if not has_x1 else set()
    absent |= {2} if not has_residual else set()
    absent |= {5, 6, 9, 10} if gamma1 is None else set()
    return _with_none(results, absent)


__all__ = [
    "dropout_add_layer_norm",
    "dropout_add_layer_norm_parallel_residual",
    "dropout_add_layer_norm_subset",
    "dropout_add_ln_bwd",
    "dropout_add_ln_fwd",
    "dropout_add_ln_parallel_residual_bwd",
    "dropout_add_ln_parallel_residual_fwd",
    "dropout_add_rms_norm",
    "dropout_add_rms_norm_parallel_residual",
    "dropout_add_rms_norm_subset",
    "layer_norm",
    "layers",
    "ops",
    "rms_norm",
]
