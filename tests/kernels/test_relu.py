# SPDX-License-Identifier: Apache-2.0
"""The relu package: values, layouts, gradients, errors and tracing."""

from collections.abc import Callable
from types import ModuleType

import grid
import precision
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
BY_DTYPE = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def relu(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("relu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_value(relu: ModuleType, dtype: torch.dtype) -> None:
    x = precision.all_patterns(dtype)
    result = relu.relu(x)
    expected = torch.where(x <= 0, torch.zeros_like(x), x)
    assert precision.same_bits(result, expected).all()
    grad = torch.randn(len(x)).to(dtype)
    out = torch.full_like(x, grid.CANARY)
    relu.ops.relu_backward(out, grad, x)
    assert precision.same_bits(out, torch.where(x <= 0, torch.zeros_like(x), grad)).all()


@BY_DTYPE
def test_special_values(relu: ModuleType, dtype: torch.dtype) -> None:
    inf, nan = float("inf"), float("nan")
    tiny = torch.finfo(dtype).smallest_normal / 4
    x = torch.tensor([nan, -nan, inf, -inf, 0.0, -0.0, tiny, -tiny] * 9, dtype=dtype)
    expected = torch.tensor([nan, nan, inf, 0.0, 0.0, 0.0, tiny, 0.0] * 9, dtype=dtype)
    assert precision.same_bits(relu.relu(x), expected).all()


@BY_DTYPE
@pytest.mark.parametrize("layout", ["contiguous", "strided_rows", "offset_by_one"])
def test_every_layout(relu: ModuleType, dtype: torch.dtype, layout: str) -> None:
    for rows, cols in ((0, 8), (3, 0), (1, 1), (7, 2), (7, 63), (83, 512), (1, 70001), (2048, 7)):
        x, _ = grid.placed(rows, cols, layout, dtype)
        x.copy_(torch.randn(rows, cols))
        grad, _ = grid.placed(rows, cols, layout, dtype)
        grad.copy_(torch.randn(rows, cols))
        before = grad.clone()
        out, buffer = grid.placed(rows, cols, layout, dtype)
        assert relu.relu(x, out) is out
        assert torch.equal(out, torch.relu(x))
        relu.ops.relu_backward(out, grad, x)
        assert torch.equal(out, torch.where(x > 0, grad, 0.0))
        assert torch.equal(grad, before), "grad_out was written"
        expected = torch.relu(x)
        assert torch.equal(relu.relu(x, x), expected), "in place differs"
        out.fill_(grid.CANARY)
        assert (buffer == grid.CANARY).all(), "memory outside the output was written"


def test_a_gradient_may_share_memory_with_the_input(relu: ModuleType) -> None:
    buffer = torch.randn(64)
    x, grad = buffer.as_strided((3, 4), (4, 1)), buffer.as_strided((3, 4), (8, 1))
    out = torch.empty(3, 4)
    relu.ops.relu_backward(out, grad, x)
    assert torch.equal(out, torch.where(x > 0, grad, 0.0))


def test_the_thread_count_changes_no_bit(relu: ModuleType) -> None:
    x = torch.randn(37, 8191)
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        assert torch.equal(relu.relu(x[:, 1:]), torch.relu(x[:, 1:]))
    torch.set_num_threads(threads)


def test_gradcheck(relu: ModuleType) -> None:
    x = torch.randn(3, 10, dtype=torch.float64)
    x = (x + x.sign()).requires_grad_()  # away from the kink
    assert torch.autograd.gradcheck(relu.relu, x)
    assert torch.autograd.gradcheck(lambda value: relu.layers.ReLU()(value.t()), x)


ERRORS = [
    (torch.empty(2, 4), torch.empty(2, 3), "out shape: expected [2, 4], got [2, 3]"),
    (torch.empty(4), torch.empty(4).half(), "out dtype: expected float32 as input, got float16"),
    (torch.empty(4, 2).t(), torch.empty(2, 4), "input last stride: expected 1, got 2"),
    (
        torch.empty(4, dtype=torch.int32),
        torch.empty(4, dtype=torch.int32),
        "input dtype: expected float32, float16, bfloat16 or float64, got int32",
    ),
]


@pytest.mark.parametrize(("x", "out", "text"), ERRORS)
def test_bad_arguments_are_named(
    relu: ModuleType, x: torch.Tensor, out: torch.Tensor, text: str
) -> None:
    with pytest.raises(RuntimeError) as failure:
        relu.relu(x, out)
    assert str(failure.value).splitlines()[0] == f"relu.relu: {text}"


def test_overlaps_are_errors(relu: ModuleType) -> None:
    buffer = torch.zeros(20)
    with pytest.raises(RuntimeError, match=r"relu\.relu: out memory: expected disjoint from input"):
        relu.relu(buffer[:8], buffer[1:9])
    with pytest.raises(RuntimeError, match=r"relu_backward: grad_input memory: expected disjoint "):
        relu.ops.relu_backward(buffer[:8], buffer[:8], torch.zeros(8))


def test_a_gradient_that_would_be_lost_warns_once(relu: ModuleType) -> None:
    x = torch.randn(4, requires_grad=True)
    relu._warned = False
    with pytest.warns(UserWarning, match="the result carries no gradient") as warned:
        relu.relu(x, torch.empty(4))
        relu.relu(x, torch.empty(4))
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_ops_pass_the_checks_of_torch_library(relu: ModuleType) -> None:
    x = torch.randn(3, 16)
    torch.library.opcheck(relu.ops.relu.default, (torch.empty_like(x), x))
    torch.library.opcheck(relu.ops.relu_backward.default, (torch.empty_like(x), x, x))
    torch.library.opcheck(relu.ops.relu_functional.default, (x.clone().requires_grad_(),))
    torch.library.opcheck(relu.ops.relu_backward_functional.default, (x, x))
    assert str(relu.ops.relu.default._schema).endswith(
        "::relu(Tensor($0! -> ) out, Tensor input) -> ()"
    )


def test_a_training_step_compiles_into_one_graph_for_every_batch(relu: ModuleType) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(relu.layers.ReLU(), fullgraph=True, backend=counter)
    for batch in (2, 5, 9):
        x = torch.randn(batch, 32, requires_grad=True)
        torch._dynamo.mark_dynamic(x, 0)
        result = compiled(x)
        assert torch.equal(result, torch.relu(x))
        (grad,) = torch.autograd.grad(result.sum(), x)
        assert torch.equal(grad, (x > 0).float())
    assert counter.frame_count == 1


def test_the_layer_exports(relu: ModuleType) -> None:
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(relu.layers.ReLU(), (torch.randn(3, 16),), dynamic_shapes=shapes)
    x = torch.randn(7, 16)
    assert torch.equal(program.module()(x), torch.relu(x))


def test_public_names_exist(relu: ModuleType) -> None:
    assert set(relu.__all__) == {"layers", "ops", "relu"}
    assert relu.layers.ReLU.has_backward
    assert relu.layers.ReLU.can_torch_compile
