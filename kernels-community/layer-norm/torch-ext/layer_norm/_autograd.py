# SPDX-License-Identifier: Apache-2.0
"""Functional, differentiable forms of the ops, and the ops of the Hub's layer-norm package, all
registered beside the out-param ops in their own namespace.

`layer_norm_functional`, `rms_norm_functional` and `dropout_add_norm_functional` allocate their
results and have fake and autograd implementations; `<op>_backward_functional` are their gradients.
`dropout_add_ln_{fwd,bwd}` and `dropout_add_ln_parallel_residual_{fwd,bwd}` are made of them, with
the argument lists of the Hub's package. Registration lives in Python because torch's stable ABI has
neither autograd, nor fakes, nor arguments of type Generator.

Where a list or tuple of tensors has no tensor to return, it holds one without elements: torch
cannot return None in a list from Python.
"""

from collections.abc import Callable
from typing import Any

import torch

from ._ops import add_op_namespace_prefix, ops

Tensor = torch.Tensor
MaybeTensor = torch.Tensor | None

FUSED_INPUTS = (
    "Tensor x0, Tensor? x1, Tensor? residual, Tensor? gamma0, Tensor? beta0, Tensor? gamma1, "
    "Tensor? beta1, Tensor? rowscale, Tensor? colscale, Tensor? x0_subset, Tensor? z_subset, "
    "Tensor? seed, float dropout_p, float epsilon, float rowscale_const, SymInt z_numrows, "
    "bool residual_in_fp32, bool is_rms_norm"
)
FUSED_GRADIENT_INPUTS = (
    "Tensor? dz0, Tensor? dz1, Tensor? dx, Tensor x, Tensor? x0, Tensor? dmask0, Tensor? dmask1, "
    "Tensor? mu, Tensor? rsigma, Tensor? gamma0, Tensor? gamma1, Tensor? rowscale, "
    "Tensor? colscale, Tensor? x0_subset, Tensor? z_subset, float dropout_p, float epsilon, "
    "float rowscale_const, SymInt x0_numrows, bool has_x1, bool has_residual, bool has_dbeta0, "
    "bool has_dbeta1, bool is_rms_norm, ScalarType dtype"
)
SCHEMAS = {
    "layer_norm_functional": "(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    "rms_norm_functional": "(Tensor x, Tensor? weight, float eps) -> Tensor",
    "layer_norm_backward_functional": (
        "(Tensor grad_out, Tensor x, Tensor? weight, bool has_bias, float eps) "
        "-> (Tensor, Tensor, Tensor)"
    ),
    "rms_norm_backward_functional": (
        "(Tensor grad_out, Tensor x, Tensor? weight, float eps) -> (Tensor, Tensor)"
    ),
    "dropout_add_norm_functional": (
        f"({FUSED_INPUTS}) -> (Tensor z0, Tensor z1, Tensor x, Tensor dmask0, Tensor dmask1, "
        "Tensor mu, Tensor rsigma)"
    ),
    "dropout_add_norm_backward_functional": (
        f"({FUSED_GRADIENT_INPUTS}) -> (Tensor dx0, Tensor dx1, Tensor dresidual, Tensor dgamma0, "
        "Tensor dbeta0, Tensor dgamma1, Tensor dbeta1, Tensor dcolscale)"
    ),
}

# The Hub's package, argument by argument.
HUB_SCHEMAS = {
    "dropout_add_ln_fwd": (
        "(Tensor input, Tensor gamma, Tensor? beta, Tensor? rowscale, Tensor? colscale, "
        "Tensor? x0_subset, Tensor? z_subset, float dropout_p, float epsilon, "
        "float rowscale_const, int z_numrows, Generator? gen, bool residual_in_fp32, "
        "bool is_rms_norm) -> Tensor[]"
    ),
    "dropout_add_ln_bwd": (
        "(Tensor dz, Tensor? dx, Tensor x, Tensor? x0, Tensor? dmask, Tensor mu, Tensor rsigma, "
        "Tensor gamma, Tensor? rowscale, Tensor? colscale, Tensor? x0_subset, Tensor? z_subset, "
        "float dropout_p, float rowscale_const, int x0_numrows, bool has_residual, "
        "bool is_rms_norm) -> Tensor[]"
    ),
    "dropout_add_ln_parallel_residual_fwd": (
        "(Tensor input, Tensor? x1, Tensor? residual, Tensor gamma0, Tensor? beta0, "
        "Tensor? gamma1, Tensor? beta1, float dropout_p, float epsilon, Generator? gen, "
        "bool residual_in_fp32, bool is_rms_norm) -> Tensor[]"
    ),
    "dropout_add_ln_parallel_residual_bwd": (
        "(Tensor dz0, Tensor? dz1, Tensor? dx, Tensor x, Tensor? dmask0, Tensor? dmask1, "
        "Tensor mu, Tensor rsigma, Tensor gamma0, Tensor? gamma1, float dropout_p, bool has_x1, "
        "bool has_residual, bool is_rms_norm) -> Tensor[]"
    ),
}


def absent(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Stands for a tensor that there is not."""
    return like.new_empty((0,), dtype=dtype)


def given(tensor: Tensor) -> MaybeTensor:
    """The tensor, or None for what `absent` made."""
    return None if tensor.dim() == 1 and tensor.shape[0] == 0 else tensor


def contiguous(tensor: MaybeTensor) -> MaybeTensor:
    return None if tensor is None else tensor.contiguous()


def empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _empty_or_absent(wanted: bool, like: Tensor) -> Tensor:
    return empty_like(like) if wanted else absent(like)


def draw_seed(dropout_p: float, gen: torch.Generator | None, like: Tensor) -> MaybeTensor:
    """A seed for the dropout of one call, on the device of `like`: no synchronisation."""
    if not dropout_p > 0.0:
        return None
    return torch.randint(
        -(2**63), 2**63 - 1, (1,), generator=gen, device=like.device, dtype=torch.int64
    )


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(ctx: Any, *grad_grads: MaybeTensor) -> Any:
        raise RuntimeError(
            f"layer_norm.{name}: derivative order: expected at most the first, got the second"
        )

    return refuse


# -- plain norms -----------------------------------------------------------------------------


def _layer_norm(x: Tensor, weight: MaybeTensor, bias: MaybeTensor, eps: float) -> Tensor:
    out = empty_like(x)
    ops.layer_norm(out, x.contiguous(), contiguous(weight), contiguous(bias), eps)
    return out


def _rms_norm(x: Tensor, weight: MaybeTensor, eps: float) -> Tensor:
    out = empty_like(x)
    ops.rms_norm(out, x.contiguous(), contiguous(weight), eps)
    return out


def _plain_gradients(
    x: Tensor, weight: MaybeTensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    of_bias = x.new_empty((x.shape[-1],)) if has_bias else absent(x)
    return empty_like(x), absent(x) if weight is None else empty_like(weight), of_bias


def _layer_norm_backward(
    grad_out: Tensor, x: Tensor, weight: MaybeTensor, has_bias: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    grads = _plain_gradients(x, weight, has_bias)
    grad_x, grad_weight, grad_bias = grads
    ops.layer_norm_backward(
        grad_x,
        None if weight is None else grad_weight,
        grad_bias if has_bias else None,
        grad_out.contiguous(),
        x.contiguous(),
        contiguous(weight),
        eps,
    )
    return grads


def _rms_norm_backward(
    grad_out: Tensor, x: Tensor, weight: MaybeTensor, eps: float
) -> tuple[Tensor, Tensor]:
    grad_x, grad_weight, _ = _plain_gradients(x, weight, has_bias=False)
    ops.rms_norm_backward(
        grad_x,
        None if weight is None else grad_weight,
        grad_out.contiguous(),
        x.contiguous(),
        contiguous(weight),
        eps,
    )
    return grad_x, grad_weight


def _setup_layer_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.eps = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight)


def _differentiate_layer_norm(ctx: Any, grad_out: Tensor) -> tuple[MaybeTensor, ...]:
    x, weight = ctx.saved_tensors
    grad_x, grad_weight, grad_bias = ops.layer_norm_backward_functional(
        grad_out, x, weight, ctx.has_bias, ctx.eps
    )
    return (
        grad_x,
        None if weight is None else grad_weight,
        grad_bias if ctx.has_bias else None,
        None,
    )


def _setup_rms_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def _differentiate_rms_norm(ctx: Any, grad_out: Tensor) -> tuple[MaybeTensor, ...]:
    x, weight = ctx.saved_tensors
    grad_x, grad_weight = ops.rms_norm_backward_functional(grad_out, x, weight, ctx.eps)
    return grad_x, None if weight is None else grad_weight, None


# -- the fused op ----------------------------------------------------------------------------


def _fused_results(
    x0: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    gamma1: MaybeTensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    dropout_p: float,
    rowscale_const: float,
    z_numrows: int,
    residual_in_fp32: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """z0, z1, x, dmask0, dmask1, mu, rsigma, not computed yet. No x where it would be x0."""
    cols = x0.shape[-1]
    shape = x0.shape if x0_subset is None else (x0_subset.numel(), cols)
    z_shape = shape if z_subset is None else (z_numrows, cols)
    in_fp32 = residual_in_fp32 and x0.dtype != torch.float64
    x_dtype = residual.dtype if residual is not None else torch.float32 if in_fp32 else x0.dtype
    changes_x0 = any(tensor is not None for tensor in (x1, residual, rowscale, colscale, x0_subset))
    has_x = changes_x0 or dropout_p > 0.0 or rowscale_const != 1.0 or x_dtype != x0.dtype
    has_z1 = gamma1 is not None
    mask = torch.uint8
    statistics = torch.float64 if x0.dtype == torch.float64 else torch.float32
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return (
        x0.new_empty(z_shape),
        x0.new_empty(z_shape) if has_z1 else absent(x0),
        x0.new_empty(shape, dtype=x_dtype) if has_x else absent(x0),
        x0.new_empty(x0.shape, dtype=mask) if dropout_p > 0.0 else absent(x0, mask),
        x0.new_empty(shape, dtype=mask) if dropout_p > 0.0 and x1 is not None else absent(x0, mask),
        x0.new_empty((rows,), dtype=statistics),
        x0.new_empty((rows,), dtype=statistics),
    )


def _check(x0: Tensor, *parameters: tuple[MaybeTensor, MaybeTensor]) -> None:
    if x0.dim() == 0:
        raise RuntimeError("layer_norm.dropout_add_norm: x0 rank: expected at least 1, got 0")
    for i, (gamma, beta) in enumerate(parameters):
        if gamma is None and beta is not None:
            raise RuntimeError(
                f"layer_norm.dropout_add_norm: gamma{i} presence: expected a tensor beside "
                f"beta{i}, got none"
            )


def _fused_fake(
    x0: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    gamma0: MaybeTensor,
    beta0: MaybeTensor,
    gamma1: MaybeTensor,
    beta1: MaybeTensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    seed: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale_const: float,
    z_numrows: int,
    residual_in_fp32: bool,
    is_rms_norm: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    _check(x0, (gamma0, beta0), (gamma1, beta1))
    return _fused_results(
        x0,
        x1,
        residual,
        gamma1,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
        dropout_p,
        rowscale_const,
        z_numrows,
        residual_in_fp32,
    )


def _fused(
    x0: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    gamma0: MaybeTensor,
    beta0: MaybeTensor,
    gamma1: MaybeTensor,
    beta1: MaybeTensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    seed: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale_const: float,
    z_numrows: int,
    residual_in_fp32: bool,
    is_rms_norm: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    _check(x0, (gamma0, beta0), (gamma1, beta1))
    if not 0.0 <= dropout_p < 1.0:
        raise RuntimeError(
            "layer_norm.dropout_add_norm: dropout_p value: expected a number of at least 0 and "
            f"below 1, got {dropout_p}"
        )
    results = _fused_results(
        x0,
        x1,
        residual,
        gamma1,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
        dropout_p,
        rowscale_const,
        z_numrows,
        residual_in_fp32,
    )
    z0, z1, x, dmask0, dmask1, mu, rsigma = results
    inputs = (
        x0,
        x1,
        residual,
        gamma0,
        beta0,
        gamma1,
        beta1,
        None if rowscale is None else rowscale.reshape(-1),
        colscale,
        None if x0_subset is None else x0_subset.reshape(-1),
        None if z_subset is None else z_subset.reshape(-1),
        seed,
    )
    ops.dropout_add_norm(
        z0,
        given(z1),
        given(x),
        given(dmask0),
        given(dmask1),
        mu,
        rsigma,
        *(contiguous(tensor) for tensor in inputs),
        dropout_p,
        epsilon,
        rowscale_const,
        is_rms_norm,
    )
    return results


def _fused_gradients(
    x: Tensor,
    gamma0: MaybeTensor,
    gamma1: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    x0_numrows: int,
    has_x1: bool,
    has_residual: bool,
    has_dbeta0: bool,
    has_dbeta1: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    cols = x.shape[-1]
    weights = next((p for p in (gamma0, gamma1, colscale) if p is not None), None)
    like = x.new_empty((cols,), dtype=dtype) if weights is None else weights
    x0_shape = x.shape if x0_subset is None else (x0_numrows, cols)
    return (
        x.new_empty(x0_shape, dtype=dtype),
        x.new_empty(x.shape, dtype=dtype) if has_x1 else absent(x, dtype),
        empty_like(x) if has_residual else absent(x),
        _empty_or_absent(gamma0 is not None, like),
        _empty_or_absent(has_dbeta0, like),
        _empty_or_absent(gamma1 is not None, like),
        _empty_or_absent(has_dbeta1, like),
        _empty_or_absent(colscale is not None, like),
    )


def _fused_backward_fake(
    dz0: MaybeTensor,
    dz1: MaybeTensor,
    dx: MaybeTensor,
    x: Tensor,
    x0: MaybeTensor,
    dmask0: MaybeTensor,
    dmask1: MaybeTensor,
    mu: MaybeTensor,
    rsigma: MaybeTensor,
    gamma0: MaybeTensor,
    gamma1: MaybeTensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale_const: float,
    x0_numrows: int,
    has_x1: bool,
    has_residual: bool,
    has_dbeta0: bool,
    has_dbeta1: bool,
    is_rms_norm: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _fused_gradients(
        x,
        gamma0,
        gamma1,
        colscale,
        x0_subset,
        x0_numrows,
        has_x1,
        has_residual,
        has_dbeta0,
        has_dbeta1,
        dtype,
    )


def _fused_backward(
    dz0: MaybeTensor,
    dz1: MaybeTensor,
    dx: MaybeTensor,
    x: Tensor,
    x0: MaybeTensor,
    dmask0: MaybeTensor,
    dmask1: MaybeTensor,
    mu: MaybeTensor,
    rsigma: MaybeTensor,
    gamma0: MaybeTensor,
    gamma1: MaybeTensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale_const: float,
    x0_numrows: int,
    has_x1: bool,
    has_residual: bool,
    has_dbeta0: bool,
    has_dbeta1: bool,
    is_rms_norm: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads = _fused_gradients(
        x,
        gamma0,
        gamma1,
        colscale,
        x0_subset,
        x0_numrows,
        has_x1,
        has_residual,
        has_dbeta0,
        has_dbeta1,
        dtype,
    )
    dx0, dx1, dresidual, dgamma0, dbeta0, dgamma1, dbeta1, dcolscale = grads
    has_z1 = gamma1 is not None
    # What did not reach the loss has no gradient tensor; zeros, or rows of no z, stand for it.
    z_like = dz0 if dz0 is not None else dz1
    if z_like is None and z_subset is None:
        z_like = torch.zeros_like(x, dtype=dtype)
    elif z_like is None:
        z_subset = torch.zeros_like(z_subset)
        z_like = x.new_empty((0, x.shape[-1]), dtype=dtype)
    first = torch.zeros_like(z_like) if dz0 is None else dz0
    second = dz1 if dz1 is not None else torch.zeros_like(z_like) if has_z1 else None
    inputs = (
        first,
        second,
        dx,
        x,
        x0 if colscale is not None else None,
        dmask0,
        dmask1,
        mu,
        rsigma,
        gamma0,
        gamma1,
        None if rowscale is None else rowscale.reshape(-1),
        colscale,
        None if x0_subset is None else x0_subset.reshape(-1),
        None if z_subset is None else z_subset.reshape(-1),
    )
    ops.dropout_add_norm_backward(
        dx0,
        dx1 if has_x1 else None,
        dresidual if has_residual else None,
        dgamma0 if gamma0 is not None else None,
        dbeta0 if has_dbeta0 else None,
        dgamma1 if gamma1 is not None else None,
        dbeta1 if has_dbeta1 else None,
        dcolscale if colscale is not None else None,
        *(contiguous(tensor) for tensor in inputs),
        dropout_p,
        epsilon,
        rowscale_const,
        is_rms_norm,
    )
    return grads


def _setup_fused(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x0, x1, residual, gamma0, beta0, gamma1, beta1, rowscale, colscale = inputs[:9]
    x0_subset, z_subset, _, ctx.dropout_p, ctx.epsilon, ctx.rowscale_const = inputs[9:15]
    ctx.is_rms_norm = inputs[17]
    _, _, x, dmask0, dmask1, mu, rsigma = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(dmask0, dmask1, mu, rsigma)
    ctx.asks_rowscale = rowscale is not None and rowscale.requires_grad
    ctx.has_x = given(x) is not None
    ctx.has = [tensor is not None for tensor in (x1, residual, beta0, beta1)]
    ctx.x0_numrows = x0.shape[:-1].numel() if x0_subset is not None else 0
    ctx.dtype = x0.dtype
    needs_x0 = colscale is not None or not ctx.has_x
    ctx.save_for_backward(
        x if ctx.has_x else None,
        x0 if needs_x0 else None,
        given(dmask0),
        given(dmask1),
        mu,
        rsigma,
        gamma0,
        gamma1,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
    )


def _differentiate_fused(ctx: Any, *output_grads: MaybeTensor) -> tuple[MaybeTensor, ...]:
    if ctx.asks_rowscale:
        raise RuntimeError(
            "layer_norm.dropout_add_norm: rowscale gradient: expected a rowscale that requires "
            "none, got one that does"
        )
    dz0, dz1, dx = output_grads[:3]
    x, x0, *saved = ctx.saved_tensors
    gamma0, gamma1, colscale = saved[4], saved[5], saved[7]
    has_x1, has_residual, has_beta0, has_beta1 = ctx.has
    dx0, dx1, dresidual, dgamma0, dbeta0, dgamma1, dbeta1, dcolscale = (
        ops.dropout_add_norm_backward_functional(
            dz0,
            dz1,
            dx,
            x if ctx.has_x else x0,
            x0,
            *saved,
            ctx.dropout_p,
            ctx.epsilon,
            ctx.rowscale_const,
            ctx.x0_numrows,
            has_x1,
            has_residual,
            has_beta0,
            has_beta1,
            ctx.is_rms_norm,
            ctx.dtype,
        )
    )
    grads = (
        dx0,
        dx1 if has_x1 else None,
        dresidual if has_residual else None,
        dgamma0 if gamma0 is not None else None,
        dbeta0 if has_beta0 else None,
        dgamma1 if gamma1 is not None else None,
        dbeta1 if has_beta1 else None,
        None,
        dcolscale if colscale is not None else None,
    )
    return grads + (None,) * 9


# -- the ops of the Hub's package --------------------------------------------------------------


def _hub_fwd(
    input: Tensor,
    gamma: Tensor,
    beta: MaybeTensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    rowscale_const: float,
    z_numrows: int,
    gen: torch.Generator | None,
    residual_in_fp32: bool,
    is_rms_norm: bool,
) -> list[Tensor]:
    z, _, x, dmask, _, mu, rsigma = ops.dropout_add_norm_functional(
        input,
        None,
        None,
        gamma,
        beta,
        None,
        None,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
        draw_seed(dropout_p, gen, input),
        dropout_p,
        epsilon,
        rowscale_const,
        z_numrows,
        residual_in_fp32,
        is_rms_norm,
    )
    return [z, x, dmask, mu, rsigma]


def _hub_bwd(
    dz: Tensor,
    dx: MaybeTensor,
    x: Tensor,
    x0: MaybeTensor,
    dmask: MaybeTensor,
    mu: Tensor,
    rsigma: Tensor,
    gamma: Tensor,
    rowscale: MaybeTensor,
    colscale: MaybeTensor,
    x0_subset: MaybeTensor,
    z_subset: MaybeTensor,
    dropout_p: float,
    rowscale_const: float,
    x0_numrows: int,
    has_residual: bool,
    is_rms_norm: bool,
) -> list[Tensor]:
    if colscale is not None and x0 is None:
        raise RuntimeError(
            "layer_norm.dropout_add_ln_bwd: x0 presence: expected a tensor beside colscale, "
            "got none"
        )
    dx0, _, dresidual, dgamma, dbeta, _, _, dcolscale = ops.dropout_add_norm_backward_functional(
        dz,
        None,
        dx,
        x,
        x0,
        dmask,
        None,
        mu,
        rsigma,
        gamma,
        None,
        rowscale,
        colscale,
        x0_subset,
        z_subset,
        dropout_p,
        0.0,
        rowscale_const,
        x0_numrows,
        False,
        has_residual,
        True,
        False,
        is_rms_norm,
        dz.dtype,
    )
    # The sums over parts of the rows stay inside the kernels.
    part = gamma.new_empty((0, gamma.shape[0]), dtype=torch.float32)
    results = [dx0, dresidual, dgamma, dbeta, part, part.clone()]
    return results if colscale is None else [*results, dcolscale, part.clone()]


def _hub_parallel_fwd(
    input: Tensor,
    x1: MaybeTensor,
    residual: MaybeTensor,
    gamma0: Tensor,
    beta0: MaybeTensor,
    gamma1: MaybeTensor,
    beta1: MaybeTensor,
    dropout_p: float,
    epsilon: float,
    gen: torch.Generator | None,
    residual_in_fp32: bool,
    is_rms_norm: bool,
) -> list[Tensor]:
    return list(
        ops.dropout_add_norm_functional(
            input,
            x1,
            residual,
            gamma0,
            beta0,
            gamma1,
            beta1,
            None,
            None,
            None,
            None,
            draw_seed(dropout_p, gen, input),
            dropout_p,
            epsilon,
            1.0,
            0,
            residual_in_fp32,
            is_rms_norm,
        )
    )


def _hub_parallel_bwd(
    dz0: Tensor,
    dz1: MaybeTensor,
    dx: MaybeTensor,
    x: Tensor,
    dmask0: MaybeTensor,
    dmask1: MaybeTensor,
    mu: Tensor,
    rsigma: Tensor,
    gamma0: Tensor,
    gamma1: MaybeTensor,
    dropout_p: float,
    has_x1: bool,
    has_residual: bool,
    is_rms_norm: bool,
) -> list[Tensor]:
    if dz1 is not None and gamma1 is None:
        raise RuntimeError(
            "layer_norm.dropout_add_ln_parallel_residual_bwd: gamma1 presence: expected a tensor "
            "beside dz1, got none"
        )
    grads = ops.dropout_add_norm_backward_functional(
        dz0,
        dz1,
        dx,
        x,
        None,
        dmask0,
        dmask1,
        mu,
        rsigma,
        gamma0,
        gamma1,
        None,
        None,
        None,
        None,
        dropout_p,
        0.0,
        1.0,
        0,
        has_x1,
        has_residual,
        True,
        gamma1 is not None,
        is_rms_norm,
        dz0.dtype,
    )
    part = gamma0.new_empty((0, gamma0.shape[0]), dtype=torch.float32)
    parts1 = [absent(part), absent(part)] if gamma1 is None else [part.clone(), part.clone()]
    return [*grads[:7], part, part.clone(), *parts1]


def register() -> None:
    """Defines the functional ops and those of the Hub, once per build: two copies of this module in
    one process (two clients, one library) share the namespace, which therefore keeps the
    registrations alive."""
    if hasattr(ops, "functional_library"):
        return
    library = torch.library.Library(add_op_namespace_prefix("").removesuffix("::"), "FRAGMENT")
    rows: dict[str, tuple[Callable[..., Any], ...]] = {
        "layer_norm_functional": (
            _layer_norm,
            lambda x, *_: empty_like(x),
            _differentiate_layer_norm,
            _setup_layer_norm,
        ),
        "rms_norm_functional": (
            _rms_norm,
            lambda x, *_: empty_like(x),
            _differentiate_rms_norm,
            _setup_rms_norm,
        ),
        "layer_norm_backward_functional": (
            _layer_norm_backward,
            lambda _, x, weight, has_bias, __: _plain_gradients(x, weight, has_bias),
            _refuse("layer_norm"),
        ),
        "rms_norm_backward_functional": (
            _rms_norm_backward,
            lambda _, x, weight, __: _plain_gradients(x, weight, has_bias=False)[:2],
            _refuse("rms_norm"),
        ),
        "dropout_add_norm_functional": (
            _fused,
            _fused_fake,
            _differentiate_fused,
            _setup_fused,
        ),
        "dropout_add_norm_backward_functional": (
            _fused_backward,
            _fused_backward_fake,
            _refuse("dropout_add_norm"),
        ),
    }
    for name, (implementation, shape_only, derivative, *setup) in rows.items():
        library.define(name + SCHEMAS[name])
        full_name = add_op_namespace_prefix(name)
        library.impl(name, implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(full_name, shape_only, lib=library)
        torch.library.register_autograd(
            full_name, derivative, setup_context=setup[0] if setup else None, lib=library
        )
    hub = {
        "dropout_add_ln_fwd": _hub_fwd,
        "dropout_add_ln_bwd": _hub_bwd,
        "dropout_add_ln_parallel_residual_fwd": _hub_parallel_fwd,
        "dropout_add_ln_parallel_residual_bwd": _hub_parallel_bwd,
    }
    for name, implementation in hub.items():
        library.define(name + HUB_SCHEMAS[name])
        library.impl(name, implementation, "CompositeImplicitAutograd")
    ops.functional_library = library
