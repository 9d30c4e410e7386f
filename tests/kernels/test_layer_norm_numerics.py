# SPDX-License-Identifier: Apache-2.0
"""Values of the layer-norm package; tests/kernels/test_isa_levels.py runs this file per ISA."""

from collections.abc import Callable
from types import ModuleType

import precision
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from precision import BF16, FP16, FP32

DTYPES = pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=["fp32", "bf16", "fp16"])
EPS = 1e-12


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def exact(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float = EPS
) -> torch.Tensor:
    parameters = [None if p is None else p.double() for p in (weight, bias)]
    return F.layer_norm(x.double(), x.shape[-1:], *parameters, eps)


@DTYPES
@pytest.mark.parametrize("cols", [2, 7, 8, 63, 64, 384, 1023, 4096, 13824, 65537])
@pytest.mark.parametrize("parameters", ["none", "weight", "bias", "both"])
def test_relative_error_keeps_the_tolerance_table(
    package: ModuleType, parameters: str, cols: int, dtype: torch.dtype
) -> None:
    x = torch.randn(32, cols).to(dtype)
    weight = torch.randn(cols).to(dtype) if parameters in ("weight", "both") else None
    bias = torch.randn(cols).to(dtype) if parameters in ("bias", "both") else None
    out = package.layer_norm(torch.full_like(x, float("nan")), x, weight, bias, 1e-5)
    # Two elements a row make every output nearly +-1 times the weight: no averaging of roundings.
    slack = 1.5 if cols < 64 else 1.0
    error = precision.relative_error(out, exact(x, weight, bias, 1e-5))
    assert error <= slack * precision.LAYER_NORM[dtype]


@DTYPES
def test_every_element_is_within_one_rounding_of_fp64(
    package: ModuleType, dtype: torch.dtype
) -> None:
    x = torch.randn(512, 384).to(dtype)
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    expected = exact(x, None, None)
    # Nearer to zero the sum of the row cancels, and its rounding shows.
    large = expected.abs() > 0.5
    limit = 4.0 if dtype == FP32 else 0.51
    assert precision.ulp_errors(out, expected)[large].max() <= limit


@pytest.mark.parametrize("mean", [1e3, 1e4, 1e5])
def test_a_mean_far_above_the_spread_costs_no_accuracy(package: ModuleType, mean: float) -> None:
    x = torch.randn(64, 384) + mean
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    assert precision.relative_error(out, exact(x, None, None)) <= 2e-7


@DTYPES
@pytest.mark.parametrize("start", [-1e4, 100.0, 0.0])
def test_a_start_unlike_the_rest_costs_no_accuracy(
    package: ModuleType, start: float, dtype: torch.dtype
) -> None:
    """The moments are first taken about the mean of a few elements."""
    x = torch.randn(64, 4096) + 7.0
    x[:, :64] = start
    x = x.to(dtype)
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    assert precision.relative_error(out, exact(x, None, None)) <= precision.LAYER_NORM[dtype]


def test_squares_beyond_the_range_of_fp32_come_from_the_start_alone(package: ModuleType) -> None:
    x = torch.randn(4, 1024) * 1e17
    x[:, :64] += 3e38
    x[:, 64:128] -= 3e38
    assert package.layer_norm(torch.empty_like(x), x, None, None, EPS).isfinite().all()


def test_squares_beyond_the_range_of_fp32_count_as_far_from_the_start(package: ModuleType) -> None:
    """The start is a hundred spreads from the rest, and its square is no fp32."""
    x = torch.randn(4, 4096) * 1e16
    x[:, :64] += 1e18
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    assert precision.relative_error(out, exact(x, None, None)) <= precision.LAYER_NORM[FP32]


def test_a_million_columns_keep_the_accuracy(package: ModuleType) -> None:
    x = torch.randn(2, 2**20) * 3.0 + 0.5
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    assert precision.relative_error(out, exact(x, None, None)) <= 2e-7


def test_fp64_is_computed_in_fp64(package: ModuleType) -> None:
    x = torch.randn(8, 129, dtype=torch.float64)
    weight, bias = torch.randn(2, 129, dtype=torch.float64)
    out = package.layer_norm(torch.empty_like(x), x, weight, bias, 1e-5)
    torch.testing.assert_close(out, exact(x, weight, bias, 1e-5), atol=1e-13, rtol=1e-12)


@DTYPES
def test_nan_and_infinity_stay_in_their_row(package: ModuleType, dtype: torch.dtype) -> None:
    x = torch.randn(4, 40).to(dtype)
    x[1, 3] = float("nan")
    x[2, 39] = float("inf")
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    assert out[1:3].isnan().all()
    assert out[0].isfinite().all()
    assert out[3].isfinite().all()


@DTYPES
def test_the_largest_finite_rows_give_no_nan(package: ModuleType, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    x = torch.full((2, 4096), largest, dtype=dtype)
    x[1, ::2] = -largest
    out = package.layer_norm(torch.empty_like(x), x, None, None, EPS)
    assert (out[0] == 0.0).all()
    assert not out[1].isnan().any()


def test_a_constant_row_becomes_the_bias(package: ModuleType) -> None:
    x = torch.full((3, 17), 5.25)
    weight, bias = torch.randn(2, 17)
    out = package.layer_norm(torch.empty_like(x), x, weight, bias, 1e-5)
    assert torch.equal(out, bias.expand(3, 17))


@DTYPES
@pytest.mark.parametrize("cols", [7, 384, 4097])
def test_a_row_gives_the_same_bits_alone_and_in_a_batch(
    package: ModuleType, cols: int, dtype: torch.dtype
) -> None:
    x = torch.randn(4096 if cols < 4096 else 64, cols).to(dtype)
    weight, bias = torch.randn(2, cols).to(dtype)
    batch = package.layer_norm(torch.empty_like(x), x, weight, bias, 1e-5)
    for row in (0, 1, 31, x.shape[0] - 1):
        alone = package.layer_norm(
            torch.empty(1, cols, dtype=dtype), x[row : row + 1], weight, bias
        )
        assert torch.equal(alone[0], batch[row])
