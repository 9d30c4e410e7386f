# SPDX-License-Identifier: Apache-2.0
"""Values of the rmsnorm package; tests/kernels/test_isa_levels.py runs this file per ISA."""

from collections.abc import Callable
from types import ModuleType

import grid
import precision
import pytest
import rmsnorm_reference as reference
import torch

EPS = 1e-6
LOW = (torch.float32, torch.bfloat16, torch.float16)
WEIGHTS = ("none", *LOW)
# Elements of one case of the everyday grid.
ELEMENTS = 1 << 19


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rmsnorm")


def weight_of(cols: int, dtype: torch.dtype | str) -> torch.Tensor | None:
    return None if dtype == "none" else torch.randn(cols).to(dtype)


@pytest.mark.parametrize(
    ("cols", "rows", "layout", "dtype", "weight_dtype", "casting"),
    grid.pairwise(grid.COLS, grid.ROWS, grid.LAYOUTS, LOW, WEIGHTS, reference.CASTINGS),
)
def test_rows_agree_with_fp64_and_with_eager(
    package: ModuleType,
    cols: int,
    rows: int,
    layout: str,
    dtype: torch.dtype,
    weight_dtype: torch.dtype | str,
    casting: str,
) -> None:
    rows = min(rows, max(ELEMENTS // cols, 1) if rows else 0)
    x = grid.random_rows(rows, cols, layout, dtype)
    weight = weight_of(cols, weight_dtype)
    offset = 1.0 if casting == "gemma" else 0.0
    out, rstd = package.ops.rms_norm_fwd(x, weight, EPS, offset, casting)
    eager = reference.eager(x, weight, EPS, offset, casting)
    assert (out.dtype, out.shape) == (eager.dtype, eager.shape)
    assert (rstd.dtype, rstd.shape) == (torch.float32, x.shape[:-1])
    if rows == 0:
        return
    exact = reference.exact(x, weight, EPS, offset)
    # Rounded once to the dtype of x even where the result is fp32.
    bounds = precision.RMS_NORM if casting == "llama" else precision.LAYER_NORM
    bound = bounds[dtype if casting == "llama" else out.dtype]
    assert precision.relative_error(out, exact) <= (bound if cols > 16 else 2 * bound)
    wide = x.double()
    torch.testing.assert_close(
        rstd.double(), (wide.pow(2).mean(-1) + EPS).rsqrt(), rtol=2e-7, atol=0.0
    )
    # One flipped rounding before the product can be two units behind it: one in some ten thousand.
    errors = precision.ulp_errors(out, eager.double())
    if casting == "llama" and dtype != torch.float32:
        assert (errors > 1.0).double().mean() <= 1e-4
        assert errors.max() <= 2.0 if out.dtype == dtype else True
    elif out.dtype != torch.float32:
        assert errors.max() <= 1.0


@pytest.mark.parametrize("dtype", LOW)
def test_a_million_rows_give_an_exact_weight_gradient(
    package: ModuleType, dtype: torch.dtype
) -> None:
    rows, cols = 1_000_000, 8
    x, grad = torch.randn(2, rows, cols).to(dtype)
    weight = torch.randn(cols).to(dtype)
    _, rstd = package.ops.rms_norm_fwd(x, weight, EPS, 0.0, "llama")
    _, grad_weight = package.ops.rms_norm_bwd(grad, x, weight, rstd, EPS, 0.0, False, True)
    _, expected = reference.exact_gradients(grad, x, weight, EPS)
    assert precision.relative_error(grad_weight, expected) <= precision.NORM_GRADIENT[dtype]


@pytest.mark.parametrize(
    ("cols", "rows", "layout", "dtype", "weight_dtype"),
    grid.pairwise(grid.COLS, (1, 7, 83, 2048), grid.LAYOUTS, LOW, LOW),
)
def test_gradients_agree_with_fp64(
    package: ModuleType,
    cols: int,
    rows: int,
    layout: str,
    dtype: torch.dtype,
    weight_dtype: torch.dtype,
) -> None:
    rows = min(rows, max(ELEMENTS // cols, 1))
    x = grid.random_rows(rows, cols, layout, dtype)
    weight = torch.randn(cols).to(weight_dtype)
    out, rstd = package.ops.rms_norm_fwd(x, weight, EPS, 0.25, "none")
    grad = grid.random_rows(rows, cols, layout, out.dtype)
    before = grad.clone()
    grad_x, grad_weight = package.ops.rms_norm_bwd(grad, x, weight, rstd, EPS, 0.25, True, True)
    assert torch.equal(grad, before), "grad_out was written"
    expected_x, expected_weight = reference.exact_gradients(grad, x, weight, EPS, 0.25)
    bounds = precision.NORM_GRADIENT
    assert precision.relative_error(grad_weight, expected_weight) <= bounds[weight_dtype]
    # A row of few columns has next to no gradient of its own: what is left of g - n mean(g n).
    floor = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    error = (grad_x.double() - expected_x).norm()
    scale = rstd.double().unsqueeze(-1).mul(grad.double()).norm() if cols < 8 else 0.0
    assert error <= bounds[dtype] * expected_x.norm() + floor * scale


@pytest.mark.parametrize("casting", reference.CASTINGS)
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("cols", [1, 5, 64, 1023])
def test_extreme_rows_give_what_eager_gives(
    package: ModuleType, cols: int, dtype: torch.dtype, casting: str
) -> None:
    info = torch.finfo(dtype)
    inf, nan = float("inf"), float("nan")
    values = (info.max, info.min, 1e18, 0.0, -0.0, info.smallest_normal, info.tiny / 2, inf, nan)
    x = torch.ones(len(values) + 2, cols).to(dtype)
    for row, value in enumerate(values):
        x[row, row % cols] = value
    x[-2], x[-1] = info.max, 0.0
    weight = torch.randn(cols).to(dtype)
    weight[-1] = -0.0
    out, rstd = package.ops.rms_norm_fwd(x, weight, EPS, 0.0, casting)
    expected = reference.eager(x, weight, EPS, 0.0, casting)
    assert torch.equal(out.isnan(), expected.isnan())
    torch.testing.assert_close(
        out.float(), expected.float(), rtol=2 * info.eps, atol=0.0, equal_nan=True
    )
    is_number = ~expected.isnan()
    assert torch.equal(out[is_number].signbit(), expected[is_number].signbit())
    assert rstd[-1] == torch.tensor(EPS, dtype=torch.float64).rsqrt().float()


def test_epsilon_is_a_double(package: ModuleType) -> None:
    x = torch.zeros(3, 16)
    for eps in (1e-50, 1e-12, 3.0):
        _, rstd = package.ops.rms_norm_fwd(x, None, eps, 0.0, "llama")
        assert torch.equal(rstd, torch.full((3,), eps, dtype=torch.float64).rsqrt().float())


def test_a_nan_of_an_fp32_weight_stays_a_nan_in_bf16(package: ModuleType) -> None:
    pattern = torch.full((32,), 0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    x = torch.randn(2, 32).bfloat16()
    out, _ = package.ops.rms_norm_fwd(x, pattern, EPS, 0.0, "gemma")
    assert out.dtype == torch.bfloat16
    assert out.isnan().all()


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("cols", [1, 7, 64, 1023, 65537])
def test_the_residual_is_rounded_before_it_is_normalised(
    package: ModuleType, cols: int, dtype: torch.dtype
) -> None:
    x, residual = torch.randn(2, 5, cols).to(dtype)
    weight = torch.randn(cols).to(dtype)
    total = x + residual
    expected = package.rms_norm(torch.empty_like(x), total, weight, EPS)
    before = x.clone(), residual.clone()
    out, stored, _ = package.ops.fused_add_rms_norm_fwd(x, residual, weight, EPS, 0.0, "llama")
    assert torch.equal(out, expected)
    assert torch.equal(stored, total)
    assert torch.equal(x, before[0])
    assert torch.equal(residual, before[1])
    assert package.fused_add_rms_norm(x, residual, weight, EPS)[0] is x
    assert torch.equal(x, expected)
    assert torch.equal(residual, total)


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("cols", [5, 129, 4097])
def test_a_row_gives_the_same_bits_alone_in_a_batch_and_again(
    package: ModuleType, cols: int, dtype: torch.dtype
) -> None:
    x, grad = torch.randn(2, 4096, cols).to(dtype)
    weight = torch.randn(cols).to(dtype)

    def run(rows: slice) -> list[torch.Tensor]:
        out, rstd = package.ops.rms_norm_fwd(x[rows], weight, EPS, 0.0, "llama")
        arguments = (grad[rows], x[rows], weight, rstd, EPS, 0.0, True, True)
        grad_x, grad_weight = package.ops.rms_norm_bwd(*arguments)
        return [out, rstd, grad_x, grad_weight]

    batch = run(slice(None))
    for row in (0, 1, 4095):
        for alone, together in zip(run(slice(row, row + 1))[:3], batch, strict=False):
            assert torch.equal(alone[0], together[row])
    # Rows may go by two: here beside another one than in the batch, and the last one by itself.
    for rows in (slice(0, 65), slice(1, 4)):
        for some, together in zip(run(rows)[:3], batch, strict=False):
            assert torch.equal(some, together[rows])
    again = [run(slice(0, 40)) for _ in range(20)]
    for results in again:
        assert all(torch.equal(a, b) for a, b in zip(results, again[0], strict=True))
