# SPDX-License-Identifier: Apache-2.0
"""Functional, differentiable forms of the ops, registered beside them in their own namespace.

A rotation is linear in what it rotates: the gradient of a functional op is the op itself with
`conj` flipped, and so on for every further derivative. cos and sin have no gradient. Registration
lives in Python because torch's stable ABI has none for it.
"""

from collections.abc import Callable
from typing import Any

import torch

from ._derivatives import Tangents, forward_ad, register_derivatives
from ._ops import add_op_namespace_prefix, ops

Pair = tuple[torch.Tensor, torch.Tensor]


def rows(x: torch.Tensor) -> torch.Tensor:
    """`x` itself if its last dimension has stride 1, else a contiguous copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _needs_derivatives(*tensors: torch.Tensor | None) -> bool:
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _rotate_pair(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    conj: bool,
    unsqueeze_dim: int,
) -> Pair:
    q, k = rows(q), rows(k)
    q_out, k_out = torch.empty_like(q), torch.empty_like(k)
    ops.apply_rotary_transformers(q_out, k_out, q, k, rows(cos), rows(sin), conj, unsqueeze_dim)
    return q_out, k_out


def _rotate_some(
    q: torch.Tensor,
    k: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None,
    rotary_dim: int,
    interleaved: bool,
    conj: bool,
    unsqueeze_dim: int,
) -> list[torch.Tensor]:
    q = rows(q)
    k = None if k is None else rows(k)
    q_out = torch.empty_like(q)
    k_out = None if k is None else torch.empty_like(k)
    ops.rotary_embedding_out(
        q_out,
        k_out,
        q,
        k,
        rows(cos),
        rows(sin),
        positions,
        rotary_dim,
        interleaved,
        conj,
        unsqueeze_dim,
    )
    return [q_out] if k_out is None else [q_out, k_out]


def _fake_pair(q: torch.Tensor, k: torch.Tensor, *_: Any) -> Pair:
    return torch.empty_like(rows(q)), torch.empty_like(rows(k))


def _fake_some(q: torch.Tensor, k: torch.Tensor | None, *_: Any) -> list[torch.Tensor]:
    return [torch.empty_like(rows(x)) for x in (q, k) if x is not None]


def _save_tables(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    if any(ctx.needs_input_grad[2:4]):
        raise RuntimeError(
            "rotary: cos and sin: expected tables that require no gradient, got requires_grad"
        )
    ctx.save_for_backward(*(x for x in inputs[2:] if isinstance(x, torch.Tensor)))
    ctx.options = [x for x in inputs[2:] if x is not None and not isinstance(x, torch.Tensor)]
    ctx.has_k = inputs[1] is not None


def _differentiate_pair(ctx: Any, q_grad: torch.Tensor, k_grad: torch.Tensor) -> Any:
    conj, unsqueeze_dim = ctx.options
    grads = ops.apply_rotary_transformers_functional(
        q_grad, k_grad, *ctx.saved_tensors, not conj, unsqueeze_dim
    )
    return *grads, None, None, None, None


def _differentiate_some(ctx: Any, grads: list[torch.Tensor]) -> Any:
    cos, sin, *positions = ctx.saved_tensors
    rotary_dim, interleaved, conj, unsqueeze_dim = ctx.options
    q_grad, *k_grad = ops.rotary_embedding_functional(
        grads[0],
        grads[1] if ctx.has_k else None,
        cos,
        sin,
        positions[0] if positions else None,
        rotary_dim,
        interleaved,
        not conj,
        unsqueeze_dim,
    )
    return q_grad, k_grad[0] if ctx.has_k else None, *(None,) * 7


def _push_forward(name: str) -> Callable[..., Tangents]:
    op = getattr(ops, f"{name}_functional")

    def push_forward(
        primals: tuple[Any, ...], tangents: Tangents, results: tuple[torch.Tensor, ...]
    ) -> Tangents:
        for table, tangent in zip(("cos", "sin"), tangents[2:4], strict=True):
            if tangent is not None:
                raise RuntimeError(
                    f"rotary.{name}: {table} tangent: expected tables without a tangent, got one"
                )
        changes = (
            torch.zeros_like(x) if tangent is None and x is not None else tangent
            for x, tangent in zip(primals[:2], tangents[:2], strict=True)
        )
        return tuple(op(*changes, *primals[2:]))

    return push_forward


def register() -> None:
    """Defines the functional ops, once per build: two copies of this module in one process (two
    clients, one library) share the namespace, which therefore keeps the registrations alive."""
    if hasattr(ops, "functional_library"):
        return
    library = torch.library.Library(add_op_namespace_prefix("").removesuffix("::"), "FRAGMENT")
    library.define(
        "apply_rotary_transformers_functional(Tensor q, Tensor k, Tensor cos, Tensor sin, "
        "bool conj, int unsqueeze_dim) -> (Tensor, Tensor)"
    )
    library.define(
        "rotary_embedding_functional(Tensor q, Tensor? k, Tensor cos, Tensor sin, Tensor? "
        "positions, int rotary_dim, bool interleaved, bool conj, int unsqueeze_dim) -> Tensor[]"
    )
    forms: tuple[tuple[str, Callable[..., Any], Callable[..., Any], Callable[..., Any]], ...] = (
        ("apply_rotary_transformers_functional", _rotate_pair, _fake_pair, _differentiate_pair),
        ("rotary_embedding_functional", _rotate_some, _fake_some, _differentiate_some),
    )
    for op, implementation, shape_only, derivative in forms:
        library.impl(op, implementation, "CompositeExplicitAutograd")
        torch.library.register_fake(add_op_namespace_prefix(op), shape_only, lib=library)
        push_forward = _push_forward(op.removesuffix("_functional"))
        register_derivatives(library, "rotary", op, derivative, _save_tables, push_forward)
    ops.functional_library = library


def apply_rotary_transformers(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> Pair:
    """Rotates the halves of q and k in one pass: x cos + (-x2, x1) sin, as new tensors.

    `q` and `k` `[B, H, S, D]` (or `[B, S, H, D]` with `unsqueeze_dim=2`), head counts and layouts
    of their own, which the results keep; `cos` and `sin` `[B or 1, S, D]` with two equal halves, or
    `[..., D / 2]`, in the dtype of q or float32. Differentiable in q and k, any number of times.
    Raises RuntimeError "rotary.apply_rotary_transformers: ..." on bad arguments.
    """
    # The functional op costs a passage through Python's dispatcher: only derivatives need it.
    if _needs_derivatives(q, k, cos, sin):
        return ops.apply_rotary_transformers_functional(q, k, cos, sin, False, unsqueeze_dim)
    return _rotate_pair(q, k, cos, sin, False, unsqueeze_dim)


def rotary_embedding(
    q: torch.Tensor,
    k: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None = None,
    rotary_dim: int | None = None,
    interleaved: bool = False,
    conj: bool = False,
    unsqueeze_dim: int = 1,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The first `rotary_dim` columns of q and k rotated, the others as they are, as new tensors.

    `rotary_dim` is the last dimension of q where it is None. `interleaved` rotates columns (2i,
    2i + 1) by column i of cos and sin instead of columns (i, i + rotary_dim / 2); `conj` rotates
    backwards. With `positions` (int32 or int64) cos and sin are caches `[N, R]` whose rows they
    pick; R is `rotary_dim` or half of it. Differentiable in q and k, any number of times.
    """
    width = q.shape[-1] if rotary_dim is None else rotary_dim
    options = (positions, width, interleaved, conj, unsqueeze_dim)
    rotate = ops.rotary_embedding_functional if _needs_derivatives(q, k, cos, sin) else _rotate_some
    rotated = rotate(q, k, cos, sin, *options)
    return rotated[0], None if k is None else rotated[1]
