# SPDX-License-Identifier: Apache-2.0
"""Values of the fused op without dropout, scales and subsets: the norm of a sum;
tests/kernels/test_isa_levels.py runs this file per ISA."""

from collections.abc import Callable
from types import ModuleType

import grid
import layer_norm_reference as reference
import precision
import pytest
import torch
from precision import BF16, FP16, FP32

EPS = 1e-5
Maybe = torch.Tensor | None

# Which tensors a call brings, of which dtypes and layout. The factors of the cover.
CALLS = {
    "cols": (1, 7, 63, 64, 384, 1023, 4096, 65537),
    "dtype": (FP32, BF16, FP16),
    "layout": grid.LAYOUTS,
    "x1": (False, True),
    "residual": (False, True),
    "sum_dtype": ("same", "fp32"),
    "parameters": ("none", "weight", "bias", "both"),
    "parameter_dtype": ("same", "fp32"),
    "is_rms": (False, True),
}


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def norm_of_sum(
    package: ModuleType,
    outputs: tuple[Maybe, ...],
    addends: tuple[Maybe, ...],
    parameters: tuple[Maybe, ...],
    is_rms: bool,
) -> None:
    """Outputs: z, the sum, its mean and reciprocal deviation. Addends: x0, x1, residual."""
    z, total, *statistics = outputs
    package.ops.dropout_add_norm(
        *(z, None, total, None, None, *statistics, *addends, *parameters),
        *(*(None,) * 7, 0.0, EPS, 1.0, is_rms),
    )


def one_row(tensors: tuple[Maybe, ...], row: int) -> tuple[Maybe, ...]:
    return tuple(None if one is None else one[row : row + 1] for one in tensors)


@pytest.mark.parametrize("case", grid.pairwise(*CALLS.values()), ids=str)
def test_values_keep_the_tolerance_table(package: ModuleType, case: tuple[object, ...]) -> None:
    call = dict(zip(CALLS, case, strict=True))
    dtype, cols, layout, is_rms = (call[key] for key in ("dtype", "cols", "layout", "is_rms"))
    sum_dtype = FP32 if call["sum_dtype"] == "fp32" else dtype
    parameter_dtype = FP32 if call["parameter_dtype"] == "fp32" else dtype
    rows = 40 if cols < 65537 else 3
    addends = (
        grid.random_rows(rows, cols, layout, dtype),
        grid.random_rows(rows, cols, layout, dtype) if call["x1"] else None,
        grid.random_rows(rows, cols, layout, sum_dtype) if call["residual"] else None,
    )
    parameters = tuple(
        torch.randn(cols).to(parameter_dtype) if call["parameters"] in (name, "both") else None
        for name in ("weight", "bias")
    )
    (z, z_memory), (total, sum_memory) = (
        grid.placed(rows, cols, layout, kind) for kind in (dtype, sum_dtype)
    )
    mu, rsigma = torch.full((2, rows), torch.nan)
    norm_of_sum(package, (z, total, mu, rsigma), addends, parameters, is_rms)

    exact_sum = sum(one.double() for one in addends if one is not None)
    wide = (None if one is None else one.double() for one in parameters)
    exact_z = reference.norm(exact_sum, *wide, EPS, is_rms)
    # Sums of several terms round in fp32, and few elements average no rounding.
    slack = (1.5 if cols < 64 else 1.1) * (3.0 if dtype == FP32 else 1.0)
    has_spread = cols > 1 or is_rms  # one element less its own mean is nothing but rounding
    if has_spread:
        assert precision.relative_error(z, exact_z) <= slack * precision.LAYER_NORM[dtype]
    assert precision.relative_error(total, exact_sum) <= slack * precision.LAYER_NORM[sum_dtype]
    mean = torch.zeros(rows).double() if is_rms else exact_sum.mean(-1)
    torch.testing.assert_close(mu.double(), mean, atol=1e-6, rtol=1e-6)
    variance = (exact_sum - mean[:, None]).square().mean(-1)
    if has_spread:
        torch.testing.assert_close(rsigma.double(), (variance + EPS).rsqrt(), atol=0.0, rtol=1e-5)
    for one, memory in ((z, z_memory), (total, sum_memory)):
        around = torch.full_like(memory, grid.CANARY)
        around.as_strided(one.shape, one.stride(), one.storage_offset()).copy_(one)
        assert torch.equal(memory, around)

    # The bits of a row alone, and without what nobody asks for.
    for row in (0, rows - 1):
        few = one_row(addends, row)
        (alone,) = one_row((z,), row)
        again, again_total = torch.full_like(alone, torch.nan), torch.empty(1, cols).to(sum_dtype)
        norm_of_sum(package, (again, again_total, None, None), few, parameters, is_rms)
        assert torch.equal(again, alone)
        assert torch.equal(again_total[0], total[row])
        if sum_dtype == dtype or call["residual"]:
            norm_of_sum(package, (again.fill_(torch.nan), *(None,) * 3), few, parameters, is_rms)
            assert torch.equal(again, alone)


@pytest.mark.parametrize("is_rms", [False, True])
def test_a_nan_of_fp32_is_one_in_16_bits(package: ModuleType, is_rms: bool) -> None:
    """Its last bits are more than a bf16 has room for."""
    cols = 131
    for bits in (0x7F800001, 0x7FFFFFFF, -1):
        residual = torch.zeros(2, cols)
        residual.view(torch.int32)[1, 77] = bits
        for dtype in (BF16, FP16):
            x0 = torch.randn(2, cols).to(dtype)
            z = torch.zeros_like(x0)
            norm_of_sum(package, (z, *(None,) * 3), (x0, None, residual), (None, None), is_rms)
            assert z[0].isfinite().all()
            assert z[1].isnan().all()
            weight = torch.ones(cols)
            weight.view(torch.int32)[5] = bits
            norm_of_sum(package, (z, *(None,) * 3), (x0, None, None), (weight, None), is_rms)
            assert z[:, 5].isnan().all()
            assert int(z.isnan().sum()) == 2
