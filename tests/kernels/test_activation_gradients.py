# SPDX-License-Identifier: Apache-2.0
"""Backward ops, functional forms and layers under autograd, compilation and export."""

import re
import warnings
from collections.abc import Callable
from types import ModuleType

import activation_reference as reference
import grid
import precision
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

LAYERS = {
    "silu_and_mul": "SiluAndMul",
    "mul_and_silu": "MulAndSilu",
    "gelu_and_mul": "GeluAndMul",
    "gelu_tanh_and_mul": "GeluTanhAndMul",
    "fatrelu_and_mul": "FatreluAndMul",
    "silu": "Silu",
    "gelu": "Gelu",
    "gelu_tanh": "GeluTanh",
    "gelu_fast": "FastGELU",
    "gelu_new": "NewGELU",
    "gelu_quick": "QuickGELU",
}
OPS = pytest.mark.parametrize("op", reference.ALL)


@pytest.fixture(scope="module")
def activation(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("activation")


def threshold_of(op: str) -> tuple[float, ...]:
    return (0.25,) if op == "fatrelu_and_mul" else ()


def result_shape(op: str, x: torch.Tensor) -> tuple[int, ...]:
    return (*x.shape[:-1], x.shape[-1] // 2) if op in reference.GATED else tuple(x.shape)


def backward(
    activation: ModuleType, op: str, out: torch.Tensor, grad: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    getattr(activation.ops, f"{op}_backward")(out, grad, x, *threshold_of(op))
    return out


@OPS
def test_gradcheck(activation: ModuleType, op: str) -> None:
    x = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    function = getattr(activation.layers, op)
    assert torch.autograd.gradcheck(lambda value: function(value, *threshold_of(op)), x)


@OPS
def test_layers_and_functions_differentiate_any_layout(activation: ModuleType, op: str) -> None:
    base = torch.randn(6, 4, 8, dtype=torch.float64)
    x = base.transpose(0, 1).requires_grad_()
    extra = threshold_of(op)
    layer = getattr(activation.layers, LAYERS[op])(*extra)
    assert layer.has_backward
    result = layer(x)
    assert torch.equal(result, getattr(activation.layers, op)(x, *extra))
    assert torch.equal(result, layer(x.detach())), "the graph changes the value"
    (grad,) = torch.autograd.grad(result.sum(), x)  # an expanded gradient, stride 0
    expected = x.detach().clone().requires_grad_()
    reference.eager(op, expected).sum().backward()
    torch.testing.assert_close(grad, expected.grad, atol=1e-12, rtol=1e-12)


@OPS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "strided_rows", "offset_by_one"])
def test_every_layout_gives_the_bits_of_one_element_at_a_time(
    activation: ModuleType, op: str, dtype: torch.dtype, layout: str
) -> None:
    for rows, cols in ((1, 1), (7, 2), (7, 63), (83, 512), (1, 70001), (0, 8), (3, 0)):
        width = 2 * cols if op in reference.GATED else cols
        x, _ = grid.placed(rows, width, layout, dtype)
        x.copy_(torch.randn(rows, width))
        grad, _ = grid.placed(rows, cols, layout, dtype)
        grad.copy_(torch.randn(rows, cols))
        before = grad.clone()
        out, buffer = grid.placed(rows, width, layout, dtype)
        backward(activation, op, out, grad, x)
        assert torch.equal(grad, before), "grad_out was written"

        halves = (x[:, :cols], x[:, cols:]) if op in reference.GATED else (x,)
        flat = torch.stack([half.reshape(-1) for half in halves], dim=1)
        alone = backward(activation, op, torch.empty_like(flat), grad.reshape(-1, 1), flat)
        parts = (out[:, :cols], out[:, cols:]) if op in reference.GATED else (out,)
        for column, part in enumerate(parts):
            assert precision.same_bits(part.reshape(-1), alone[:, column]).all()
        assert torch.equal(backward(activation, op, x, grad, x), out), "in place differs"
        out.fill_(grid.CANARY)
        assert (buffer == grid.CANARY).all(), "memory outside the output was written"


@OPS
def test_bits_do_not_depend_on_threads_or_repetition(activation: ModuleType, op: str) -> None:
    x = torch.randn(37, 8190)
    grad = torch.randn(result_shape(op, x))
    first = backward(activation, op, torch.empty_like(x), grad, x)
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for _ in range(7):
            assert torch.equal(backward(activation, op, torch.empty_like(x), grad, x), first)
    torch.set_num_threads(threads)
    assert torch.equal(
        backward(activation, op, torch.empty(1, 8190), grad[5:6], x[5:6]), first[5:6]
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 7)])
def test_gated_functions_refuse_what_has_no_halves(
    activation: ModuleType, shape: tuple[int, ...]
) -> None:
    for x in (torch.randn(shape), torch.randn(shape, requires_grad=True)):
        with pytest.raises(RuntimeError, match=r"activation\.silu_and_mul: input (last dim|rank)"):
            activation.layers.silu_and_mul(x)
    with pytest.raises(RuntimeError, match=r"activation\.silu_and_mul: input shape: expected an"):
        activation.ops.silu_and_mul_functional(torch.randn(shape, device="meta"))


def test_a_change_of_the_saved_input_is_noticed(activation: ModuleType) -> None:
    x = torch.randn(4, requires_grad=True)
    base = x * 1.0
    result = activation.layers.silu(base)
    base.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_the_second_derivative_is_an_error(activation: ModuleType) -> None:
    x = torch.randn(4, requires_grad=True)
    (grad,) = torch.autograd.grad(activation.layers.gelu(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"activation\.gelu: derivative order: expected at most"):
        grad.sum().backward()


buffer = torch.zeros(60)
ERRORS = [
    ("silu", torch.empty(2, 3), torch.empty(2, 4), torch.empty(2, 4), "grad_input shape"),
    ("silu", torch.empty(2, 4), torch.empty(2, 3), torch.empty(2, 4), "grad_out shape"),
    ("gelu_and_mul", torch.empty(2, 4), torch.empty(2, 4), torch.empty(2, 4), "grad_out shape"),
    ("silu_and_mul", torch.empty(7), torch.empty(3), torch.empty(7), "input last dimension"),
    ("gelu", torch.empty(4).half(), torch.empty(4), torch.empty(4), "grad_input dtype"),
    ("gelu", torch.empty(4), torch.empty(4).half(), torch.empty(4), "grad_out dtype"),
    ("gelu", buffer[:8], buffer[:8], torch.empty(8), "grad_input memory"),
    ("gelu", buffer[:8], torch.empty(8), buffer[1:9], "grad_input memory"),
    ("gelu_fast", torch.empty(4, 2).t(), torch.empty(2, 4), torch.empty(2, 4), "grad_input last"),
    ("gelu_new", torch.empty(2, 4), torch.empty(4, 2).t(), torch.empty(2, 4), "grad_out last"),
    ("gelu_tanh", torch.empty(1, 4).expand(3, 4), torch.empty(3, 4), torch.empty(3, 4), "row"),
    ("gelu", torch.empty(4, device="meta"), torch.empty(4), torch.empty(4), "grad_input device"),
]


@pytest.mark.parametrize(("op", "out", "grad", "x", "text"), ERRORS)
def test_bad_arguments_are_named(
    activation: ModuleType,
    op: str,
    out: torch.Tensor,
    grad: torch.Tensor,
    x: torch.Tensor,
    text: str,
) -> None:
    pattern = rf"activation\.{op}_backward: .*{text}.*: expected .*, got "
    with pytest.raises((RuntimeError, NotImplementedError)) as failure:
        backward(activation, op, out, grad, x)
    if "device" not in text:
        assert re.search(pattern, str(failure.value).splitlines()[0])


@OPS
def test_ops_pass_the_checks_of_torch_library(activation: ModuleType, op: str) -> None:
    extra = threshold_of(op)
    x = torch.randn(3, 16)
    grad = torch.randn(result_shape(op, x))
    threshold = ", float threshold" if extra else ""
    raw = getattr(activation.ops, f"{op}_backward").default
    assert str(raw._schema).split("::")[1] == (
        f"{op}_backward(Tensor($0! -> ) grad_input, Tensor grad_out, Tensor input{threshold}) -> ()"
    )
    torch.library.opcheck(raw, (torch.empty_like(x), grad, x, *extra))
    functional = getattr(activation.ops, f"{op}_functional").default
    torch.library.opcheck(functional, (x.clone().requires_grad_(), *extra))
    torch.library.opcheck(functional, (torch.randn(4, 3).t()[:, :2].requires_grad_(), *extra))
    of_grad = getattr(activation.ops, f"{op}_backward_functional").default
    torch.library.opcheck(of_grad, (grad, x, *extra))


@OPS
def test_the_fake_result_is_like_the_real_one(activation: ModuleType, op: str) -> None:
    functional = getattr(activation.ops, f"{op}_functional")
    for x in (torch.randn(4, 6), torch.randn(2, 3, 8).transpose(0, 1), torch.randn(5, 8)[:, 2:]):
        real = functional(x, *threshold_of(op))
        fake = functional(x.to("meta"), *threshold_of(op))
        assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


@OPS
def test_a_training_step_compiles_into_one_graph_for_every_batch(
    activation: ModuleType, op: str
) -> None:
    layer = getattr(activation.layers, LAYERS[op])(*threshold_of(op))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for batch in (2, 5, 9):
        x = torch.randn(batch, 32, requires_grad=True)
        torch._dynamo.mark_dynamic(x, 0)
        result = compiled(x)
        assert torch.equal(result, layer(x.detach()))
        (grad,) = torch.autograd.grad(result.square().sum(), x)
        (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
        assert torch.equal(grad, expected)
    assert counter.frame_count == 1


@OPS
def test_layers_export_with_a_dynamic_batch(activation: ModuleType, op: str) -> None:
    layer = getattr(activation.layers, LAYERS[op])(*threshold_of(op))
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(layer, (torch.randn(3, 16),), dynamic_shapes=shapes)
    x = torch.randn(7, 16)
    assert torch.equal(program.module()(x), layer(x))


def test_a_warning_made_an_error_raises_every_time(activation: ModuleType) -> None:
    x = torch.randn(4, requires_grad=True)
    activation._warned = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(UserWarning, match="the result carries no gradient"):
                activation.gelu(torch.empty(4), x)
