# SPDX-License-Identifier: Apache-2.0
"""Layouts, errors, layers, gradients and tracing of the rmsnorm package."""

import io
import itertools
import re
import resource
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grid
import precision
import pytest
import rmsnorm_reference as reference
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import rms_norm as torch_rms_norm

EPS = 1e-6
LAYERS = ("RMSNorm", "LlamaRMSNorm", "GemmaRMSNorm")


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rmsnorm")


def layer_of(package: ModuleType, name: str, weight: torch.Tensor, eps: float = EPS) -> Any:
    layer = getattr(package.layers, name)()
    layer.weight, layer.variance_epsilon = torch.nn.Parameter(weight), eps
    return layer


# -- layouts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cols", "rows", "layout", "dtype"),
    grid.pairwise(grid.COLS[:-2], grid.ROWS[:-1], grid.LAYOUTS, grid.DTYPES),
)
def test_every_layout_gives_the_bits_of_contiguous_rows(
    package: ModuleType, cols: int, rows: int, layout: str, dtype: torch.dtype
) -> None:
    x = grid.random_rows(rows, cols, layout, dtype)
    weight = torch.randn(cols).to(dtype)
    for name in ("rms_norm", "gemma_rms_norm"):
        function = getattr(package, name)
        expected = function(torch.empty(rows, cols, dtype=dtype), x.contiguous(), weight, EPS)
        out, buffer = grid.placed(rows, cols, layout, dtype)
        assert function(out, x, weight, EPS) is out
        assert torch.equal(out, expected)
        out.fill_(grid.CANARY)
        assert (buffer == grid.CANARY).all(), "memory outside the output was written"
    residual, buffer = grid.placed(rows, cols, layout, dtype)
    residual.copy_(torch.randn(rows, cols))
    total = x + residual
    expected = package.rms_norm(torch.empty_like(total), total, weight, EPS)
    package.fused_add_rms_norm(x, residual, weight, EPS)
    assert torch.equal(x, expected)
    assert torch.equal(residual, total)
    residual.fill_(grid.CANARY)
    assert (buffer == grid.CANARY).all(), "memory outside the residual was written"


def test_in_place_equals_out_of_place(package: ModuleType) -> None:
    x, weight = torch.randn(50, 385), torch.randn(385)
    expected = package.rms_norm(torch.empty_like(x), x, weight, EPS)
    assert torch.equal(package.rms_norm(x, x, weight, EPS), expected)


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8), (2, 1, 3, 8), (2, 2, 1, 3, 8)])
def test_ranks_one_to_five(package: ModuleType, shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape), torch.randn(8)
    out, rstd = package.apply_rms_norm(x, weight, EPS)
    torch.testing.assert_close(out, reference.eager(x, weight, EPS))
    assert rstd.shape == shape[:-1]
    assert rstd.dtype == torch.float32
    grad_x, grad_weight = package.apply_rms_norm_backward(x, x, weight, out, rstd, EPS)
    assert (grad_x.shape, grad_weight.shape) == (x.shape, weight.shape)


def test_the_widest_rows(package: ModuleType) -> None:
    x = torch.randn(2, 1 << 20)
    out, _ = package.apply_rms_norm(x, torch.ones(1 << 20), EPS)
    torch.testing.assert_close(out, reference.exact(x, None, EPS).float(), rtol=3e-7, atol=1e-9)


def test_per_head_norm_of_a_slice_needs_no_copy_of_the_others(package: ModuleType) -> None:
    heads = torch.randn(2, 5, 12, 64)
    weight = torch.randn(64)
    out, _ = package.apply_rms_norm(heads[0], weight, EPS)
    assert torch.equal(out, package.layers.rms_norm(heads, weight, EPS)[0])
    query = torch.randn(5, 3 * 64)[:, 64:128]
    torch.testing.assert_close(
        package.apply_rms_norm(query, weight, EPS)[0], reference.eager(query, weight, EPS)
    )
    swapped = heads.transpose(1, 2)
    torch.testing.assert_close(
        package.layers.rms_norm(swapped, weight, EPS), reference.eager(swapped, weight, EPS)
    )


@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (0, 3, 5)])
def test_empty_tensors_return_at_once(package: ModuleType, shape: tuple[int, ...]) -> None:
    x, weight = torch.empty(shape), torch.ones(shape[-1])
    assert package.rms_norm(torch.empty(shape), x, weight).shape == shape
    out, rstd = package.apply_rms_norm(x, weight, EPS)
    grad_x, grad_weight = package.apply_rms_norm_backward(x, x, weight, out, rstd, EPS)
    assert grad_x.shape == shape
    assert torch.equal(grad_weight, torch.zeros(shape[-1]))


@pytest.mark.parametrize("dtype", grid.DTYPES)
def test_rows_without_columns_have_the_rstd_of_eager(
    package: ModuleType, dtype: torch.dtype
) -> None:
    x, weight = torch.empty(3, 0, dtype=dtype), torch.empty(0, dtype=dtype)
    for _ in range(3):
        torch.full((3,), 5.0)  # what the allocator hands out next
        assert package.apply_rms_norm(x, weight, EPS)[1].isnan().all()


@pytest.mark.parametrize("cols", [1, 40])
def test_a_nan_stays_one_whatever_its_last_bits(package: ModuleType, cols: int) -> None:
    nans = torch.full((cols,), 0x7FFF, dtype=torch.int16).view(torch.float16)
    x = torch.ones(2, cols, dtype=torch.bfloat16)
    out = package.gemma_rms_norm(torch.empty_like(x), x, nans, EPS)
    assert out.isnan().all()
    rstd = torch.ones(2)
    grad_x, _ = package.ops.rms_norm_bwd(x, x, nans, rstd, EPS, 0.0, True, False)
    assert grad_x.isnan().all()


@pytest.mark.parametrize(
    ("dtype", "weight_dtype", "grad_dtype"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float64, torch.float64, torch.float64),
    ],
)
def test_one_row_has_the_bits_of_a_row_beside_one_without_gradient(
    package: ModuleType, dtype: torch.dtype, weight_dtype: torch.dtype, grad_dtype: torch.dtype
) -> None:
    """A single row takes a way of its own. The product of the first gradient and x may underflow to
    -0, or be the NaN with a sign that infinity times nothing is.
    """
    firsts = ((0.0, 1.0), (-0.0, 1.0), (float("nan"), 1.0), (1e-40, -1e-30), (float("inf"), 0.0))
    for cols, (first_grad, first_x), needs_x in itertools.product(
        (1, 5, 16, 100, 513), firsts, (True, False)
    ):
        x, grad = torch.randn(2, cols).to(dtype), torch.randn(2, cols).to(grad_dtype)
        weight, rstd = torch.randn(cols).to(weight_dtype), torch.rand(2)
        grad[0, 0], x[0, 0], grad[1] = first_grad, first_x, 0.0
        options = (EPS, 0.5, needs_x, True)
        beside = package.ops.rms_norm_bwd(grad, x, weight, rstd, *options)
        alone = package.ops.rms_norm_bwd(grad[:1], x[:1], weight, rstd[:1], *options)
        assert precision.same_bits(alone[0], beside[0][:1]).all()
        assert precision.same_bits(alone[1], beside[1]).all()
        assert torch.equal(alone[1].signbit(), beside[1].signbit())  # of NaN, too


def test_the_thread_count_changes_no_bit(package: ModuleType) -> None:
    x, grad = torch.randn(2, 700, 385)
    weight = torch.randn(385)
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        out, rstd = package.apply_rms_norm(x, weight, EPS)
        gradients = package.apply_rms_norm_backward(grad, x, weight, out, rstd, EPS)
        results.append([out, rstd, *gradients])
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


# -- dtypes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("casting", reference.CASTINGS)
@pytest.mark.parametrize(
    ("dtype", "weight_dtype"), list(itertools.product(grid.DTYPES[:3], repeat=2))
)
def test_results_have_the_dtype_that_eager_gives(
    package: ModuleType, dtype: torch.dtype, weight_dtype: torch.dtype, casting: str
) -> None:
    x, weight = torch.randn(3, 40).to(dtype), torch.randn(40).to(weight_dtype)
    eager = reference.eager(x, weight, EPS, 0.0, casting)
    assert package.layers.rms_norm(x, weight, EPS, 0.0, casting).dtype == eager.dtype
    if casting == "llama":
        out = torch.empty_like(eager)
        assert torch.equal(
            package.rms_norm(out, x, weight, EPS), package.layers.rms_norm(x, weight)
        )


# -- errors ---------------------------------------------------------------------------------

memory = torch.zeros(200)
ERRORS = [
    ({"out": torch.empty(2, 3)}, "out shape: expected [2, 4], got [2, 3]"),
    ({"out": torch.empty(2, 4).half()}, "out dtype: expected float32, got float16"),
    ({"weight": torch.ones(3)}, "weight shape: expected [4], got [3]"),
    ({"weight": torch.ones(4).double()}, "weight dtype: expected float32 as input, got float64"),
    (
        {"weight": torch.ones(4, dtype=torch.int32)},
        "weight dtype: expected float32, float16, bfloat16 or float64, got int32",
    ),
    ({"weight": torch.ones(8)[::2]}, "weight last stride: expected 1, got 2"),
    ({"epsilon": -1.0}, "epsilon value: expected a finite number of at least 0, got -1.000000"),
    ({"epsilon": float("nan")}, "epsilon value: expected a finite number of at least 0, got nan"),
    ({"input": torch.empty(4, 2).t()}, "input last stride: expected 1, got 2"),
    (
        {"input": torch.tensor(1.0), "out": torch.tensor(1.0)},
        "input rank: expected at least 1, got 0",
    ),
    (
        {"input": memory[:8].view(2, 4), "out": memory[2:10].view(2, 4)},
        "out memory: expected disjoint from input or identical to it, got partial overlap",
    ),
    (
        {"out": memory[:8].view(2, 4), "weight": memory[4:8]},
        "out memory: expected disjoint from weight, got partial overlap",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), ERRORS, ids=[e[1][:32] for e in ERRORS])
def test_bad_arguments_are_named_with_what_was_expected(
    package: ModuleType, arguments: dict[str, object], text: str
) -> None:
    good = {"out": torch.empty(2, 4), "input": torch.ones(2, 4), "weight": torch.ones(4)}
    with pytest.raises(RuntimeError) as failure:
        package.rms_norm(**(good | {"epsilon": 1e-5} | arguments))
    assert str(failure.value).splitlines()[0] == f"rmsnorm.rms_norm: {text}"


def bad_calls(package: ModuleType) -> list[tuple[Callable[[], object], str]]:
    x, weight, rstd = torch.ones(2, 4), torch.ones(4), torch.ones(2)
    ops = package.ops
    return [
        (lambda: ops.rms_norm_fwd(x, weight, EPS, 0.0, "t5"), "casting value"),
        (lambda: ops.rms_norm_fwd(x, weight, EPS, float("inf"), "gemma"), "weight_offset value"),
        (lambda: ops.fused_add_rms_norm(x, x, weight, EPS), "sum memory|residual memory"),
        (lambda: ops.fused_add_rms_norm(x, x[:1], weight, EPS), "residual shape"),
        (lambda: ops.fused_add_rms_norm(x, x.half(), weight, EPS), "residual dtype"),
        (
            lambda: ops.rms_norm_bwd(x[:1], x, weight, rstd, EPS, 0.0, True, True),
            "grad_output shape",
        ),
        (
            lambda: ops.rms_norm_bwd(x.half(), x, weight, rstd, EPS, 0.0, True, True),
            "grad_output dtype",
        ),
        (lambda: ops.rms_norm_bwd(x, x, weight, rstd[:1], EPS, 0.0, True, True), "rstd shape"),
        (lambda: ops.rms_norm_bwd(x, x, weight, rstd.half(), EPS, 0.0, True, True), "rstd dtype"),
        (
            lambda: ops.rms_norm_bwd(x, x, weight, torch.ones(4)[::2], EPS, 0.0, True, True),
            "rstd strides",
        ),
        (lambda: ops.apply_rms_norm(torch.ones(3, 4, 2).transpose(0, 1), torch.ones(2), EPS), "in"),
    ]


def test_bad_calls_of_the_other_ops_are_named(package: ModuleType) -> None:
    for call, text in bad_calls(package):
        with pytest.raises(RuntimeError) as failure:
            call()
        line = str(failure.value).splitlines()[0]
        assert re.match(rf"rmsnorm\.\w+: ({text}).*: expected .*, got ", line), line


def test_a_gradient_that_would_be_lost_warns_once(package: ModuleType) -> None:
    weight = torch.randn(4, requires_grad=True)
    package._warned = False
    with pytest.warns(UserWarning, match="rmsnorm: an input requires grad") as warned:
        package.rms_norm(torch.empty(2, 4), torch.randn(2, 4), weight)
        package.fused_add_rms_norm(torch.empty(2, 4), torch.randn(2, 4), weight)
    assert len(warned) == 1
    package._warned = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(UserWarning, match="the result carries no gradient"):
                package.rms_norm(torch.empty(2, 4), torch.randn(2, 4), weight)


# -- gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("casting", reference.CASTINGS)
def test_gradcheck(package: ModuleType, casting: str) -> None:
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, requires_grad=True)
    norm, fused = package.layers.rms_norm, package.layers.fused_add_rms_norm
    assert torch.autograd.gradcheck(lambda a, w: norm(a, w, 1e-3, 0.5, casting), (x, weight))
    assert torch.autograd.gradcheck(lambda a: norm(a, None, 1e-3, 0.0, casting), x)
    assert torch.autograd.gradcheck(
        lambda a, r, w: fused(a, r, w, 1e-3, 0.5, casting), (x, residual, weight)
    )
    for name in ("apply_rms_norm", "apply_gemma_rms_norm"):
        op = getattr(package.ops, name)
        assert torch.autograd.gradcheck(lambda a, w, op=op: op(a, w, 1e-3)[0], (x, weight))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_train_as_the_composed_formula(package: ModuleType, name: str) -> None:
    base = torch.randn(6, 4, 8, dtype=torch.float64)
    x = base.transpose(0, 1).requires_grad_()
    layer = layer_of(package, name, torch.randn(8, dtype=torch.float64))
    assert layer.has_backward
    assert layer.can_torch_compile
    result = layer(x)
    assert torch.equal(result, layer(x.detach()))
    gradients = torch.autograd.grad(result.sum(), (x, layer.weight))  # an expanded gradient
    offset, casting = (1.0, "gemma") if name == "GemmaRMSNorm" else (0.0, "llama")
    expected = reference.eager(x, layer.weight, EPS, offset, casting)
    torch.testing.assert_close(result, expected)
    for gradient, other in zip(
        gradients, torch.autograd.grad(expected.sum(), (x, layer.weight)), strict=True
    ):
        torch.testing.assert_close(gradient, other)


def test_the_fused_layer_gives_both_results_and_their_gradients(package: ModuleType) -> None:
    x, residual = torch.randn(2, 5, 8, dtype=torch.float64).requires_grad_().unbind()
    layer = layer_of(package, "FusedAddRMSNorm", torch.randn(8, dtype=torch.float64))
    out, total = layer(x, residual)
    assert torch.equal(total, x + residual)
    expected = reference.eager(x + residual, layer.weight, EPS)
    torch.testing.assert_close(out, expected)
    wanted = (x, residual, layer.weight)
    gradients = torch.autograd.grad((out * total).sum(), wanted)
    others = torch.autograd.grad((expected * (x + residual)).sum(), wanted)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other)
    (only,) = torch.autograd.grad(layer(x, residual)[1].sum(), x)
    assert torch.equal(only, torch.ones_like(only))


def test_gradients_that_nobody_asks_for_are_not_there(package: ModuleType) -> None:
    x, weight = torch.randn(3, 8), torch.randn(8)
    out, rstd = package.apply_rms_norm(x, weight, EPS)
    both = package.apply_rms_norm_backward(x, x, weight, out, rstd, EPS)
    only_x = package.apply_rms_norm_backward(x, x, weight, out, rstd, EPS, True, False)
    only_weight = package.apply_rms_norm_backward(x, x, weight, out, rstd, EPS, False, True)
    assert only_x[1] is None
    assert only_weight[0] is None
    assert torch.equal(only_x[0], both[0])
    assert torch.equal(only_weight[1], both[1])


def test_the_backward_takes_more_rows_than_32_bits_count_at_once(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2] / "kernels-community"
    command = [
        "c++",
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Werror",
        "-fsanitize=undefined",
        "-static-libubsan",
    ]
    sources = [
        Path(__file__).with_name("rmsnorm_ranges.cpp"),
        root / "rmsnorm/rmsnorm_cpu/rmsnorm_cpu.cpp",
    ]
    folders = ["-I", root, "-I", root / "rmsnorm"]
    subprocess.run([*command, *folders, *sources, "-o", tmp_path / "ranges"], check=True)
    done = subprocess.run([tmp_path / "ranges"], check=True, capture_output=True, text=True)
    rows = 2**33 + 5
    assert done.stdout == f"grad_x 1 calls {rows} rows\ngrad_weight 128 calls {rows} rows\n"


def test_rstd_has_no_gradient_that_could_be_lost(package: ModuleType) -> None:
    x = torch.randn(3, 8, requires_grad=True)
    out, rstd = package.apply_rms_norm(x, torch.ones(8), EPS)
    assert out.requires_grad
    assert not rstd.requires_grad


def test_a_change_of_a_saved_tensor_is_noticed(package: ModuleType) -> None:
    base = torch.randn(2, 4, requires_grad=True) * 1.0
    result = package.layers.rms_norm(base, torch.ones(4))
    base.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def second_derivative(package: ModuleType, kind: str, layout: str, weight: str) -> None:
    rows = torch.randn(4, 4).t() if layout == "transposed" else torch.randn(4, 4)
    x = rows.requires_grad_()
    given = None if weight == "none" else torch.ones(4, requires_grad=weight == "trained")
    if kind == "fused":
        result, _ = package.layers.fused_add_rms_norm(x, torch.ones(4, 4), given)
    else:
        result = package.layers.rms_norm(x, given)
    (grad,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    grad.pow(2).sum().backward()


@pytest.mark.parametrize("kind", ["plain", "fused"])
@pytest.mark.parametrize("layout", ["rows", "transposed"])
@pytest.mark.parametrize("weight", ["none", "frozen", "trained"])
def test_the_second_derivative_is_an_error(
    package: ModuleType, kind: str, layout: str, weight: str
) -> None:
    with pytest.raises(RuntimeError, match="derivative order: expected at most the first"):
        second_derivative(package, kind, layout, weight)


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3))[1:], ids=str)
@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)], ids=str)
def test_whatever_of_the_sum_is_trained_gets_its_gradient(
    package: ModuleType, wanted: tuple[bool, ...], used: tuple[int, ...]
) -> None:
    drawn = [torch.randn(2, 4, 6, dtype=torch.float64) for _ in range(2)]
    drawn.append(torch.randn(6, dtype=torch.float64))
    factors = torch.randn(2, 2, 4, 6, dtype=torch.float64)

    def gradients(formula: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> Any:
        tensors = [
            one.clone().requires_grad_(is_wanted)
            for one, is_wanted in zip(drawn, wanted, strict=True)
        ]
        results = formula(*tensors)
        terms = [(results[i] * factors[i]).sum() for i in used if results[i].requires_grad]
        if terms:
            sum(terms[1:], terms[0]).backward()
        return [one.grad for one in tensors]

    def formula(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Any:
        total = x + residual
        return torch_rms_norm(total, (6,), weight, EPS), total

    ours = gradients(lambda *tensors: package.layers.fused_add_rms_norm(*tensors, EPS))
    for found, expected in zip(ours, gradients(formula), strict=True):
        if expected is None:
            assert found is None or not found.any()
        else:
            torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_layer_in_training_is_traced_and_saved(package: ModuleType) -> None:
    x = torch.randn(3, 6)

    class Norms(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = package.layers.rms_norm(x, self.weight)
            return out + package.layers.fused_add_rms_norm(x, x, self.weight)[0]

    module, file = Norms(), io.BytesIO()
    torch.jit.save(torch.jit.trace(module, x), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), module(x))


def test_names_of_casting_modes_are_not_kept(package: ModuleType) -> None:
    """torch hands a string over to the op, as memory that the op must free."""
    x, weight, text = torch.randn(2, 4), torch.ones(4), "x" * (64 << 10)

    def call(count: int) -> int:
        for _ in range(count):
            with pytest.raises(RuntimeError, match="casting"):
                package.ops.rms_norm_fwd(x, weight, EPS, 0.0, text)
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = call(50)
    assert call(1000) - before < 32 << 20  # kept, the names would be 62 MiB


# -- torch.library and compilation ----------------------------------------------------------


def op_calls(package: ModuleType) -> list[tuple[Any, tuple[Any, ...]]]:
    x = torch.randn(3, 16, requires_grad=True)
    weight = torch.randn(16, requires_grad=True)
    plain, fixed = x.detach(), weight.detach()
    rstd = torch.rand(3)
    ops = package.ops
    return [
        (ops.rms_norm, (torch.empty(3, 16), plain, fixed, EPS)),
        (ops.gemma_rms_norm, (torch.empty(3, 16), plain, fixed, EPS)),
        (ops.fused_add_rms_norm, (plain.clone(), plain.clone(), fixed, EPS)),
        (ops.apply_rms_norm, (x, weight, EPS)),
        (ops.apply_gemma_rms_norm, (x, weight, EPS)),
        (ops.rms_norm_fwd, (x, weight, EPS, 0.0, "llama")),
        (ops.rms_norm_fwd, (x, None, EPS, 0.0, "gemma")),
        (ops.rms_norm_fwd, (plain.bfloat16(), weight, EPS, 1.0, "none")),
        (ops.fused_add_rms_norm_fwd, (x, plain, weight, EPS, 0.0, "llama")),
        (ops.rms_norm_bwd, (plain, plain, fixed, rstd, EPS, 0.0, True, True)),
        (ops.rms_norm_bwd, (plain, plain, None, rstd, EPS, 0.0, True, True)),
        (ops.apply_rms_norm_backward, (plain, plain, fixed, plain, rstd, EPS, True, True)),
        (ops.rms_norm_fwd_nograd, (plain.t(), None, EPS, 0.0, "llama")),
        (ops.fused_add_rms_norm_fwd_nograd, (plain, plain, fixed, EPS, 0.0, "none")),
        (ops.rms_norm_bwd_nograd, (plain, plain, fixed, rstd, EPS, 0.0, True, False)),
    ]


@pytest.mark.parametrize("casting", ["llama", "gemma", "none"])
def test_eager_calls_equal_the_functional_ops(package: ModuleType, casting: str) -> None:
    weight = torch.randn(6, requires_grad=True)
    layouts = (torch.randn(4, 6), torch.randn(2, 3, 6).transpose(0, 1), torch.randn(5, 8)[:, 2:])
    options = (weight, EPS, 1.0, casting)
    for x in layouts:
        x, residual = x.bfloat16().requires_grad_(), torch.randn(x.shape).bfloat16()
        residual.requires_grad_()
        dense = x.contiguous(), residual.contiguous()
        normalized = package.layers.rms_norm(x, *options)
        added = package.layers.fused_add_rms_norm(x, residual, *options)
        pairs = [
            (normalized, package.ops.rms_norm_fwd(dense[0], *options)[0], (x, weight)),
            *(
                (ours, functional, (x, residual, weight) if i == 0 else (x, residual))
                for i, (ours, functional) in enumerate(
                    zip(
                        added, package.ops.fused_add_rms_norm_fwd(*dense, *options)[:2], strict=True
                    )
                )
            ),
        ]
        with torch.no_grad():
            assert torch.equal(package.layers.rms_norm(x, *options), normalized)
            detached = package.layers.fused_add_rms_norm(x, residual, *options)
            assert all(torch.equal(a, b) for a, b in zip(detached, added, strict=True))
        for ours, functional, inputs in pairs:
            assert torch.equal(ours, functional)
            grad = torch.randn(x.shape).to(ours.dtype)
            eager = torch.autograd.grad(ours, inputs, grad, retain_graph=True)
            expected = torch.autograd.grad(functional, inputs, grad, retain_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(eager, expected, strict=True))


def test_ops_pass_the_checks_of_torch_library(package: ModuleType) -> None:
    for op, arguments in op_calls(package):
        torch.library.opcheck(op.default, arguments)


def test_schemas_are_those_of_the_hub(package: ModuleType) -> None:
    schemas = {
        name: str(getattr(package.ops, name).default._schema)
        for name in ("apply_rms_norm", "apply_rms_norm_backward", "rms_norm", "fused_add_rms_norm")
    }
    texts = [schema.split("::")[1] for schema in schemas.values()]
    assert texts == [
        "apply_rms_norm(Tensor hidden_states, Tensor weight, float variance_epsilon) -> Tensor[]",
        "apply_rms_norm_backward(Tensor grad_output, Tensor hidden_states, Tensor weight, Tensor "
        "output, Tensor rstd, float variance_epsilon, bool input_requires_grad, bool "
        "weight_requires_grad) -> Tensor[]",
        "rms_norm(Tensor($0! -> ) out, Tensor input, Tensor weight, float epsilon) -> ()",
        "fused_add_rms_norm(Tensor($0! -> ) input, Tensor($1! -> ) residual, Tensor weight, float "
        "epsilon) -> ()",
    ]


def test_fake_results_are_like_real_ones(package: ModuleType) -> None:
    for x in (torch.randn(4, 6), torch.randn(8), torch.randn(5, 8)[:, 2:], torch.randn(0, 6)):
        for dtype, weight_dtype in itertools.product(grid.DTYPES[:3], repeat=2):
            y, weight = x.to(dtype), torch.randn(x.shape[-1]).to(weight_dtype)
            for casting in reference.CASTINGS:
                rest = (EPS, 0.0, casting)
                real = package.ops.fused_add_rms_norm_fwd(y, y, weight, *rest)
                fake = package.ops.fused_add_rms_norm_fwd(
                    y.to("meta"), y.to("meta"), weight.to("meta"), *rest
                )
                for a, b in zip(real, fake, strict=True):
                    assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
            arguments = [y, y, weight, y, torch.ones(x.shape[:-1])]
            # torch has no fake of a list that lacks a tensor: both gradients.
            real = package.ops.apply_rms_norm_backward(*arguments, EPS, True, True)
            converted = [tensor.to("meta") for tensor in arguments]
            fake = package.ops.apply_rms_norm_backward(*converted, EPS, True, True)
            for a, b in zip(real, fake, strict=True):
                assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


@pytest.mark.parametrize("name", (*LAYERS, "FusedAddRMSNorm"))
def test_a_training_step_compiles_into_one_graph_for_every_batch(
    package: ModuleType, name: str
) -> None:
    layer = layer_of(package, name, torch.randn(32))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    count = 2 if name == "FusedAddRMSNorm" else 1

    def step(module: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        results = module(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        loss = sum(result.square().sum() for result in results)
        return [*results, *torch.autograd.grad(loss, (*inputs, layer.weight))]

    for batch in (2, 5, 9):
        inputs = [torch.randn(batch, 32, requires_grad=True) for _ in range(count)]
        for x in inputs:
            torch._dynamo.mark_dynamic(x, 0)
        for result, expected in zip(step(compiled, inputs), step(layer, inputs), strict=True):
            torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", LAYERS)
def test_layers_export_with_a_dynamic_batch(package: ModuleType, name: str) -> None:
    layer = layer_of(package, name, torch.randn(16))
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(layer, (torch.randn(3, 16),), dynamic_shapes=shapes)
    x = torch.randn(7, 16)
    assert torch.equal(program.module()(x), layer(x))


# -- defects of the Hub's package ------------------------------------------------------------


def test_every_listed_name_is_there(package: ModuleType) -> None:
    for module in (package, package.layers):
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("cols", [1, 15, 17, 33, 1023])
def test_odd_sizes_read_nothing_beside_the_row(package: ModuleType, cols: int) -> None:
    buffer = torch.full((4, cols + 40), float("nan"))
    x = buffer[:, 20 : 20 + cols]
    x.copy_(torch.randn(4, cols))
    weight = torch.randn(cols)
    out, rstd = package.apply_rms_norm(x, weight, EPS)
    torch.testing.assert_close(out, reference.eager(x, weight, EPS))
    for gradient in package.apply_rms_norm_backward(x, x, weight, out, rstd, EPS):
        assert gradient.isfinite().all()
