# SPDX-License-Identifier: Apache-2.0
"""Functional, differentiable forms of the ops, registered beside them in their own namespace.

`<op>_functional(Tensor input) -> Tensor` allocates its result and has a fake and an autograd
implementation; `<op>_backward_functional(Tensor grad_out, Tensor input) -> Tensor` is its gradient.
The out-param ops get no autograd kernel: what writes a given tensor returns nothing to
differentiate. Registration lives in Python because torch's stable ABI has none for either.
"""

from collections.abc import Callable
from typing import Any

import torch

from ._derivatives import Tangents, register_derivatives
from ._ops import add_op_namespace_prefix, ops

Result = Callable[..., torch.Tensor]

UNARY = ("gelu", "gelu_fast", "gelu_new", "gelu_quick", "gelu_tanh", "silu")
GATED = ("fatrelu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul", "mul_and_silu", "silu_and_mul")


def empty_result(x: torch.Tensor, gated: bool) -> torch.Tensor:
    """A contiguous tensor of the shape that an op gives for `x`; the op checks `x` itself."""
    if not gated or x.dim() == 0:
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))


def _register(library: torch.library.Library, name: str, gated: bool) -> None:
    extra = ", float threshold" if name == "fatrelu_and_mul" else ""
    functional, backward = f"{name}_functional", f"{name}_backward_functional"
    library.define(f"{functional}(Tensor input{extra}) -> Tensor")
    library.define(f"{backward}(Tensor grad_out, Tensor input{extra}) -> Tensor")

    def compute(x: torch.Tensor, *threshold: float) -> torch.Tensor:
        out = empty_result(x, gated)
        getattr(ops, name)(out, x.contiguous(), *threshold)
        return out

    def fake(x: torch.Tensor, *_: float) -> torch.Tensor:
        if gated and (x.dim() == 0 or x.shape[-1] % 2 != 0):
            raise RuntimeError(
                f"activation.{name}: input shape: expected an even last dimension, got "
                f"{list(x.shape)}"
            )
        return empty_result(x, gated)

    def compute_backward(
        grad_out: torch.Tensor, x: torch.Tensor, *threshold: float
    ) -> torch.Tensor:
        grad = empty_result(x, gated=False)
        getattr(ops, f"{name}_backward")(grad, grad_out.contiguous(), x.contiguous(), *threshold)
        return grad

    def setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.threshold = inputs[1:]

    def differentiate(ctx: Any, grad_out: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        grad = getattr(ops, backward)(grad_out, x, *ctx.threshold)
        return (grad, *(None for _ in ctx.threshold)) if ctx.threshold else grad

    def push_forward(
        primals: tuple[Any, ...], tangents: Tangents, results: tuple[torch.Tensor, ...]
    ) -> Tangents:
        # Every result follows from one element, or from one in each half.
        x, *threshold = primals
        change = getattr(ops, backward)(torch.ones_like(results[0]), x, *threshold) * tangents[0]
        if not gated:
            return (change,)
        of_x1, of_x2 = change.chunk(2, -1)
        return (of_x1 + of_x2,)

    def refuse(*_: Any) -> Any:
        raise RuntimeError(
            f"activation.{name}: derivative order: expected at most the first, got the second"
        )

    rows: tuple[tuple[str, Result, Result, tuple[Any, Any, Any]], ...] = (
        (functional, compute, fake, (differentiate, setup, push_forward)),
        (
            backward,
            compute_backward,
            lambda _, x, *__: empty_result(x, gated=False),
            (refuse, None, refuse),
        ),
    )
    for op, implementation, shape_only, derivatives in rows:
        library.impl(op, implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(add_op_namespace_prefix(op), shape_only, lib=library)
        register_derivatives(library, "activation", op, *derivatives)


def register() -> None:
    """Defines the functional ops, once per build: two copies of this module in one process (two
    clients, one library) share the namespace, which therefore keeps the registrations alive."""
    if hasattr(ops, "functional_library"):
        return
    library = torch.library.Library(add_op_namespace_prefix("").removesuffix("::"), "FRAGMENT")
    for name in UNARY:
        _register(library, name, gated=False)
    for name in GATED:
        _register(library, name, gated=True)
    ops.functional_library = library
