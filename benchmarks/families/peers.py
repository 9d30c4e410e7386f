# SPDX-License-Identifier: Apache-2.0
"""Kernels of other projects that may be installed beside torch: timed where they are, else absent
with the reason. Their names and signatures are theirs, as released in 2026.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from families.family import Buffers, Call, Candidate, installed

LIGER, QUACK, FLASHINFER = "Liger", "quack", "flashinfer"
PEERS = (LIGER, QUACK, FLASHINFER)

# (the peer's function, buffers) -> the call that is timed.
Binding = Callable[[Callable[..., object], Buffers], Call]


def peers(known: dict[str, tuple[str, Binding]]) -> list[Candidate]:
    """A candidate for every peer: by its entry ("module:function", binding), or for want of one."""
    return [_peer(name, *known[name]) if name in known else _lacking(name) for name in PEERS]


def _peer(name: str, attribute: str, binding: Binding) -> Candidate:
    return installed(name, attribute, lambda function: lambda buffers: binding(function, buffers))


def _lacking(name: str) -> Candidate:
    return Candidate(name, None, "it has no such op")


def backward(function: Callable[..., torch.Tensor], grad: torch.Tensor, *inputs: object) -> Call:
    """The gradient of `function` for its tensors among `inputs`, as training runs it: the graph is
    there, and its backward is what a call does.
    """
    with torch.inference_mode(False), torch.enable_grad():
        arguments = [
            one.clone().requires_grad_() if isinstance(one, torch.Tensor) else one for one in inputs
        ]
        leaves = [one for one in arguments if isinstance(one, torch.Tensor)]
        grad = grad.clone()
        result = function(*arguments)

    def call() -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(False):
            return torch.autograd.grad(result, leaves, grad, retain_graph=True)

    return call
