# SPDX-License-Identifier: Apache-2.0
"""Functional, differentiable forms of the ops, and the ops of the Hub's layer-norm package, all
registered beside the out-param ops in their own namespace.

`layer_norm_functional`, `rms_norm_functional` and `dropout_add_norm_functional` allocate their
results and have fake and autograd implementations; `<op>_backward_functional` are their gradients.
`dropout_add_ln_{fwd,bwd}` and `dropout_add_ln_parallel_residual_{fwd,bwd}` are made of them, with
the argument lists of the Hub's package. Registration lives in Python because torch's stable ABI has
neither autograd, nor fakes, nor arguments of type Generator.

Where a list or tuple of tensors has no tensor to return, it holds one without elements: torch
cannot return None in a list from Python. Whether it does follows from the arguments, never from the
tensor: what is asked for may have no elements either. A backward's `wanted` says of each gradient,
in the order of its results, whether it is asked for.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ._derivatives import Jvp, Tangents, forward_ad, register_derivatives
from ._norm_tangents import norm_tangent
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
    "float rowscale_const, SymInt x0_numrows, bool is_rms_norm, ScalarType dtype, bool[] wanted"
)
SCHEMAS = {
    "layer_norm_functional": "(Tensor x, Tensor? weight, Tensor? bias, float eps) -> Tensor",
    "rms_norm_functional": "(Tensor x, Tensor? weight, float eps) -> Tensor",
    "layer_norm_backward_functional": (
        "(Tensor grad_out, Tensor x, Tensor? weight, float eps, bool[] wanted, "
        "ScalarType? bias_dtype=None) -> (Tensor, Tensor, Tensor)"
    ),
    "rms_norm_backward_functional": (
        "(Tensor grad_out, Tensor x, Tensor? weight, float eps, bool[] wanted) -> (Tensor, Tensor)"
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


class FusedCall(NamedTuple):
    """The arguments of dropout_add_norm_functional, in its order."""

    x0: Tensor
    x1: MaybeTensor = None
    residual: MaybeTensor = None
    gamma0: MaybeTensor = None
    beta0: MaybeTensor = None
    gamma1: MaybeTensor = None
    beta1: MaybeTensor = None
    rowscale: MaybeTensor = None
    colscale: MaybeTensor = None
    x0_subset: MaybeTensor = None
    z_subset: MaybeTensor = None
    seed: MaybeTensor = None
    dropout_p: float = 0.0
    epsilon: float = 0.0
    rowscale_const: float = 1.0
    z_numrows: int = 0
    residual_in_fp32: bool = False
    is_rms_norm: bool = False


class FusedGradientCall(NamedTuple):
    """The arguments of dropout_add_norm_backward_functional, in its order."""

    dz0: MaybeTensor
    dz1: MaybeTensor
    dx: MaybeTensor
    x: Tensor
    x0: MaybeTensor
    dmask0: MaybeTensor
    dmask1: MaybeTensor
    mu: MaybeTensor
    rsigma: MaybeTensor
    gamma0: MaybeTensor
    gamma1: MaybeTensor
    rowscale: MaybeTensor
    colscale: MaybeTensor
    x0_subset: MaybeTensor
    z_subset: MaybeTensor
    dropout_p: float
    epsilon: float
    rowscale_const: float
    x0_numrows: int
    is_rms_norm: bool
    dtype: torch.dtype
    wanted: list[bool]


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


def given(is_given: bool, tensor: MaybeTensor) -> MaybeTensor:
    return tensor if is_given else None


def absent(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Stands for a tensor that there is not."""
    return like.new_empty((0,), dtype=dtype)


def contiguous(tensor: MaybeTensor) -> MaybeTensor:
    return None if tensor is None else tensor.contiguous()


def empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _flat(tensor: MaybeTensor) -> MaybeTensor:
    return None if tensor is None else tensor.reshape(-1)


def draw_seed(dropout_p: float, gen: torch.Generator | None, like: Tensor) -> MaybeTensor:
    """A seed for the dropout of one call, on the device of `like`: no synchronisation."""
    if not dropout_p > 0.0:
        return None
    return torch.randint(
        -(2**63), 2**63 - 1, (1,), generator=gen, device=like.device, dtype=torch.int64
    )


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise RuntimeError(
            f"layer_norm.{name}: derivative order: expected at most the first, got the second"
        )

    return refuse


# -- plain norms -----------------------------------------------------------------------------


def _plain_gradients_fake(
    grad_out: Tensor,
    x: Tensor,
    weight: MaybeTensor,
    eps: float,
    needs_x: bool,
    needs_weight: bool,
    needs_bias: bool | None = None,
    bias_dtype: torch.dtype | None = None,
) -> tuple[Tensor, ...]:
    """Those of x, weight and, for layer_norm, bias. weight and bias share a dtype; a bias alone has
    its own, or that of x where it is not named.
    """
    if weight is not None and bias_dtype not in (None, weight.dtype):
        expected, got = (str(dtype).removeprefix("torch.") for dtype in (weight.dtype, bias_dtype))
        raise RuntimeError(
            f"layer_norm.layer_norm_backward: bias_dtype value: expected {expected}, that of "
            f"weight, got {got}"
        )
    parameter = x.new_empty((x.shape[-1],), dtype=bias_dtype) if weight is None else weight
    kinds = ((x, needs_x), (parameter, needs_weight), (parameter, needs_bias))
    return tuple(
        empty_like(like) if is_wanted else absent(like)
        for like, is_wanted in kinds
        if is_wanted is not None
    )


class PlainNorm(NamedTuple):
    """How one of the plain norms is differentiated."""

    backward: Callable[..., tuple[Tensor, ...]]  # <norm>_backward_functional
    setup_context: Callable[..., None]  # of <norm>_functional, as the next
    differentiate: Callable[..., tuple[MaybeTensor, ...]]
    push_forward: Jvp
    function: type[torch.autograd.Function]


def _plain_norm(norm: str, function_name: str) -> PlainNorm:
    """`norm` takes x, weight, for layer_norm bias, and eps.

    The function is what eager mode runs. The functional ops reach their autograd kernels through
    the dispatcher and several frames of Python, which takes longer than a small call; it builds the
    node directly. Somebody who differentiates a gradient gets the op that refuses a second
    derivative.
    """
    normalize = getattr(ops, f"{norm}_fwd_nograd").default
    gradients = getattr(ops, f"{norm}_bwd_nograd").default

    def backward(
        grad_out: Tensor,
        x: Tensor,
        weight: MaybeTensor,
        eps: float,
        wanted: list[bool],
        *bias_dtype: torch.dtype | None,
    ) -> tuple[Tensor, ...]:
        return gradients(grad_out, x, weight, eps, *wanted, *bias_dtype)  # type: ignore[no-any-return]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | None) -> None:
        weight = inputs[1]
        ctx.save_for_backward(inputs[0], weight)
        ctx.eps = inputs[-1]
        ctx.wanted = ctx.needs_input_grad[: len(inputs) - 1]
        # Of a bias alone: beside a weight it has the dtype of that.
        biases = () if weight is not None else inputs[2:-1]
        ctx.bias_dtype = [bias.dtype for bias in biases if bias is not None]

    def differentiate(ctx: Any, grad_out: Tensor) -> tuple[MaybeTensor, ...]:
        wanted = ctx.wanted
        arguments = (grad_out, *ctx.saved_tensors, ctx.eps)
        if forward_ad._current_level >= 0 or torch.is_grad_enabled():
            functional = getattr(ops, f"{norm}_backward_functional")
            grads = functional(*arguments, list(wanted), *ctx.bias_dtype)
        else:
            grads = gradients(*arguments, *wanted, *ctx.bias_dtype)
        return (*(map(given, wanted, grads) if False in wanted else grads), None)

    def push_forward(
        primals: tuple[Any, ...], tangents: Tangents, results: tuple[Tensor, ...]
    ) -> Tangents:
        x, weight, *_, eps = primals
        is_centred, dtype = norm == "layer_norm", results[0].dtype
        change = norm_tangent(x, weight, eps, *tangents[:-1], is_centred=is_centred, dtype=dtype)
        return (change,)

    def forward(ctx: Any, *inputs: Any) -> Tensor:
        setup_context(ctx, inputs, None)
        return normalize(*inputs)  # type: ignore[no-any-return]

    methods = {"forward": staticmethod(forward), "backward": staticmethod(differentiate)}
    function = type(function_name, (torch.autograd.Function,), methods)
    return PlainNorm(backward, setup_context, differentiate, push_forward, function)


PLAIN_NORMS = {
    "layer_norm": _plain_norm("layer_norm", "LayerNormFunction"),
    "rms_norm": _plain_norm("rms_norm", "RMSNormFunction"),
}

# -- the fused op ----------------------------------------------------------------------------


def makes_x(call: FusedCall) -> bool:
    """Whether x is another tensor than x0."""
    changes = (call.x1, call.residual, call.rowscale, call.colscale, call.x0_subset)
    return (
        any(tensor is not None for tensor in changes)
        or call.dropout_p > 0.0
        or call.rowscale_const != 1.0
        or (call.residual_in_fp32 and call.x0.dtype not in (torch.float32, torch.float64))
    )


def _fused_results(call: FusedCall) -> tuple[Tensor, ...]:
    """z0, z1, x, dmask0, dmask1, mu, rsigma, not computed yet."""
    x0 = call.x0
    cols = x0.shape[-1]
    shape = x0.shape if call.x0_subset is None else (call.x0_subset.numel(), cols)
    z_shape = shape if call.z_subset is None else (call.z_numrows, cols)
    statistics = torch.float64 if x0.dtype == torch.float64 else torch.float32
    x_dtype = statistics if call.residual_in_fp32 else x0.dtype
    if call.residual is not None:
        x_dtype = call.residual.dtype
    has_dropout = call.dropout_p > 0.0

    def made(is_made: bool, shape: Any, dtype: torch.dtype) -> Tensor:
        return x0.new_empty(shape, dtype=dtype) if is_made else absent(x0, dtype)

    return (
        x0.new_empty(z_shape),
        made(call.gamma1 is not None, z_shape, x0.dtype),
        made(makes_x(call), shape, x_dtype) if makes_x(call) else absent(x0),
        made(has_dropout, x0.shape, torch.uint8),
        made(has_dropout and call.x1 is not None, shape, torch.uint8),
        made(True, (math.prod(shape[:-1]),), statistics),
        made(True, (math.prod(shape[:-1]),), statistics),
    )


def _check(call: FusedCall) -> None:
    if call.x0.dim() == 0:
        raise RuntimeError("layer_norm.dropout_add_norm: x0 rank: expected at least 1, got 0")
    for i, (gamma, beta) in enumerate(((call.gamma0, call.beta0), (call.gamma1, call.beta1))):
        if gamma is None and beta is not None:
            raise RuntimeError(
                f"layer_norm.dropout_add_norm: gamma{i} presence: expected a tensor beside "
                f"beta{i}, got none"
            )


def _fused_fake(*arguments: Any) -> tuple[Tensor, ...]:
    call = FusedCall(*arguments)
    _check(call)
    return _fused_results(call)


def _fused(*arguments: Any) -> tuple[Tensor, ...]:
    call = FusedCall(*arguments)
    _check(call)
    if not 0.0 <= call.dropout_p < 1.0:
        raise RuntimeError(
            "layer_norm.dropout_add_norm: dropout_p value: expected a number of at least 0 and "
            f"below 1, got {call.dropout_p}"
        )
    results = _fused_results(call)
    z0, z1, x, dmask0, dmask1, mu, rsigma = results
    has_dropout = call.dropout_p > 0.0
    inputs = call._replace(
        rowscale=_flat(call.rowscale),
        x0_subset=_flat(call.x0_subset),
        z_subset=_flat(call.z_subset),
    )
    ops.dropout_add_norm(
        z0,
        given(call.gamma1 is not None, z1),
        given(makes_x(call), x),
        given(has_dropout, dmask0),
        given(has_dropout and call.x1 is not None, dmask1),
        mu,
        rsigma,
        *map(contiguous, inputs[:12]),
        call.dropout_p,
        call.epsilon,
        call.rowscale_const,
        call.is_rms_norm,
    )
    return results


def _fused_gradients(call: FusedGradientCall) -> tuple[Tensor, ...]:
    """Those of x0, x1, residual, gamma0, beta0, gamma1, beta1, colscale, not computed yet."""
    x, dtype = call.x, call.dtype
    cols = x.shape[-1]
    weights = (call.gamma0, call.gamma1, call.colscale)
    weight = next((p for p in weights if p is not None), None)
    of_weight = ((cols,), dtype if weight is None else weight.dtype)
    kinds = (
        (x.shape if call.x0_subset is None else (call.x0_numrows, cols), dtype),
        (x.shape, dtype),
        (x.shape, x.dtype),
        *(of_weight,) * 5,
    )
    return tuple(
        x.new_empty(shape, dtype=kind) if is_wanted else absent(x, kind)
        for is_wanted, (shape, kind) in zip(call.wanted, kinds, strict=True)
    )


def _fused_backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    return _fused_gradients(FusedGradientCall(*arguments))


def _fused_backward(*arguments: Any) -> tuple[Tensor, ...]:
    call = FusedGradientCall(*arguments)
    grads = _fused_gradients(call)
    wants_x0, wants_x1, *_, wants_colscale = call.wanted
    # What did not reach the loss has no gradient tensor; zeros, or rows of no z, stand for it.
    z_subset = call.z_subset
    z_like = call.dz0 if call.dz0 is not None else call.dz1
    if z_like is None and z_subset is None:
        z_like = torch.zeros_like(call.x, dtype=call.dtype)
    elif z_like is None:
        z_subset = torch.zeros_like(z_subset)
        z_like = call.x.new_empty((0, call.x.shape[-1]), dtype=call.dtype)
    second = call.dz1
    if second is None and call.gamma1 is not None:
        second = torch.zeros_like(z_like)
    reads_x0_rows = wants_x0 or wants_colscale or call.dmask0 is not None
    inputs = call._replace(
        dz0=torch.zeros_like(z_like) if call.dz0 is None else call.dz0,
        dz1=second,
        x0=given(wants_colscale, call.x0),
        dmask1=given(wants_x1, call.dmask1),
        rowscale=_flat(call.rowscale),
        x0_subset=_flat(given(reads_x0_rows, call.x0_subset)),
        z_subset=_flat(z_subset),
    )
    ops.dropout_add_norm_backward(
        *map(given, call.wanted, grads),
        *map(contiguous, inputs[:15]),
        call.dropout_p,
        call.epsilon,
        call.rowscale_const,
        call.is_rms_norm,
    )
    return grads


def _setup_fused(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call = FusedCall(*inputs)
    _, _, x, dmask0, dmask1, mu, rsigma = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(dmask0, dmask1, mu, rsigma)
    ctx.numbers = (
        call.dropout_p,
        call.epsilon,
        call.rowscale_const,
        call.x0.shape[:-1].numel() if call.x0_subset is not None else 0,
        call.is_rms_norm,
        call.x0.dtype,
    )
    has_dropout = call.dropout_p > 0.0
    ctx.save_for_backward(
        x if makes_x(call) else call.x0,
        given(call.colscale is not None, call.x0),
        given(has_dropout, dmask0),
        given(has_dropout and call.x1 is not None, dmask1),
        mu,
        rsigma,
        call.gamma0,
        call.gamma1,
        call.rowscale,
        call.colscale,
        call.x0_subset,
        call.z_subset,
    )


def _differentiate_fused(ctx: Any, *output_grads: MaybeTensor) -> tuple[MaybeTensor, ...]:
    needs = ctx.needs_input_grad
    if needs[7]:
        raise RuntimeError(
            "layer_norm.dropout_add_norm: rowscale gradient: expected a rowscale that requires "
            "none, got one that does"
        )
    wanted = [*needs[:7], needs[8]]
    grads = list(
        map(
            given,
            wanted,
            ops.dropout_add_norm_backward_functional(
                *output_grads[:3], *ctx.saved_tensors, *ctx.numbers, wanted
            ),
        )
    )
    return (*grads[:7], None, grads[7], *(None,) * 9)


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
    call = FusedCall(
        input,
        gamma0=gamma,
        beta0=beta,
        rowscale=rowscale,
        colscale=colscale,
        x0_subset=x0_subset,
        z_subset=z_subset,
        seed=draw_seed(dropout_p, gen, input),
        dropout_p=dropout_p,
        epsilon=epsilon,
        rowscale_const=rowscale_const,
        z_numrows=z_numrows,
        residual_in_fp32=residual_in_fp32,
        is_rms_norm=is_rms_norm,
    )
    z, _, x, dmask, _, mu, rsigma = ops.dropout_add_norm_functional(*call)
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
    has_colscale = colscale is not None
    if has_colscale and x0 is None:
        raise RuntimeError(
            "layer_norm.dropout_add_ln_bwd: x0 presence: expected a tensor beside colscale, "
            "got none"
        )
    dx0, _, dresidual, dgamma, dbeta, _, _, dcolscale = ops.dropout_add_norm_backward_functional(
        *(dz, None, dx, x, x0, dmask, None, mu, rsigma, gamma, None),
        *(rowscale, colscale, x0_subset, z_subset),
        *(dropout_p, 0.0, rowscale_const, x0_numrows, is_rms_norm, dz.dtype),
        [True, False, has_residual, True, True, False, False, has_colscale],
    )
    # The sums over parts of the rows stay inside the kernels.
    part = gamma.new_empty((0, gamma.shape[0]), dtype=torch.float32)
    results = [dx0, dresidual, dgamma, dbeta, part, part.clone()]
    return [*results, dcolscale, part.clone()] if has_colscale else results


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
    call = FusedCall(
        *(input, x1, residual, gamma0, beta0, gamma1, beta1),
        seed=draw_seed(dropout_p, gen, input),
        dropout_p=dropout_p,
        epsilon=epsilon,
        residual_in_fp32=residual_in_fp32,
        is_rms_norm=is_rms_norm,
    )
    return list(ops.dropout_add_norm_functional(*call))


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
    has_z1 = gamma1 is not None
    if dz1 is not None and not has_z1:
        raise RuntimeError(
            "layer_norm.dropout_add_ln_parallel_residual_bwd: gamma1 presence: expected a tensor "
            "beside dz1, got none"
        )
    grads = ops.dropout_add_norm_backward_functional(
        *(dz0, dz1, dx, x, None, dmask0, dmask1, mu, rsigma, gamma0, gamma1),
        *(None, None, None, None),
        *(dropout_p, 0.0, 1.0, 0, is_rms_norm, dz0.dtype),
        [True, has_x1, has_residual, True, True, has_z1, has_z1, False],
    )
    part = gamma0.new_empty((0, gamma0.shape[0]), dtype=torch.float32)
    parts1 = [part.clone(), part.clone()] if has_z1 else [absent(part), absent(part)]
    return [*grads[:7], part, part.clone(), *parts1]


def register() -> None:
    """Defines the functional ops and those of the Hub, once per build: two copies of this module in
    one process (two clients, one library) share the namespace, which therefore keeps the
    registrations alive."""
    if hasattr(ops, "functional_library"):
        return
    library = torch.library.Library(add_op_namespace_prefix("").removesuffix("::"), "FRAGMENT")
    refuse = _refuse("dropout_add_norm")
    rows: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
        "dropout_add_norm_functional": (_fused, _fused_fake, (_differentiate_fused, _setup_fused)),
        "dropout_add_norm_backward_functional": (
            _fused_backward,
            _fused_backward_fake,
            (refuse, None, refuse),
        ),
    }
    for name, norm in PLAIN_NORMS.items():
        refuse = _refuse(name)
        rows[f"{name}_backward_functional"] = (
            norm.backward,
            norm.backward,
            (refuse, None, refuse),
        )
        rows[f"{name}_functional"] = (
            getattr(ops, f"{name}_fwd_nograd"),
            lambda x, *_: empty_like(x),
            (norm.differentiate, norm.setup_context, norm.push_forward),
        )
        fakes = {"fwd": lambda x, *_: empty_like(x), "bwd": _plain_gradients_fake}
        for direction, fake in fakes.items():
            op = add_op_namespace_prefix(f"{name}_{direction}_nograd")
            torch.library.register_fake(op, fake, lib=library)
    for name, (implementation, shape_only, derivatives) in rows.items():
        library.define(name + SCHEMAS[name])
        library.impl(name, implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(add_op_namespace_prefix(name), shape_only, lib=library)
        register_derivatives(library, "layer_norm", name, *derivatives)
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
