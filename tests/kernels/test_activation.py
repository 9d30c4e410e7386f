# SPDX-License-Identifier: Apache-2.0
"""Layouts, errors, layers and tracing of the activation package."""

from collections.abc import Callable
from types import ModuleType

import activation_reference as reference
import pytest
import torch
from precision import FP16


@pytest.fixture(scope="module")
def activation(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("activation")


def call(activation: ModuleType, op: str, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    return getattr(activation, op)(out, x, *extra)


@pytest.mark.parametrize("op", reference.ALL)
def test_the_thread_count_changes_no_bit(activation: ModuleType, op: str) -> None:
    x = torch.randn(37, 8190)
    cols = 4095 if op in reference.GATED else 8190
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(call(activation, op, torch.empty(37, cols), x))
    torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("op", reference.UNARY)
def test_unary_ops_work_in_place(activation: ModuleType, op: str) -> None:
    x = torch.randn(3, 1000)
    expected = call(activation, op, torch.empty_like(x), x)
    assert torch.equal(call(activation, op, x, x), expected)


def test_rows_of_one_buffer_may_interleave(activation: ModuleType) -> None:
    buffer = torch.randn(40, 96)
    expected = activation.gelu(torch.empty(40, 48), buffer[:, :48].clone())
    activation.gelu(buffer[:, 48:], buffer[:, :48])
    assert torch.equal(buffer[:, 48:], expected)


def test_leading_dimensions_collapse_and_scalars_work(activation: ModuleType) -> None:
    x = torch.randn(2, 3, 4, 10)
    assert torch.equal(
        activation.silu(torch.empty(2, 3, 4, 7), x[..., :7]),
        activation.silu(torch.empty(2, 3, 4, 7), x[..., :7].contiguous()),
    )
    scalar = torch.tensor(1.5)
    assert activation.gelu(torch.empty(()), scalar).item() == pytest.approx(1.3997892)


@pytest.mark.parametrize("shape", [(0,), (0, 8), (4, 0), (0, 0, 2)])
@pytest.mark.parametrize("op", reference.ALL)
def test_empty_tensors_return_at_once(
    activation: ModuleType, op: str, shape: tuple[int, ...]
) -> None:
    x = torch.empty((*shape[:-1], 2 * shape[-1]) if op in reference.GATED else shape)
    out = torch.empty(shape)
    assert call(activation, op, out, x) is out


def expanded(rows: int, cols: int) -> torch.Tensor:
    return torch.zeros(1, cols).expand(rows, cols)


overlapping = torch.zeros(100)
columns = torch.zeros(10, 10)
ERRORS = [
    ("silu", torch.empty(2, 3), torch.empty(2, 4), "out shape: expected [2, 4], got [2, 3]"),
    ("silu", torch.empty(4), torch.empty(2, 2), "out shape: expected [2, 2], got [4]"),
    (
        "silu_and_mul",
        torch.empty(2, 3),
        torch.empty(2, 7),
        "input last dimension: expected an even number, got 7",
    ),
    ("gelu_and_mul", torch.empty(()), torch.tensor(1.0), "input rank: expected at least 1, got 0"),
    (
        "gelu",
        torch.empty(2, dtype=FP16),
        torch.empty(2),
        "out dtype: expected float32 as input, got float16",
    ),
    (
        "gelu_new",
        torch.empty(2, dtype=torch.int64),
        torch.empty(2, dtype=torch.int64),
        "input dtype: expected float32, float16, bfloat16 or float64, got int64",
    ),
    (
        "gelu_quick",
        torch.empty(2, 4),
        torch.empty(4, 2).t(),
        "input last stride: expected 1, got 2",
    ),
    (
        "gelu_fast",
        torch.empty(2, 3, 4),
        torch.empty(3, 2, 4).transpose(0, 1),
        "input strides: expected leading dimensions that collapse to one row stride, got "
        "[4, 8, 1] for shape [2, 3, 4]",
    ),
    ("gelu_tanh", expanded(3, 8), torch.empty(3, 8), "out row stride: expected at least 8, got 0"),
    (
        "silu",
        overlapping[1:51],
        overlapping[:50],
        "out memory: expected disjoint from input or identical to it, got partial overlap",
    ),
    (
        "silu",
        columns[:, 3:8],
        columns[:, :5],
        "out memory: expected disjoint from input or identical to it, got partial overlap",
    ),
    (
        "silu",
        columns[:, :5],
        columns[:, 3:8],
        "out memory: expected disjoint from input or identical to it, got partial overlap",
    ),
    (
        "mul_and_silu",
        overlapping[:25],
        overlapping[:50],
        "out memory: expected disjoint from input, got partial overlap",
    ),
]


@pytest.mark.parametrize(("op", "out", "x", "text"), ERRORS, ids=[e[3][:30] for e in ERRORS])
def test_bad_arguments_are_named_with_what_was_expected(
    activation: ModuleType, op: str, out: torch.Tensor, x: torch.Tensor, text: str
) -> None:
    with pytest.raises(RuntimeError) as failure:
        getattr(activation, op)(out, x)
    assert str(failure.value).splitlines()[0] == f"activation.{op}: {text}"


def test_a_device_without_kernels_is_an_error(activation: ModuleType) -> None:
    with pytest.raises(NotImplementedError, match="gelu"):
        activation.gelu(torch.empty(2, device="meta"), torch.empty(2, device="meta"))


LAYERS = {
    "SiluAndMul": "silu_and_mul",
    "MulAndSilu": "mul_and_silu",
    "GeluAndMul": "gelu_and_mul",
    "GeluTanhAndMul": "gelu_tanh_and_mul",
    "Silu": "silu",
    "Gelu": "gelu",
    "GeluTanh": "gelu_tanh",
    "FastGELU": "gelu_fast",
    "NewGELU": "gelu_new",
    "QuickGELU": "gelu_quick",
}


@pytest.mark.parametrize(("layer", "op"), LAYERS.items())
def test_layers_compute_their_op_on_any_layout(activation: ModuleType, layer: str, op: str) -> None:
    module = getattr(activation.layers, layer)
    assert module.can_torch_compile
    assert module.has_backward
    x = torch.randn(6, 4, 8).transpose(0, 1)
    cols = 4 if op in reference.GATED else 8
    expected = call(activation, op, torch.empty(4, 6, cols), x.contiguous())
    assert torch.equal(module()(x), expected)


def test_fatrelu_layer_keeps_its_threshold(activation: ModuleType) -> None:
    x = torch.tensor([[0.2, 0.6, 2.0, 2.0]])
    assert activation.layers.FatreluAndMul(0.5)(x).tolist() == [[0.0, pytest.approx(1.2)]]


def test_a_gradient_that_would_be_lost_warns_once(activation: ModuleType) -> None:
    x = torch.randn(4, requires_grad=True)
    activation._warned = False
    with pytest.warns(UserWarning, match="activation: an input requires grad") as warned:
        activation.gelu(torch.empty(4), x)
        activation.silu(torch.empty(4), x)
    assert len(warned) == 1
    assert warned[0].filename == __file__


@pytest.mark.parametrize("op", reference.ALL)
def test_ops_pass_the_checks_of_torch_library(activation: ModuleType, op: str) -> None:
    x = torch.randn(3, 16)
    out = torch.empty(3, 8 if op in reference.GATED else 16)
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    overload = getattr(activation.ops, op).default
    torch.library.opcheck(overload, (out, x, *extra))
    assert str(overload._schema).split("::")[1] == (
        f"{op}(Tensor($0! -> ) out, Tensor input{', float threshold' if extra else ''}) -> ()"
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_trace_into_one_graph_with_a_dynamic_batch(
    activation: ModuleType, layer: str
) -> None:
    module = getattr(activation.layers, layer)()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for batch in (2, 5, 9):
            x = torch.randn(batch, 32)
            assert torch.equal(compiled(x), module(x))


def test_public_names_exist(activation: ModuleType) -> None:
    assert set(activation.__all__) == {*reference.ALL, "layers", "ops"}
    assert all(hasattr(activation, name) for name in activation.__all__)
