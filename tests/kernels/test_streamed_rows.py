# SPDX-License-Identifier: Apache-2.0
"""Results of many MiB, which the CPU kernels of the norms write past the caches: the bits of the
same rows in small calls, and not a byte beside them."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from precision import BF16, FP16, FP32

EPS = 1e-6
# Rows end inside a vector; the pitch is whole vectors, which writing past the caches asks for.
COLS, PITCH = 1027, 1040
SMALL = 64


@pytest.fixture(scope="module")
def rmsnorm(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rmsnorm")


@pytest.fixture(scope="module")
def layer_norm(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def row_count(dtype: torch.dtype) -> int:
    """Rows of 20 MiB."""
    return (20 << 20) // (COLS * dtype.itemsize)


def new_rows(count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((count, PITCH), float("nan"), dtype=dtype)


def check(write: Callable[..., object], dtype: torch.dtype, *inputs: torch.Tensor) -> None:
    """`write(out, *inputs)` over all rows at once, and over a few of them at a time."""
    rows = len(inputs[0])
    buffer = new_rows(rows, dtype)
    write(buffer[:, :COLS], *inputs)
    assert bool(buffer[:, COLS:].isnan().all())
    for first in (0, rows // 2, rows - SMALL):
        few = slice(first, first + SMALL)
        small = new_rows(SMALL, dtype)
        write(small[:, :COLS], *(one[few] for one in inputs))
        assert torch.equal(small[:, :COLS], buffer[few, :COLS])


def drawn(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(row_count(dtype), COLS).to(dtype)


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_rms_norm(rmsnorm: ModuleType, dtype: torch.dtype) -> None:
    weight = torch.randn(COLS).to(dtype)
    check(lambda out, x: rmsnorm.rms_norm(out, x, weight, EPS), dtype, drawn(dtype))


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_gradient_of_rms_norm(rmsnorm: ModuleType, dtype: torch.dtype) -> None:
    # Its results are contiguous: rows of whole vectors.
    rows = (20 << 20) // (PITCH * dtype.itemsize)
    weight = torch.randn(PITCH).to(dtype)
    x, grad = (torch.randn(rows, PITCH).to(dtype) for _ in range(2))
    rstd = torch.rsqrt(x.float().pow(2).mean(-1) + EPS)

    def grad_x(few: slice) -> torch.Tensor:
        arguments = (grad[few], x[few], weight, rstd[few], EPS, 0.0, True, True)
        result: torch.Tensor = rmsnorm.ops.rms_norm_bwd(*arguments)[0]
        return result

    result = grad_x(slice(None))
    for first in (0, rows // 2, rows - SMALL):
        few = slice(first, first + SMALL)
        assert torch.equal(grad_x(few), result[few])


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_layer_norm(layer_norm: ModuleType, dtype: torch.dtype) -> None:
    weight, bias = torch.randn(2, COLS).to(dtype)
    check(lambda out, x: layer_norm.layer_norm(out, x, weight, bias, EPS), dtype, drawn(dtype))


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
def test_gradient_of_layer_norm(layer_norm: ModuleType, dtype: torch.dtype) -> None:
    weight = torch.randn(COLS).to(dtype)

    def write(out: torch.Tensor, grad: torch.Tensor, x: torch.Tensor) -> None:
        sums = torch.empty_like(weight), torch.empty_like(weight)
        layer_norm.ops.layer_norm_backward(out, *sums, grad, x, weight, EPS)

    check(write, dtype, drawn(dtype), drawn(dtype))
