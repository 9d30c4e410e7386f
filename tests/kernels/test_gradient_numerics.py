# SPDX-License-Identifier: Apache-2.0
"""Values of the backward ops; tests/kernels/test_isa_levels.py runs this file per ISA."""

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


def gradient(activation: ModuleType, op: str, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    out = torch.full_like(x, float("nan"))
    extra = (0.25,) if op == "fatrelu_and_mul" else ()
    getattr(activation.ops, f"{op}_backward")(out, grad, x, *extra)
    return out


def result_like(op: str, x: torch.Tensor) -> torch.Tensor:
    cols = x.shape[-1] // 2 if op in reference.GATED else x.shape[-1]
    return torch.randn(*x.shape[:-1], cols).to(x.dtype)


def exact_gradient(op: str, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What autograd makes of the formula in fp64."""
    x = x.double().requires_grad_()
    reference.eager(op, x).backward(grad.double())
    assert x.grad is not None
    return x.grad


@DTYPES
@pytest.mark.parametrize("op", reference.ALL)
def test_relative_error_keeps_the_bound_of_a_single_rounding(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    x = (2 * torch.randn(64, 2048)).to(dtype)
    grad = result_like(op, x)
    error = precision.relative_error(gradient(activation, op, grad, x), exact_gradient(op, grad, x))
    assert error <= precision.SINGLE_ROUNDING[dtype]


@HALVES
@pytest.mark.parametrize("op", reference.UNARY)
def test_every_16_bit_value_has_the_slope_of_fp64(
    activation: ModuleType, op: str, dtype: torch.dtype
) -> None:
    x = precision.all_patterns(dtype)
    x = x[x.isfinite()]
    result = gradient(activation, op, torch.ones_like(x), x)
    # Autograd of the formula gives inf * 0 where x^2 overflows; the slope there is 0 or 1.
    inside = x.double().clamp(-100.0, 100.0)
    expected = exact_gradient(op, torch.ones_like(inside), inside)
    # Half a unit of the dtype, and fp32 noise where the terms of the slope cancel (near -0.75).
    bound = expected.abs() * torch.finfo(dtype).eps / 2 + 3e-7
    assert ((result.double() - expected).abs() <= bound).all()


@pytest.mark.parametrize("op", reference.UNARY)
def test_fp32_has_the_slope_of_fp64(activation: ModuleType, op: str) -> None:
    """To fp32 noise where its terms cancel, to four ulp where they do not."""
    x = torch.cat([torch.linspace(-100.0, 100.0, 500_001), 3 * torch.randn(500_000)])
    result = gradient(activation, op, torch.ones_like(x), x)
    expected = exact_gradient(op, torch.ones_like(x), x)
    assert (result.double() - expected).abs().max() <= 3e-7
    is_sum = x >= 0
    assert precision.ulp_errors(result[is_sum], expected[is_sum]).max() <= 4.0


def test_fp32_silu_keeps_the_tail_of_its_slope(activation: ModuleType) -> None:
    """Below -88.7, where the sum overflows, it is zero."""
    x = torch.linspace(-88.7, -2.0, 1_000_001)
    result = gradient(activation, "silu", torch.ones_like(x), x)
    errors = precision.ulp_errors(result, exact_gradient("silu", torch.ones_like(x), x))
    assert errors.max() <= 8.0
    beyond = torch.linspace(-1e4, -89.0, 1001)
    assert (gradient(activation, "silu", torch.ones_like(beyond), beyond) == 0.0).all()


@DTYPES
@pytest.mark.parametrize("op", reference.ALL)
def test_special_values(activation: ModuleType, op: str, dtype: torch.dtype) -> None:
    nan, largest = float("nan"), torch.finfo(dtype).max
    tiny = torch.finfo(dtype).smallest_normal / 4
    row = torch.tensor([nan, largest, -largest, tiny, -tiny, 0.0, -0.0, 1.0] * 5, dtype=dtype)
    x = torch.stack([row, torch.ones_like(row)]).T.contiguous()
    if op == "mul_and_silu":
        x = x.flip(1).contiguous()
    if op in reference.UNARY:
        x = row[:, None]
    result = gradient(activation, op, torch.ones(len(row), 1, dtype=dtype), x)
    is_nan = row.isnan()
    assert result[is_nan].isnan().any(dim=1).all()
    assert not result[~is_nan].isnan().any()
    if op in reference.UNARY:
        ends = torch.tensor([torch.inf, -torch.inf] * 20, dtype=dtype)[:, None]
        slopes = gradient(activation, op, torch.ones_like(ends), ends)
        assert torch.equal(slopes, (ends > 0).to(dtype))
    grad = torch.ones(len(row), 1, dtype=dtype)
    grad[3] = nan
    assert gradient(activation, op, grad, torch.ones_like(x))[3].isnan().all()


@DTYPES
def test_fatrelu_passes_what_lies_above_the_threshold(
    activation: ModuleType, dtype: torch.dtype
) -> None:
    x = torch.tensor([[0.25, 0.5, -1.0, 3.0, 3.0, 3.0]], dtype=dtype)
    grad = torch.tensor([[2.0, 2.0, 2.0]], dtype=dtype)
    expected = [[0.0, 6.0, 0.0, 0.0, 1.0, 0.0]]
    assert gradient(activation, "fatrelu_and_mul", grad, x).tolist() == expected
