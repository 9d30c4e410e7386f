# SPDX-License-Identifier: Apache-2.0
"""Layouts, errors, layer and tracing of the layer-norm package."""

import itertools
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
CANARY = 77.0


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def placed(rows: int, cols: int, pitch: int, start: int, dtype: torch.dtype) -> list[torch.Tensor]:
    buffer = torch.full((start + rows * pitch + 9,), CANARY, dtype=dtype)
    return [buffer.as_strided((rows, cols), (pitch, 1), start), buffer]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "cols"), list(itertools.product((1, 7, 83), (1, 2, 7, 8, 63, 64, 512, 1023, 4096)))
)
def test_strided_and_unaligned_rows_give_the_bits_of_contiguous_ones(
    package: ModuleType, rows: int, cols: int, dtype: torch.dtype
) -> None:
    values = torch.randn(rows, cols).to(dtype)
    weight, bias = torch.randn(2, cols).to(dtype)
    expected = package.layer_norm(torch.empty_like(values), values, weight, bias)
    for extra, start in ((0, 1), (5, 0), (8, 3)):
        x, _ = placed(rows, cols, cols + extra, start, dtype)
        x.copy_(values)
        out, buffer = placed(rows, cols, cols + extra, start, dtype)
        assert package.layer_norm(out, x, weight, bias) is out
        assert torch.equal(out, expected)
        out.fill_(CANARY)
        assert (buffer == CANARY).all(), "memory outside the output was written"


def test_in_place_equals_out_of_place(package: ModuleType) -> None:
    x = torch.randn(50, 384)
    expected = package.layer_norm(torch.empty_like(x), x)
    assert torch.equal(package.layer_norm(x, x), expected)


def test_the_thread_count_changes_no_bit(package: ModuleType) -> None:
    x = torch.randn(512, 384)
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(package.layer_norm(torch.empty_like(x), x))
    torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (0, 3, 5)])
def test_empty_tensors_return_at_once(package: ModuleType, shape: tuple[int, ...]) -> None:
    out = torch.empty(shape)
    weight = torch.ones(shape[-1])
    assert package.layer_norm(out, torch.empty(shape), weight, weight) is out


overlapping = torch.zeros(200)
ERRORS = [
    ({"out": torch.empty(2, 3)}, "out shape: expected [2, 4], got [2, 3]"),
    (
        {"out": torch.empty(2, 4, dtype=torch.float16)},
        "out dtype: expected float32 as x, got float16",
    ),
    ({"weight": torch.ones(3)}, "weight shape: expected [4], got [3]"),
    ({"bias": torch.ones(1, 4)}, "bias shape: expected [4], got [1, 4]"),
    (
        {"weight": torch.ones(4, dtype=torch.float64)},
        "weight dtype: expected float32 as x, got float64",
    ),
    (
        {
            "out": torch.empty(2, 4).half(),
            "x": torch.ones(2, 4).half(),
            "bias": torch.ones(4).double(),
        },
        "bias dtype: expected float16 as x, or float32, got float64",
    ),
    ({"weight": torch.ones(8)[::2]}, "weight last stride: expected 1, got 2"),
    ({"eps": -1.0}, "eps value: expected a finite number of at least 0, got -1.000000"),
    ({"eps": float("nan")}, "eps value: expected a finite number of at least 0, got nan"),
    ({"x": torch.empty(4, 2).t()}, "x last stride: expected 1, got 2"),
    ({"x": torch.tensor(1.0), "out": torch.tensor(1.0)}, "x rank: expected at least 1, got 0"),
    (
        {
            "x": torch.ones(2, 4, dtype=torch.int32),
            "out": torch.ones(2, 4, dtype=torch.int32),
        },
        "x dtype: expected float32, float16, bfloat16 or float64, got int32",
    ),
    (
        {"x": overlapping[:8].view(2, 4), "out": overlapping[2:10].view(2, 4)},
        "out memory: expected disjoint from x or identical to it, got partial overlap",
    ),
    (
        {"out": overlapping[:8].view(2, 4), "bias": overlapping[4:8]},
        "out memory: expected disjoint from bias, got partial overlap",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), ERRORS, ids=[e[1][:32] for e in ERRORS])
def test_bad_arguments_are_named_with_what_was_expected(
    package: ModuleType, arguments: dict[str, object], text: str
) -> None:
    good = {"out": torch.empty(2, 4), "x": torch.ones(2, 4), "weight": None, "bias": None}
    with pytest.raises(RuntimeError) as failure:
        package.layer_norm(**(good | {"eps": 1e-5} | arguments))
    assert str(failure.value).splitlines()[0] == f"layer_norm.layer_norm: {text}"


def test_the_layer_honours_weight_bias_and_either_epsilon(package: ModuleType) -> None:
    layer = package.layers.LayerNorm()
    assert layer.can_torch_compile
    assert layer.has_backward
    layer.weight, layer.bias = torch.nn.Parameter(torch.randn(12)), None
    x = torch.randn(5, 3, 12).transpose(0, 1)
    with torch.no_grad():
        layer.eps = 0.5
        expected = F.layer_norm(x, (12,), layer.weight, None, 0.5)
        torch.testing.assert_close(layer(x), expected)
        del layer.eps
        layer.variance_epsilon = 0.25
        layer.bias = torch.nn.Parameter(torch.randn(12))
        expected = F.layer_norm(x, (12,), layer.weight, layer.bias, 0.25)
        torch.testing.assert_close(layer(x), expected)


def test_a_gradient_that_would_be_lost_warns_once(package: ModuleType) -> None:
    weight = torch.randn(4, requires_grad=True)
    package._warned = False
    with pytest.warns(UserWarning, match="layer_norm: an input requires grad") as warned:
        package.layer_norm(torch.empty(2, 4), torch.randn(2, 4), weight)
        package.layer_norm(torch.empty(2, 4), torch.randn(2, 4), weight)
    assert len(warned) == 1


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_op_passes_the_checks_of_torch_library(package: ModuleType, has_bias: bool) -> None:
    x = torch.randn(3, 16)
    bias = torch.randn(16) if has_bias else None
    overload = package.ops.layer_norm.default
    torch.library.opcheck(overload, (torch.empty_like(x), x, torch.randn(16), bias, 1e-5))


def test_the_layer_traces_into_one_graph_with_a_dynamic_batch(package: ModuleType) -> None:
    layer = package.layers.LayerNorm()
    layer.weight, layer.bias, layer.eps = torch.randn(32), torch.randn(32), 1e-5
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for batch in (2, 5, 9):
            x = torch.randn(batch, 32)
            assert torch.equal(compiled(x), layer(x))
