# SPDX-License-Identifier: Apache-2.0
"""Fake and autograd implementations of the functional ops, which C++ defines.

Registration lives in Python because torch's stable ABI has none for either. The out-param ops get
no autograd kernel: what writes a given tensor returns nothing to differentiate.
"""

from typing import Any

import torch

from ._derivatives import Tangents, forward_ad, register_derivatives
from ._norm_tangents import norm_tangent
from ._ops import add_op_namespace_prefix, ops

Pair = tuple[torch.Tensor, torch.Tensor]
Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
MaybeTensor = torch.Tensor | None


def _result(x: torch.Tensor, weight: MaybeTensor, casting: str) -> torch.Tensor:
    promotes = weight is not None and casting != "gemma"
    dtype = torch.promote_types(x.dtype, weight.dtype) if promotes else x.dtype  # type: ignore[union-attr]
    return x.new_empty(x.shape, dtype=dtype)


def _rstd(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.float32)


def _fake_fwd(x: torch.Tensor, weight: MaybeTensor, eps: float, offset: float, cast: str) -> Pair:
    return _result(x, weight, cast), _rstd(x)


def _fake_fused(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: MaybeTensor,
    eps: float,
    offset: float,
    cast: str,
) -> Triple:
    return _result(x, weight, cast), x.new_empty(x.shape), _rstd(x)


def _fake_bwd(
    grad_out: torch.Tensor,
    x: torch.Tensor,
    weight: MaybeTensor,
    rstd: torch.Tensor,
    eps: float,
    offset: float,
    needs_x: bool,
    needs_weight: bool,
) -> Pair:
    grad_x = x.new_empty(x.shape if needs_x else (0,))
    if weight is None or not needs_weight:
        return grad_x, x.new_empty((0,))
    return grad_x, weight.new_empty(weight.shape)


def _fake_apply(x: torch.Tensor, weight: torch.Tensor, eps: float) -> list[torch.Tensor]:
    return [_result(x, weight, "llama"), _rstd(x)]


def _fake_apply_gemma(x: torch.Tensor, weight: torch.Tensor, eps: float) -> list[torch.Tensor]:
    return [_result(x, weight, "gemma"), _rstd(x)]


def _fake_apply_backward(
    grad_output: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    output: torch.Tensor,
    rstd: torch.Tensor,
    eps: float,
    needs_x: bool,
    needs_weight: bool,
) -> list[MaybeTensor]:
    return [
        x.new_empty(x.shape) if needs_x else None,
        weight.new_empty(weight.shape) if needs_weight else None,
    ]


def _gradients(ctx: Any, grad_out: torch.Tensor, op: Any) -> tuple[MaybeTensor, MaybeTensor]:
    """Gradients of what was normalised and of the weight, by one of the backward ops."""
    x, weight, rstd = ctx.saved_tensors
    needs_weight = ctx.needs_weight and weight is not None
    grad_x, grad_weight = op(
        grad_out.contiguous(), x, weight, rstd, ctx.eps, ctx.offset, ctx.needs_x, needs_weight
    )
    return grad_x if ctx.needs_x else None, grad_weight if needs_weight else None


def _fused_gradients(ctx: Any, grad_out: MaybeTensor, grad_sum: MaybeTensor, op: Any) -> Any:
    """Those of x and residual, which are the sum's, and of the weight; of the rest None."""
    grad, grad_weight = grad_sum, None
    if grad_out is not None:
        grad, grad_weight = _gradients(ctx, grad_out, op)
        if grad is not None and grad_sum is not None:
            grad = grad + grad_sum
    return grad, grad, grad_weight, None, None, None


def _save(ctx: Any, x: torch.Tensor, weight: MaybeTensor, rstd: torch.Tensor) -> None:
    ctx.save_for_backward(x, weight, rstd)
    ctx.set_materialize_grads(False)


def _setup_fwd(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
    x, weight, ctx.eps, ctx.offset, _ = inputs
    ctx.needs_x, ctx.needs_weight = ctx.needs_input_grad[:2]
    _save(ctx, x, weight, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate_fwd(ctx: Any, grad_out: MaybeTensor, grad_rstd: MaybeTensor) -> Any:
    if grad_out is None:
        return None, None, None, None, None
    return (*_gradients(ctx, grad_out, ops.rms_norm_bwd), None, None, None)


def _setup_fused(ctx: Any, inputs: tuple[Any, ...], output: Triple) -> None:
    _, _, weight, ctx.eps, ctx.offset, _ = inputs
    ctx.needs_x = any(ctx.needs_input_grad[:2])
    ctx.needs_weight = ctx.needs_input_grad[2]
    _save(ctx, output[1], weight, output[2])
    ctx.mark_non_differentiable(output[2])


def _differentiate_fused(
    ctx: Any, grad_out: MaybeTensor, grad_sum: MaybeTensor, grad_rstd: MaybeTensor
) -> Any:
    return _fused_gradients(ctx, grad_out, grad_sum, ops.rms_norm_bwd)


def _setup_apply(offset: float) -> Any:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
        x, weight, ctx.eps = inputs
        ctx.offset = offset
        ctx.needs_x, ctx.needs_weight = ctx.needs_input_grad[:2]
        _save(ctx, x, weight, output[1])
        ctx.mark_non_differentiable(output[1])

    return setup


def _differentiate_apply(ctx: Any, grads: Any, *rest: Any) -> Any:
    grad_out = grads[0] if isinstance(grads, (list, tuple)) else grads
    if grad_out is None:
        return None, None, None
    return (*_gradients(ctx, grad_out, ops.rms_norm_bwd), None)


# What eager mode runs. The functional ops reach their autograd kernels through the dispatcher and
# several frames of Python, which takes longer than a small call; these two build the node directly.


def _eager_op() -> Any:
    # Somebody who differentiates a gradient gets the op that refuses a second derivative.
    needs_derivatives = forward_ad._current_level >= 0 or torch.is_grad_enabled()
    return ops.rms_norm_bwd if needs_derivatives else ops.rms_norm_bwd_nograd


class RMSNormFunction(torch.autograd.Function):
    """`ops.rms_norm_fwd`, the result alone."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: MaybeTensor, eps: float, offset: float, casting: str
    ) -> torch.Tensor:
        out, rstd = ops.rms_norm_fwd_nograd(x, weight, eps, offset, casting)
        _save(ctx, x, weight, rstd)
        ctx.eps, ctx.offset = eps, offset
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad_out: MaybeTensor) -> Any:
        if grad_out is None:
            return None, None, None, None, None
        ctx.needs_x, ctx.needs_weight = ctx.needs_input_grad[:2]
        return (*_gradients(ctx, grad_out, _eager_op()), None, None, None)


class FusedAddRMSNormFunction(torch.autograd.Function):
    """`ops.fused_add_rms_norm_fwd` of tensors of any layout: the norm and the sum."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        residual: torch.Tensor,
        weight: MaybeTensor,
        eps: float,
        offset: float,
        casting: str,
    ) -> Pair:
        out, total, rstd = ops.fused_add_rms_norm_fwd_nograd(
            x, residual, weight, eps, offset, casting
        )
        _save(ctx, total, weight, rstd)
        ctx.eps, ctx.offset = eps, offset
        return out, total

    @staticmethod
    def backward(ctx: Any, grad_out: MaybeTensor, grad_sum: MaybeTensor) -> Any:
        ctx.needs_x = any(ctx.needs_input_grad[:2])
        ctx.needs_weight = ctx.needs_input_grad[2]
        return _fused_gradients(ctx, grad_out, grad_sum, _eager_op())


def _push_fwd(primals: tuple[Any, ...], tangents: Tangents, results: Any) -> Tangents:
    x, weight, eps, offset, _ = primals
    return _norm_tangent(x, weight, eps, *tangents[:2], offset, results), None


def _push_fused(primals: tuple[Any, ...], tangents: Tangents, results: Any) -> Tangents:
    _, _, weight, eps, offset, _ = primals
    terms = [tangent for tangent in tangents[:2] if tangent is not None]
    change = sum(terms[1:], terms[0]) if terms else None
    return (
        _norm_tangent(results[1], weight, eps, change, tangents[2], offset, results),
        change,
        None,
    )


def _push_apply(offset: float) -> Any:
    def push(primals: tuple[Any, ...], tangents: Tangents, results: Any) -> Tangents:
        return _norm_tangent(*primals, *tangents[:2], offset, results), None

    return push


def _norm_tangent(
    x: torch.Tensor,
    weight: MaybeTensor,
    eps: float,
    x_tangent: MaybeTensor,
    weight_tangent: MaybeTensor,
    offset: float,
    results: tuple[torch.Tensor, ...],
) -> MaybeTensor:
    return norm_tangent(
        *(x, weight, eps, x_tangent, weight_tangent),
        is_centred=False,
        offset=offset,
        dtype=results[0].dtype,
    )


def _refuse(*_: Any) -> Any:
    raise RuntimeError(
        "rmsnorm.rms_norm_bwd: derivative order: expected at most the first, got the second"
    )


def register() -> None:
    """Registers once per build: two copies of this module in one process (two clients, one library)
    share the namespace, which therefore keeps the registrations alive."""
    if hasattr(ops, "functional_library"):
        return
    library = torch.library.Library(add_op_namespace_prefix("").removesuffix("::"), "FRAGMENT")
    fakes = {
        "rms_norm_fwd": _fake_fwd,
        "fused_add_rms_norm_fwd": _fake_fused,
        "rms_norm_bwd": _fake_bwd,
        "apply_rms_norm": _fake_apply,
        "apply_gemma_rms_norm": _fake_apply_gemma,
        "apply_rms_norm_backward": _fake_apply_backward,
        "rms_norm_fwd_nograd": _fake_fwd,
        "fused_add_rms_norm_fwd_nograd": _fake_fused,
        "rms_norm_bwd_nograd": _fake_bwd,
    }
    derivatives = {
        "rms_norm_fwd": (_differentiate_fwd, _setup_fwd, _push_fwd),
        "fused_add_rms_norm_fwd": (_differentiate_fused, _setup_fused, _push_fused),
        "apply_rms_norm": (_differentiate_apply, _setup_apply(0.0), _push_apply(0.0)),
        "apply_gemma_rms_norm": (_differentiate_apply, _setup_apply(1.0), _push_apply(1.0)),
        "rms_norm_bwd": (_refuse, None, _refuse),
    }
    for name, fake in fakes.items():
        torch.library.register_fake(add_op_namespace_prefix(name), fake, lib=library)
    for name, functions in derivatives.items():
        register_derivatives(library, "rmsnorm", name, *functions)
    ops.functional_library = library
