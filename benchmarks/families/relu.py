# SPDX-License-Identifier: Apache-2.0
"""relu and its gradient: exact in every dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch

from families.elementwise import ElementWise
from families.family import Buffers, Call, Problem, Tensors, overload


def _gradient(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return grad * (x > 0)


class Relu(ElementWise):
    name = package = "relu"
    ops = ("relu", "relu_backward")
    headline = ("relu",)

    def widths(self, op: str) -> tuple[int, ...]:
        return (1, 1) if self.is_backward(op) else (1,)

    def out_width(self, op: str) -> int:
        return 1

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        if self.is_backward(problem.op):
            grad, x = buffers.inputs
            return (torch.where(x > 0, grad.double(), 0.0),)
        return (buffers.inputs[0].double().clamp_min(0.0),)

    def bound(self, problem: Problem) -> float:
        return 0.0

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        if self.is_backward(problem.op):
            return partial(overload(module, problem.op), *self.arguments(problem, buffers))
        return partial(module.relu, buffers.inputs[0], buffers.outputs[0])

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        return _gradient if self.is_backward(problem.op) else torch.relu

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        def bind(buffers: Buffers) -> Call:
            (out,) = buffers.outputs
            if self.is_backward(problem.op):
                backward = torch.ops.aten.threshold_backward.grad_input
                return partial(backward, *buffers.inputs, 0.0, grad_input=out)
            return partial(torch.clamp_min, buffers.inputs[0], 0.0, out=out)

        return bind
