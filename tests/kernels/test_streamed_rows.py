# SPDX-License-Identifier: Apache-2.0
"""Results of many MiB, which the CPU kernels of norms and of activations' gradients write past the
caches in fp32: the bits of the same rows in small calls, and not a byte beside them."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from precision import FP32

EPS = 1e-6
# Rows end inside a vector; only the first place has a pitch and addresses of whole vectors, which
# writing past the caches asks for.
COLS, PITCH = 1027, 1040
PLACES = ((PITCH, 0), (PITCH, 1), (PITCH, 4), (COLS + 2, 0))
ROWS = (20 << 20) // (COLS * FP32.itemsize)
SMALL = 64


@pytest.fixture(scope="module")
def rmsnorm(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rmsnorm")


@pytest.fixture(scope="module")
def layer_norm(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


@pytest.fixture(scope="module")
def activation(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("activation")


def new_rows(count: int, pitch: int, shift: int) -> torch.Tensor:
    return torch.full((count * pitch + shift,), float("nan"))[shift:].view(count, pitch)


def check(write: Callable[..., object], place: tuple[int, int], *inputs: torch.Tensor) -> None:
    """`write(out, *inputs)` over all rows at once, and over a few of them at a time."""
    buffer = new_rows(ROWS, *place)
    write(buffer[:, :COLS], *inputs)
    assert bool(buffer[:, COLS:].isnan().all())
    for first in (0, ROWS // 2, ROWS - SMALL):
        few = slice(first, first + SMALL)
        small = new_rows(SMALL, PITCH, 0)
        write(small[:, :COLS], *(one[few] for one in inputs))
        assert torch.equal(small[:, :COLS], buffer[few, :COLS])


def check_in_place(write: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
    """`write(x, x)` gives what a tensor of its own gets."""
    x, out = torch.randn(ROWS, PITCH), torch.empty(ROWS, PITCH)
    write(out[:, :COLS], x[:, :COLS])
    write(x[:, :COLS], x[:, :COLS])
    assert torch.equal(x[:, :COLS], out[:, :COLS])


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_rms_norm(rmsnorm: ModuleType, place: tuple[int, int]) -> None:
    weight = torch.randn(COLS)

    def write(out: torch.Tensor, x: torch.Tensor) -> None:
        rmsnorm.rms_norm(out, x, weight, EPS)

    check(write, place, torch.randn(ROWS, COLS))
    check_in_place(write)


def test_gradient_of_rms_norm(rmsnorm: ModuleType) -> None:
    # Its results are contiguous: rows of whole vectors.
    weight = torch.randn(PITCH)
    x, grad = torch.randn(2, ROWS, PITCH)
    rstd = torch.rsqrt(x.float().pow(2).mean(-1) + EPS)

    def grad_x(few: slice) -> torch.Tensor:
        arguments = (grad[few], x[few], weight, rstd[few], EPS, 0.0, True, True)
        result: torch.Tensor = rmsnorm.ops.rms_norm_bwd(*arguments)[0]
        return result

    result = grad_x(slice(None))
    for first in (0, ROWS // 2, ROWS - SMALL):
        few = slice(first, first + SMALL)
        assert torch.equal(grad_x(few), result[few])


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_layer_norm(layer_norm: ModuleType, place: tuple[int, int]) -> None:
    weight, bias = torch.randn(2, COLS)

    def write(out: torch.Tensor, x: torch.Tensor) -> None:
        layer_norm.layer_norm(out, x, weight, bias, EPS)

    check(write, place, torch.randn(ROWS, COLS))
    check_in_place(write)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradient_of_layer_norm(layer_norm: ModuleType, place: tuple[int, int]) -> None:
    weight = torch.randn(COLS)

    def write(out: torch.Tensor, grad: torch.Tensor, x: torch.Tensor) -> None:
        sums = torch.empty_like(weight), torch.empty_like(weight)
        layer_norm.ops.layer_norm_backward(out, *sums, grad, x, weight, EPS)

    check(write, place, torch.randn(ROWS, COLS), torch.randn(ROWS, COLS))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradient_of_an_activation(activation: ModuleType, place: tuple[int, int]) -> None:
    backward = activation.ops.silu_backward
    check(backward, place, *torch.randn(2, ROWS, COLS))
    grad = torch.randn(ROWS, PITCH)
    check_in_place(lambda out, x: backward(out, grad[:, :COLS], x))


@pytest.mark.parametrize("cols", [1024, 1027, 1032])
def test_gradient_of_a_gated_activation(activation: ModuleType, cols: int) -> None:
    """The second half starts at a whole vector, or does not."""
    rows = (20 << 20) // (2 * cols * FP32.itemsize)
    grad, x = torch.randn(rows, cols), torch.randn(rows, 2 * cols)
    out = torch.full((rows, 2 * cols), torch.nan)
    activation.ops.silu_and_mul_backward(out, grad, x)
    for first in (0, rows // 2, rows - SMALL):
        few = slice(first, first + SMALL)
        small = torch.full((SMALL, 2 * cols), torch.nan)
        activation.ops.silu_and_mul_backward(small, grad[few], x[few])
        assert torch.equal(small, out[few])
    activation.ops.silu_and_mul_backward(x, grad, x)
    assert torch.equal(x, out)
