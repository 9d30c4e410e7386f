# SPDX-License-Identifier: Apache-2.0
"""The activation ops and their gradients as torch computes them: exact in fp64, fused, composed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from protocol.gate import Floor
from protocol.precision import BACKWARD, SINGLE_ROUNDING, STEPWISE_OR_GATED
from protocol.rows import COMPOSED, FUSED, Row
from torch.nn import functional

from families import floors
from families.elementwise import ElementWise
from families.family import Buffers, Call, Candidate, Problem, Tensors, overload
from families.peers import FLASHINFER, LIGER, Binding, backward, peers

Formula = Callable[[torch.Tensor], torch.Tensor]

STEPWISE = ("gelu_fast", "gelu_new")
GATED = ("silu_and_mul", "mul_and_silu", "gelu_and_mul", "gelu_tanh_and_mul", "fatrelu_and_mul")
UNARY = ("silu", "gelu", "gelu_tanh", "gelu_quick", *STEPWISE)
FORWARD = UNARY + GATED
THRESHOLD = 0.25

# Codes of scalar_baseline.cu.
SCALAR_OPS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "gelu_quick": 3, "gelu_fast": 2, "gelu_new": 2}
SCALAR_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def exact(op: str, x: torch.Tensor) -> torch.Tensor:
    """The op in fp64, written without cancellation; gated ops round the activation to x.dtype."""
    if op in GATED:
        first, second = x.chunk(2, -1)
        if op == "fatrelu_and_mul":
            return torch.where(first <= THRESHOLD, 0.0, first.double()) * second.double()
        if op == "mul_and_silu":
            first, second = second, first
        act = "silu" if "silu" in op else op.removesuffix("_and_mul")
        return exact(act, first).to(x.dtype).double() * second.double()
    x = x.double()
    if op == "silu":
        return x * torch.sigmoid(x)
    if op == "gelu":
        return 0.5 * x * torch.special.erfc(-x / 2**0.5)
    if op == "gelu_quick":
        return x * torch.sigmoid(1.702 * x)
    slope = (2 / torch.pi) ** 0.5 if op == "gelu_tanh" else 0.79788456
    return x * torch.sigmoid(2 * slope * (x + 0.044715 * x**3))


def exact_gradient(op: str, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Gradient of the fp64 formula; in fp64 `exact` rounds nothing on the way."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.double().clone().requires_grad_()
        (result,) = torch.autograd.grad(exact(op, leaf), leaf, grad.double().clone())
    return result


class Activation(ElementWise):
    name = package = "activation"
    ops = (*FORWARD, *(f"{op}_backward" for op in FORWARD))
    headline = ("gelu_fast", "gelu", "silu_and_mul")

    def widths(self, op: str) -> tuple[int, ...]:
        own = 2 if _forward(op) in GATED else 1
        return (1, own) if self.is_backward(op) else (own,)

    def out_width(self, op: str) -> int:
        return 2 if self.is_backward(op) and _forward(op) in GATED else 1

    def exact(self, problem: Problem, buffers: Buffers) -> Tensors:
        if self.is_backward(problem.op):
            return (exact_gradient(_forward(problem.op), *buffers.inputs),)
        return (exact(problem.op, *buffers.inputs),)

    def bound(self, problem: Problem) -> float:
        if self.is_backward(problem.op):
            return BACKWARD[problem.dtype]
        single = problem.op in UNARY and problem.op not in STEPWISE
        return (SINGLE_ROUNDING if single else STEPWISE_OR_GATED)[problem.dtype]

    def arguments(self, problem: Problem, buffers: Buffers) -> tuple[object, ...]:
        threshold = (THRESHOLD,) if "fatrelu" in problem.op else ()
        return (*super().arguments(problem, buffers), *threshold)

    def has_single_op(self, op: str) -> bool:
        # The formula of the stepwise ones rounded once is less work for other values.
        return op in _FUSED and op not in STEPWISE

    def ours(self, problem: Problem, module: ModuleType, buffers: Buffers) -> Call:
        # The gradients have no Python function of their own.
        is_backward = self.is_backward(problem.op)
        op = overload(module, problem.op) if is_backward else getattr(module, problem.op)
        return partial(op, *self.arguments(problem, buffers))

    def formula(self, problem: Problem) -> Callable[..., torch.Tensor | Tensors] | None:
        formula = _FORMULAS[_forward(problem.op)]
        return _gradient_of(formula) if self.is_backward(problem.op) else formula

    def composed(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        if not self.is_backward(problem.op):
            return super().composed(problem)
        formula = _FORMULAS[_forward(problem.op)]

        return lambda buffers: backward(formula, *buffers.inputs)

    def fused(self, problem: Problem) -> Callable[[Buffers], Call] | None:
        call = _FUSED.get(problem.op)
        if call is None:
            return None
        return lambda buffers: partial(call, *buffers.inputs, **_out(problem.op, buffers))

    def others(self, problem: Problem, baseline: Path | None) -> list[Candidate]:
        if self.is_backward(problem.op):
            return []
        return [_scalar(problem.op, baseline), *peers(_PEERS.get(problem.op, {}))]

    def cpu_floors(self, candidates: Mapping[str, Row], cores: int) -> list[Floor]:
        ours = candidates["ours"]
        found = super().cpu_floors(candidates, cores)
        if ours.op == "gelu_fast" and ours.bytes >= floors.CPU_LARGE:
            # Even at the speed of the copy.
            found = [floor for floor in found if COMPOSED not in floor.what]
            found += floors.against(candidates, COMPOSED, floors.CPU_TIMES_COMPOSED)
        return found

    def gpu_share(self, op: str) -> float | None:
        return 85.0 if op == "gelu" else super().gpu_share(op)

    def gpu_floors(
        self,
        candidates: Mapping[str, Row],
        ceilings: Mapping[str, float],
        aligned: Row | None,
    ) -> list[Floor]:
        ours = candidates["ours"]
        found = super().gpu_floors(candidates, ceilings, aligned)
        setting = ours.setting
        is_plain = setting["layout"] == "aligned" and setting["launch"] in ("stream", "graph")
        if ours.op == "gelu_fast" and is_plain:
            least = 8.0 if ours.bytes >= floors.GPU_LARGE else 3.0
            found += floors.against(candidates, COMPOSED, least)
        if ours.op in STEPWISE and is_plain and ours.bytes >= floors.GPU_LARGE:
            found += floors.against(candidates, FUSED, floors.NOT_SLOWER)
        return found


def _forward(op: str) -> str:
    return op.removesuffix("_backward")


def _out(op: str, buffers: Buffers) -> dict[str, torch.Tensor]:
    (out,) = buffers.outputs
    return {"grad_input" if op.endswith("_backward") else "out": out}


@functools.cache
def _gradient_of(formula: Formula) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def gradient(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.func.vjp(formula, x)[1](grad)[0]

    return gradient


def _scalar(op: str, baseline: Path | None) -> Candidate:
    act = op.removesuffix("_and_mul")
    if act not in SCALAR_OPS:
        return Candidate("scalar kernel", None, "it has no such op")
    from scalar_baseline import load_baseline  # of benchmarks/gpu, where there is a GPU

    try:
        launch = load_baseline(baseline).scalar_activation
    except (OSError, RuntimeError) as error:
        return Candidate("scalar kernel", None, str(error))

    def bind(buffers: Buffers) -> Call:
        (out,), (x,) = buffers.outputs, buffers.inputs

        def call() -> None:
            stream = torch.cuda.current_stream().cuda_stream
            dtype, pointers = SCALAR_DTYPES[x.dtype], (out.data_ptr(), x.data_ptr())
            status = launch(SCALAR_OPS[act], op in GATED, dtype, *pointers, *out.shape, stream)
            if status != 0:
                raise RuntimeError(f"scalar kernel: CUDA error {status}")

        return call

    return Candidate("scalar kernel", bind)


def _whole(function: Callable[..., object], buffers: Buffers) -> Call:
    return partial(function, *buffers.inputs, *buffers.outputs)


def _on_halves(function: Callable[..., object], buffers: Buffers) -> Call:
    return lambda: function(*buffers.inputs[0].chunk(2, -1))


# Gated ops; quack computes them behind a matrix product only.
_PEERS: dict[str, dict[str, tuple[str, Binding]]] = {
    "silu_and_mul": {
        LIGER: ("liger_kernel.ops.swiglu:LigerSiLUMulFunction.apply", _on_halves),
        FLASHINFER: ("flashinfer.activation:silu_and_mul", _whole),
    },
    "gelu_and_mul": {FLASHINFER: ("flashinfer.activation:gelu_and_mul", _whole)},
    "gelu_tanh_and_mul": {
        LIGER: ("liger_kernel.ops.geglu:LigerGELUMulFunction.apply", _on_halves),
        FLASHINFER: ("flashinfer.activation:gelu_tanh_and_mul", _whole),
    },
}


def _halves(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Formula:
    return lambda x: function(*x.chunk(2, -1))


_FORMULAS: dict[str, Formula] = {
    "silu": lambda x: x * torch.sigmoid(x),
    "gelu": lambda x: x * 0.5 * (1.0 + torch.erf(x / 1.4142135623730951)),
    "gelu_tanh": lambda x: (
        0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu_fast": lambda x: 0.5 * x * (1.0 + torch.tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x))),
    "gelu_new": lambda x: (
        0.5 * x * (1.0 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "silu_and_mul": _halves(lambda x, y: functional.silu(x) * y),
    "mul_and_silu": _halves(lambda x, y: x * functional.silu(y)),
    "gelu_and_mul": _halves(lambda x, y: functional.gelu(x) * y),
    "gelu_tanh_and_mul": _halves(lambda x, y: functional.gelu(x, approximate="tanh") * y),
    "fatrelu_and_mul": _halves(lambda x, y: functional.threshold(x, THRESHOLD, 0.0) * y),
}

_tanh = partial(torch._C._nn.gelu, approximate="tanh")
_tanh_backward = partial(torch.ops.aten.gelu_backward.grad_input, approximate="tanh")
# Called with the inputs and out= or grad_input=.
_FUSED: dict[str, Callable[..., object]] = {
    "silu": torch._C._nn.silu,
    "gelu": torch._C._nn.gelu,
    **dict.fromkeys(("gelu_tanh", "gelu_fast", "gelu_new"), _tanh),
    "silu_backward": torch.ops.aten.silu_backward.grad_input,
    "gelu_backward": torch.ops.aten.gelu_backward.grad_input,
    **dict.fromkeys(
        ("gelu_tanh_backward", "gelu_fast_backward", "gelu_new_backward"), _tanh_backward
    ),
}
