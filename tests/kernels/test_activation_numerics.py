# SPDX-License-Identifier: Apache-2.0
"""Values of the activation package; tests/kernels/test_isa_levels.py runs this file per ISA."""

from collections.abc import Callable
from types import ModuleType

import activation_reference as reference
import precision
import pytest
import torch
from precision import BF16, FP16, FP32

HALVES = pytest.mark.parametrize("dtype", [BF16, FP16], ids=["bf16", "fp16"])
DTYPES = pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=["fp32", "bf16", "fp16"])


@pytest.fixture(scope="module")
def activation(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("activation")


def run(activation: ModuleType, op: str, x: torch.Tensor) -> torch.Tensor:
    cols = x.shape[-1] // 2 if op in reference.GATED else x.shape[-1]
    out = torch.full((*x.shape[:-1], cols), float("nan"), dtype=x.dtype)
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    return getattr(activation, op)(out, x, *extra)


@HALVES
@pytest.mark.parametrize("op", reference.SINGLE_ROUNDING)
def test_every_16_bit_value_is_that_of_exact_fp32_rounded(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    """Half a unit in the last place, and what rounding to fp32 before can add to it."""
    x = precision.all_patterns(dtype)
    result = run(activation, op, x)
    expected = reference.exact(op, x)
    finite = x.isfinite()
    assert precision.ulp_errors(result[finite], expected[finite]).max() <= 0.5 + 2e-4
    assert result[x.isnan()].isnan().all()
    assert not result[finite].isnan().any()


@HALVES
@pytest.mark.parametrize("op", reference.STEPWISE)
def test_stepwise_ops_follow_their_rounding_points_on_every_16_bit_value(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    x = precision.all_patterns(dtype)
    result = run(activation, op, x)
    expected = reference.stepwise(op, x, reference.rounding_to(dtype))
    same = precision.same_bits(result, expected)
    assert same.float().mean() >= 0.999
    absolute, relative = precision.UPSTREAM[dtype]
    composed = reference.eager(op, x)
    torch.testing.assert_close(result, composed, atol=absolute, rtol=relative, equal_nan=True)


def test_fp32_gelu_is_within_four_ulp_where_it_rounds_most(activation: ModuleType) -> None:
    """All values of [-1, -1/8]: samples miss the few that are worst."""
    first, last = (torch.tensor(x).view(torch.int32).item() for x in (-0.125, -1.0))
    x = torch.arange(first, last + 1, dtype=torch.int32).view(FP32)
    errors = precision.ulp_errors(run(activation, "gelu", x), reference.exact("gelu", x))
    assert errors.max() <= 4.0


@pytest.mark.parametrize("op", reference.UNARY)
def test_fp32_is_within_four_ulp_away_from_cancellation(activation: ModuleType, op: str) -> None:
    x = torch.cat([torch.linspace(-1.0, 20.0, 1_000_001), torch.randn(200_000).clamp_min(-1.0)])
    errors = precision.ulp_errors(run(activation, op, x), reference.without_rounding(op, x))
    assert errors.max() <= 4.0


def test_fp32_silu_is_within_the_documented_error_everywhere(activation: ModuleType) -> None:
    """It has no cancellation. What underflows with the sum, below -88.7, is zero. The single values
    are the worst ones with AVX-512, AVX2 and neither, which samples miss."""
    worst = torch.tensor([-66.5880661, -21.0862617, -16.6814098])
    x = torch.cat([torch.linspace(-88.7, -1.0, 1_000_001), worst])
    exact = reference.exact("silu", x)
    is_normal = exact.abs() >= torch.finfo(FP32).tiny
    errors = precision.ulp_errors(run(activation, "silu", x), exact)
    assert errors[is_normal].max() <= 3.2


@pytest.mark.parametrize("op", reference.UNARY)
def test_fp32_is_within_upstream_bounds_everywhere(activation: ModuleType, op: str) -> None:
    x = torch.cat([torch.linspace(-200.0, 200.0, 400_001), torch.randn(100_000)])
    expected = reference.without_rounding(op, x)
    absolute, relative = precision.UPSTREAM[FP32]
    torch.testing.assert_close(
        run(activation, op, x).double(), expected, atol=absolute, rtol=relative
    )


@pytest.mark.parametrize("op", reference.SINGLE_ROUNDING)
def test_fp32_keeps_the_tail_of_negative_values(activation: ModuleType, op: str) -> None:
    """A relative error that grows with the exponent alone, as its rounding makes it."""
    x = torch.linspace(-90.0, -1.0, 1_000_001)
    expected = reference.exact(op, x)
    shown = expected.abs() > 1e-30
    errors = (run(activation, op, x).double() - expected).abs() / expected.abs()
    assert errors[shown].max() <= 2e-5


@DTYPES
@pytest.mark.parametrize("op", reference.ALL)
def test_relative_error_keeps_the_tolerance_table(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    x = torch.randn(64, 4096).to(dtype)
    result = run(activation, op, x)
    if op in reference.SINGLE_ROUNDING:
        expected, bounds = reference.exact(op, x), precision.SINGLE_ROUNDING
    elif op in reference.STEPWISE:
        expected = reference.stepwise(op, x.double(), lambda value: value)
        bounds = precision.STEPWISE_OR_GATED
    else:
        expected, bounds = reference.exact_gated(op, x), precision.STEPWISE_OR_GATED
    assert precision.relative_error(result, expected) <= bounds[dtype]


@HALVES
@pytest.mark.parametrize("op", reference.GATED)
def test_gated_ops_are_within_one_ulp_of_eager_or_nearer_to_the_exact_value(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    # Eager's 1 + erf cancels for negative arguments; there it is eager that is off.
    x = torch.randn(256, 2048).to(dtype)
    result = run(activation, op, x)
    eager = reference.eager(op, x)
    exact = reference.exact_gated(op, x)
    near = precision.ulp_errors(result, eager.double()) <= 1.0
    nearer = (result.double() - exact).abs() <= (eager.double() - exact).abs()
    assert (near | nearer).all()


@HALVES
@pytest.mark.parametrize("op", reference.GATED)
def test_gated_ops_round_the_activation_before_the_product(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    x = torch.randn(256, 2048).to(dtype)
    expected = reference.exact_gated(op, x).to(dtype)
    assert precision.same_bits(run(activation, op, x), expected).float().mean() >= 0.999


@pytest.mark.parametrize("op", reference.GATED)
def test_gated_fp32_is_within_six_ulp_away_from_cancellation(
    activation: ModuleType, op: str
) -> None:
    # Four of the activation, which are up to eight of the product where that has the smaller
    # significand; in practice the two extremes do not meet.
    x = torch.randn(256, 2048).clamp_min(-1.0)
    errors = precision.ulp_errors(run(activation, op, x), reference.exact_gated(op, x))
    assert errors.max() <= 6.0
    absolute, relative = precision.UPSTREAM[FP32]
    x = torch.randn(256, 2048)
    eager = reference.eager(op, x)
    torch.testing.assert_close(run(activation, op, x), eager, atol=absolute, rtol=relative)


@pytest.mark.parametrize("op", reference.ALL)
def test_fp64_equals_the_plain_formula(activation: ModuleType, op: str) -> None:
    x = torch.randn(17, 66, dtype=torch.float64)
    torch.testing.assert_close(
        run(activation, op, x), reference.eager(op, x), atol=1e-14, rtol=1e-12
    )


@DTYPES
@pytest.mark.parametrize("op", reference.UNARY)
def test_unary_ops_keep_nan_and_take_infinities_as_eager_does(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    largest = torch.finfo(dtype).max
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), largest, -largest], dtype=dtype)
    result = run(activation, op, x)
    assert result[0].isnan()
    assert result[1] == float("inf")
    assert result[2].isnan() == reference.eager(op, x)[2].isnan()
    assert not result[3:].isnan().any()
    assert run(activation, op, torch.tensor([-0.0, 0.0], dtype=dtype)).tolist() == [0.0, 0.0]


@DTYPES
@pytest.mark.parametrize("op", reference.GATED)
def test_gated_ops_keep_nan_of_either_half(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    nan = float("nan")
    x = torch.tensor([[nan, 1.0, 2.0, 1.0, nan, 3.0]], dtype=dtype)
    result = run(activation, op, x)[0]
    assert result[0].isnan()
    assert result[1].isnan()
    assert result[2].isfinite()


@DTYPES
def test_fatrelu_is_exact_and_compares_strictly(activation: ModuleType, dtype: torch.dtype) -> None:
    x = torch.tensor([[0.25, 0.5, -1.0, -0.25, 3.0, 3.0, 3.0, 3.0]], dtype=dtype)
    assert run(activation, "fatrelu_and_mul", x).tolist() == [[0.0, 1.5, 0.0, 0.0]]
    out = torch.empty(1, 4, dtype=dtype)
    assert activation.fatrelu_and_mul(out, x).tolist() == [[0.75, 1.5, 0.0, 0.0]]


@HALVES
@pytest.mark.parametrize("op", [op for op in reference.GATED if op != "fatrelu_and_mul"])
def test_gated_16_bit_ops_multiply_exactly_what_the_unary_op_gives(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    x = torch.randn(7, 2 * 1301).to(dtype)
    first, second = x.chunk(2, -1)
    gate, factor = (second, first) if op == "mul_and_silu" else (first, second)
    act = "silu" if "silu" in op else op.removesuffix("_and_mul")
    expected = run(activation, act, gate.contiguous()).float() * factor.float()
    assert precision.same_bits(run(activation, op, x), expected.to(dtype)).all()
