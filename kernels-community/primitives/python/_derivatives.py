# SPDX-License-Identifier: Apache-2.0
"""Derivatives of a package's ops, in reverse and in forward mode.

A kernel computes values and knows nothing of tangents (`torch.autograd.forward_ad`,
`torch.func.jvp`), and torch.library.register_autograd looks for `requires_grad` alone: left to it,
an op would drop a tangent in silence.

A function that has a path below autograd takes it only while `forward_ad._current_level < 0`, which
it reads in place: torch's entries into forward mode, torch.func.jvp among them, set that attribute,
and the read takes some ten nanoseconds. It and the other names of torch that are used here are not
public: a torch without them, or with a level that stays, is refused at import.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import torch
from torch.autograd import forward_ad

# None for what has no tangent.
Tangents = tuple[torch.Tensor | None, ...]
# (arguments of an op without their tangents, tangents of these, results) -> tangents of the results
Jvp = Callable[[tuple[Any, ...], Tangents, tuple[torch.Tensor, ...]], Tangents]

# Torch has no other.
_LEVEL = 0
# What torch does not promise to keep.
_PRIVATE = (
    "_C._AutoDispatchBelowAutograd",
    "_C._after_autograd_keyset",
    "_C._any_requires_grad",
    "_C._are_functorch_transforms_active",
    "_C._functorch.TransformType.Jvp",
    "_C._functorch.get_interpreter_stack",
    "_C._functorch.is_functorch_wrapped_tensor",
    "_C._is_fwd_grad_enabled",
    "autograd.forward_ad._current_level",
)


def _check_torch() -> None:
    for name in _PRIVATE:
        try:
            attrgetter(name)(torch)
        except AttributeError as error:
            raise ImportError(
                f"torch {torch.__version__}: expected torch.{name}, which derivatives of kernels "
                "need, got none. Use a torch that has it (2.11 does), or a newer version of this "
                "kernel"
            ) from error
    if forward_ad._current_level >= 0:
        return  # it moves: somebody differentiates
    with forward_ad.dual_level():
        level = forward_ad._current_level
    if level < 0:
        raise ImportError(
            f"torch {torch.__version__}: expected torch.autograd.forward_ad._current_level to be 0 "
            f"in a dual_level, got {level}: tangents would be lost. Use torch 2.11, or a newer "
            "version of this kernel"
        )


_check_torch()


def _tangent(argument: Any) -> torch.Tensor | None:
    if not isinstance(argument, torch.Tensor):
        return None
    return forward_ad.unpack_dual(argument, level=_LEVEL).tangent


def _fail(function: str, name: str) -> None:
    raise RuntimeError(
        f"{function}: {name} tangent: expected none, as this has no forward-mode derivative, got "
        "one. Use reverse mode, or the formula in torch's own functions"
    )


def refuse_tangents(function: str, **tensors: torch.Tensor | None) -> None:
    """Raise where a tangent would get lost in what has no forward-mode derivative, or might."""
    if forward_ad._current_level < 0:
        return
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if _hides_tangents(tensor):
            raise RuntimeError(
                f"{function}: {name} tangent: expected none, as this has no forward-mode "
                "derivative, got transforms of torch.func that hide whether there is one. Call it "
                "below torch.func.jvp alone, or use the formula in torch's own functions"
            )
        if _tangent(tensor) is not None:
            _fail(function, name)


def _hides_tangents(tensor: torch.Tensor) -> bool:
    """Whether transforms of torch.func, others than a single jvp, wrap a tensor: a tangent may lie
    on a level that cannot be seen from outside of the dispatcher.
    """
    functorch = torch._C._functorch
    if not functorch.is_functorch_wrapped_tensor(tensor):
        return False
    stack = functorch.get_interpreter_stack() or ()
    return len(stack) != 1 or stack[0].key() != functorch.TransformType.Jvp


def _node(op: Any, backward: Callable[..., Any], setup_context: Callable[..., Any] | None) -> Any:
    """The autograd node of an op: a function of its arguments and the keys to dispatch by."""
    returns_list = [str(result.type) for result in op._schema.returns] == ["List[Tensor]"]

    def forward(ctx: Any, *arguments: Any) -> Any:
        *inputs, keyset = arguments
        results = _below_autograd(op, keyset, inputs)
        if setup_context is not None:
            setup_context(ctx, tuple(inputs), results)
        return tuple(results) if returns_list else results

    def differentiate(ctx: Any, *grads: Any) -> Any:
        found = backward(ctx, list(grads)) if returns_list else backward(ctx, *grads)
        return (*found, None) if isinstance(found, tuple) else (found, None)

    methods = {"forward": staticmethod(forward), "backward": staticmethod(differentiate)}
    apply = type(f"{op._opname}_node", (torch.autograd.Function,), methods).apply
    return (lambda *arguments: list(apply(*arguments))) if returns_list else apply


def _below_autograd(op: Any, keyset: Any, arguments: Iterable[Any]) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return op.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)


def register_derivatives(
    library: torch.library.Library,
    package: str,
    name: str,
    backward: Callable[..., Any],
    setup_context: Callable[..., Any] | None = None,
    jvp: Jvp | None = None,
) -> None:
    """How an op of `library` is differentiated: in reverse mode as torch.library.register_autograd
    has it, in forward mode by `jvp`; without one the op refuses tangents.

    The op's first argument is a tensor; no argument that `setup_context` reads has a default.
    `ctx.needs_input_grad` has one entry more than the op has arguments, the last.
    """
    op = getattr(getattr(torch.ops, library.ns), name).default
    names = [argument.name for argument in op._schema.arguments]
    apply = _node(op, backward, setup_context)
    # Bound once, for calls in eager mode.
    plain, is_transformed = torch.Tensor, torch._C._are_functorch_transforms_active
    is_enabled, any_requires_grad = torch.is_grad_enabled, torch._C._any_requires_grad

    def kernel(keyset: Any, *arguments: Any) -> Any:
        # While a graph is traced the level may be set where Python does not see it; tensors are of
        # a subclass then, or wrapped by a transform.
        if forward_ad._current_level >= 0 or type(arguments[0]) is not plain or is_transformed():
            tangents = tuple(map(_tangent, arguments))
            carriers = [i for i, tangent in enumerate(tangents) if tangent is not None]
            if carriers and torch._C._is_fwd_grad_enabled():
                if jvp is None:
                    _fail(f"{package}.{name.removesuffix('_functional')}", names[carriers[0]])
                return _dual_results(op, jvp, arguments, tangents)
        if is_enabled() and any_requires_grad(*arguments):
            return apply(*arguments, keyset)
        return _below_autograd(op, keyset, arguments)

    library.impl(name, kernel, "Autograd", with_keyset=True)


def _dual_results(op: Any, jvp: Jvp, arguments: tuple[Any, ...], tangents: Tangents) -> Any:
    primals = tuple(
        argument if tangent is None else forward_ad.unpack_dual(argument, level=_LEVEL).primal
        for argument, tangent in zip(arguments, tangents, strict=True)
    )
    # Through the dispatcher again: a graph and outer transforms take part as without tangents.
    results = op(*primals)
    is_alone = isinstance(results, torch.Tensor)
    values = (results,) if is_alone else tuple(results)
    duals = [
        value if tangent is None else forward_ad.make_dual(value, tangent, level=_LEVEL)
        for value, tangent in zip(values, jvp(primals, tangents, values), strict=True)
    ]
    return duals[0] if is_alone else type(results)(duals)


__all__ = ["Jvp", "Tangents", "forward_ad", "refuse_tangents", "register_derivatives"]
