# SPDX-License-Identifier: Apache-2.0
"""`relu_functional(Tensor input) -> Tensor` and its gradient, beside the out-param ops.

The out-param ops get no autograd kernel: what writes a given tensor returns nothing to
differentiate. Registration lives in Python because torch's stable ABI has none for it.
"""

from typing import Any

import torch

from ._derivatives import Tangents, register_derivatives
from ._ops import add_op_namespace_prefix, ops


def _empty(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _compute(x: torch.Tensor) -> torch.Tensor:
    out = _empty(x)
    ops.relu(out, x.contiguous())
    return out


def _compute_backward(grad_out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    grad = _empty(x)
    ops.relu_backward(grad, grad_out.contiguous(), x.contiguous())
    return grad


def _save_input(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_out: torch.Tensor) -> torch.Tensor:
    return ops.relu_backward_functional(grad_out, *ctx.saved_tensors)


def _push_forward(
    primals: tuple[torch.Tensor], tangents: Tangents, results: tuple[torch.Tensor]
) -> Tangents:
    (x,) = primals
    return (tangents[0].masked_fill(x <= 0, 0.0),)


def _refuse(*_: Any) -> Any:
    raise RuntimeError("relu.relu: derivative order: expected at most the first, got the second")


def register() -> None:
    """Defines the functional ops, once per build: two copies of this module in one process (two
    clients, one library) share the namespace, which therefore keeps the registrations alive."""
    if hasattr(ops, "functional_library"):
        return
    library = torch.library.Library(add_op_namespace_prefix("").removesuffix("::"), "FRAGMENT")
    library.define("relu_functional(Tensor input) -> Tensor")
    library.define("relu_backward_functional(Tensor grad_out, Tensor input) -> Tensor")
    library.impl("relu_functional", _compute, "CompositeExplicitAutograd")
    library.impl("relu_backward_functional", _compute_backward, "CompositeExplicitAutograd")
    functional = add_op_namespace_prefix("relu_functional")
    backward = add_op_namespace_prefix("relu_backward_functional")
    torch.library.register_fake(functional, _empty, lib=library)
    torch.library.register_fake(backward, lambda _, x: _empty(x), lib=library)
    register_derivatives(
        library, "relu", "relu_functional", _differentiate, _save_input, _push_forward
    )
    register_derivatives(library, "relu", "relu_backward_functional", _refuse, None, _refuse)
    ops.functional_library = library
