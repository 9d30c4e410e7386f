# SPDX-License-Identifier: Apache-2.0
"""Results of many MiB, which CPU kernels write past the caches: the bits of the same rows in small
calls, and not a byte beside them."""

from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest
import torch
from precision import FP32

EPS = 1e-6
BYTES = 20 << 20
# Rows end inside a line, in float32 after an odd number of lines; only in the first place all of
# them start at one, which writing past the caches asks for.
COLS, PITCH = 1043, 1056
PLACES = ((PITCH, 0), (PITCH, 1), (PITCH, 4), (COLS + 2, 0))
SMALL = 64
DTYPES = pytest.mark.parametrize("dtype", [FP32, torch.bfloat16, torch.float16], ids=str)


@pytest.fixture(scope="module")
def rmsnorm(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rmsnorm")


@pytest.fixture(scope="module")
def layer_norm(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


@pytest.fixture(scope="module")
def activation(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("activation")


@pytest.fixture(scope="module")
def relu(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("relu")


@pytest.fixture(scope="module")
def rotary(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rotary")


def new_rows(count: int, pitch: int, shift: int, dtype: torch.dtype = FP32) -> torch.Tensor:
    return torch.full((count * pitch + shift,), torch.nan, dtype=dtype)[shift:].view(count, pitch)


def check(write: Callable[..., object], place: tuple[int, int], *inputs: torch.Tensor) -> None:
    """`write(out, *inputs)` over all rows at once, and over a few of them at a time."""
    count, dtype = len(inputs[0]), inputs[0].dtype
    buffer = new_rows(count, *place, dtype)
    write(buffer[:, :COLS], *inputs)
    assert bool(buffer[:, COLS:].isnan().all())
    for first in (0, count // 2, count - SMALL):
        few = slice(first, first + SMALL)
        small = new_rows(SMALL, PITCH, 0, dtype)
        write(small[:, :COLS], *(one[few] for one in inputs))
        assert torch.equal(small[:, :COLS], buffer[few, :COLS])


def check_in_place(
    write: Callable[[torch.Tensor, torch.Tensor], object], dtype: torch.dtype = FP32
) -> None:
    """`write(x, x)` gives what a tensor of its own gets."""
    rows = BYTES // (COLS * dtype.itemsize)
    x, out = torch.randn(rows, PITCH).to(dtype), torch.empty(rows, PITCH, dtype=dtype)
    write(out[:, :COLS], x[:, :COLS])
    write(x[:, :COLS], x[:, :COLS])
    assert torch.equal(x[:, :COLS], out[:, :COLS])


def normal(dtype: torch.dtype, cols: int = COLS) -> torch.Tensor:
    """Rows of COLS results of many MiB take this input, or one of 2 * COLS columns."""
    return torch.randn(BYTES // (COLS * dtype.itemsize), cols).to(dtype)


@DTYPES
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_rms_norm(rmsnorm: ModuleType, place: tuple[int, int], dtype: torch.dtype) -> None:
    weight = torch.randn(COLS).to(dtype)

    def write(out: torch.Tensor, x: torch.Tensor) -> None:
        rmsnorm.rms_norm(out, x, weight, EPS)

    check(write, place, normal(dtype))
    check_in_place(write, dtype)


def check_results(compute: Callable[..., tuple[torch.Tensor, ...]], *inputs: torch.Tensor) -> None:
    """`compute(*inputs)`, all of whose results are rows, as `check` does."""
    results = compute(*inputs)
    for first in (0, len(inputs[0]) // 2, len(inputs[0]) - SMALL):
        few = slice(first, first + SMALL)
        for small, all_rows in zip(compute(*(one[few] for one in inputs)), results, strict=True):
            assert torch.equal(small, all_rows[few])


# Results that an op allocates are contiguous. Rows of whole lines; of lines and a half in 16 bits;
# of no whole vectors; of whole pages.
WIDTHS = pytest.mark.parametrize("cols", [PITCH, 1040, COLS, 2048])
# What is stored past the caches depends on whether both dtypes are the same.
WEIGHTS = pytest.mark.parametrize("weight_dtype", [None, FP32], ids=["same", "fp32"])


@DTYPES
@WIDTHS
@WEIGHTS
def test_rms_norm_of_a_sum(
    rmsnorm: ModuleType, cols: int, weight_dtype: torch.dtype | None, dtype: torch.dtype
) -> None:
    weight = torch.randn(cols).to(weight_dtype or dtype)
    x, residual = normal(dtype, cols), normal(dtype, cols)
    for casting in ("llama", "gemma"):

        def compute(*inputs: torch.Tensor, casting: str = casting) -> tuple[torch.Tensor, ...]:
            return tuple(rmsnorm.ops.fused_add_rms_norm_fwd(*inputs, weight, EPS, 0.0, casting))

        check_results(compute, x, residual)
    same = weight.to(dtype)
    out, total, _ = rmsnorm.ops.fused_add_rms_norm_fwd(x, residual, same, EPS, 0.0, "llama")
    assert torch.equal(total, x + residual)
    rmsnorm.fused_add_rms_norm(x, residual, same, EPS)
    assert torch.equal(x, out)
    assert torch.equal(residual, total)


@DTYPES
def test_rms_norm_of_a_sum_in_rows_too_wide_to_be_kept(
    rmsnorm: ModuleType, dtype: torch.dtype
) -> None:
    cols = 10000
    x, residual = torch.randn(2, BYTES // (cols * dtype.itemsize), cols).to(dtype)
    weight = torch.randn(cols).to(dtype)

    def compute(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(rmsnorm.ops.fused_add_rms_norm_fwd(*inputs, weight, EPS, 0.0, "llama"))

    check_results(compute, x, residual)
    assert torch.equal(compute(x, residual)[1], x + residual)


@DTYPES
@WIDTHS
@WEIGHTS
def test_gradient_of_rms_norm(
    rmsnorm: ModuleType, cols: int, weight_dtype: torch.dtype | None, dtype: torch.dtype
) -> None:
    weight = torch.randn(cols).to(weight_dtype or dtype)
    x, grad = normal(dtype, cols), normal(dtype, cols)
    rstd = torch.rsqrt(x.float().pow(2).mean(-1) + EPS)

    def grad_x(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, factors = inputs[:2], inputs[2]
        return (rmsnorm.ops.rms_norm_bwd(*rows, weight, factors, EPS, 0.0, True, True)[0],)

    check_results(grad_x, grad, x, rstd)


@DTYPES
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_layer_norm(layer_norm: ModuleType, place: tuple[int, int], dtype: torch.dtype) -> None:
    weight, bias = torch.randn(2, COLS).to(dtype)

    def write(out: torch.Tensor, x: torch.Tensor) -> None:
        layer_norm.layer_norm(out, x, weight, bias, EPS)

    check(write, place, normal(dtype))
    check_in_place(write, dtype)


@DTYPES
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradient_of_layer_norm(
    layer_norm: ModuleType, place: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = torch.randn(COLS).to(dtype)

    def write(out: torch.Tensor, grad: torch.Tensor, x: torch.Tensor) -> None:
        sums = torch.empty_like(weight), torch.empty_like(weight)
        layer_norm.ops.layer_norm_backward(out, *sums, grad, x, weight, EPS)

    check(write, place, normal(dtype), normal(dtype))


@DTYPES
@pytest.mark.parametrize("sum_dtype", [None, FP32], ids=["same", "fp32"])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_norm_of_a_sum(
    layer_norm: ModuleType,
    place: tuple[int, int],
    sum_dtype: torch.dtype | None,
    dtype: torch.dtype,
) -> None:
    weight, bias = torch.randn(2, COLS).to(dtype)
    neither_dropout_nor_more = (*(None,) * 7, 0.0, EPS, 1.0, False)

    def write(
        outs: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, residual: torch.Tensor
    ) -> None:
        layer_norm.ops.dropout_add_norm(
            *(outs[0], None, outs[1], *(None,) * 4, x, None, residual, weight, bias),
            *neither_dropout_nor_more,
        )

    def like(rows: torch.Tensor) -> torch.Tensor:
        return new_rows(len(rows), PITCH, 0, rows.dtype)[:, :COLS]

    x = normal(dtype)
    residual = torch.randn(x.shape).to(sum_dtype or dtype)
    check(lambda out, x, residual: write((out, like(residual)), x, residual), place, x, residual)
    # Both results at the same place of their pages, and not.
    for shift in (0, 64):
        size = x.numel() * x.itemsize
        room = torch.empty(
            size + residual.numel() * residual.itemsize + 3 * 4096, dtype=torch.uint8
        )
        first = -room.data_ptr() % 64
        second = first + size + -size % 4096 + shift
        out = room[first : first + size].view(dtype).view(x.shape)
        total = room[second : second + residual.numel() * residual.itemsize].view(residual.dtype)
        write((out, total.view(x.shape)), x, residual)
        few = slice(0, SMALL)
        small = like(x[few]), like(residual[few])
        write(small, x[few], residual[few])
        assert torch.equal(small[0], out[few])
        assert torch.equal(small[1], total.view(x.shape)[few])
    check(lambda out, residual, x: write((like(x), out), x, residual), place, residual, x)


@DTYPES
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradient_of_the_norm_of_a_sum(
    layer_norm: ModuleType, place: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = torch.randn(COLS).to(dtype)
    mask = torch.ones(BYTES // (COLS * dtype.itemsize), COLS, dtype=torch.uint8)

    def write(
        which: int, out: torch.Tensor, grad: torch.Tensor, x: torch.Tensor, kept: torch.Tensor
    ) -> None:
        outs = [torch.empty_like(out) if i != which else out for i in range(3)]
        layer_norm.ops.dropout_add_norm_backward(
            *(*outs, *(None,) * 5, grad, None, None, x, None, kept, kept, None, None),
            *(weight, None, None, None, None, None, 0.5, EPS, 1.0, False),
        )

    for which in range(3):
        check(partial(write, which), place, normal(dtype), normal(dtype), mask)


@DTYPES
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("op", ["silu", "gelu_fast"])
def test_an_activation(
    activation: ModuleType, op: str, place: tuple[int, int], dtype: torch.dtype
) -> None:
    check(getattr(activation, op), place, normal(dtype))


@DTYPES
@pytest.mark.parametrize("op", ["silu", "gelu_fast"])
def test_an_activation_in_place(activation: ModuleType, op: str, dtype: torch.dtype) -> None:
    check_in_place(getattr(activation, op), dtype)


@DTYPES
@pytest.mark.parametrize("op", ["mul_and_silu", "fatrelu_and_mul"])
def test_a_gated_activation(activation: ModuleType, op: str, dtype: torch.dtype) -> None:
    check(getattr(activation, op), PLACES[0], normal(dtype, 2 * COLS))
    check(getattr(activation, op), PLACES[-1], normal(dtype, 2 * COLS))


@DTYPES
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradient_of_an_activation(
    activation: ModuleType, place: tuple[int, int], dtype: torch.dtype
) -> None:
    backward = activation.ops.silu_backward
    check(backward, place, normal(dtype), normal(dtype))
    grad = normal(dtype, PITCH)
    check_in_place(lambda out, x: backward(out, grad[:, :COLS], x), dtype)


@DTYPES
@pytest.mark.parametrize("op", ["silu_and_mul_backward", "fatrelu_and_mul_backward"])
@pytest.mark.parametrize("cols", [1024, 1027, 1032, 1040])
def test_gradient_of_a_gated_activation(
    activation: ModuleType, cols: int, op: str, dtype: torch.dtype
) -> None:
    """The second half starts at a line, or inside one; in float32 of 1024 columns a page on."""
    rows = BYTES // (2 * cols * dtype.itemsize)
    grad, x = torch.randn(rows, cols).to(dtype), torch.randn(rows, 2 * cols).to(dtype)
    out = torch.full_like(x, torch.nan)
    rest = (0.25,) if op.startswith("fatrelu") else ()
    backward = getattr(activation.ops, op)
    backward(out, grad, x, *rest)
    for first in (0, rows // 2, rows - SMALL):
        few = slice(first, first + SMALL)
        small = torch.full_like(x[few], torch.nan)
        backward(small, grad[few], x[few], *rest)
        assert torch.equal(small, out[few])
    backward(x, grad, x, *rest)
    assert torch.equal(x, out)


@pytest.mark.parametrize("dtype", [FP32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_relu(relu: ModuleType, place: tuple[int, int], dtype: torch.dtype) -> None:
    check(relu.ops.relu, place, normal(dtype))
    check(relu.ops.relu_backward, place, normal(dtype), normal(dtype))
    check_in_place(relu.ops.relu, dtype)


HEADS = 5


def rotate(
    ops: ModuleType, interleaved: bool, out: torch.Tensor, x: torch.Tensor, *tables: torch.Tensor
) -> None:
    """All of a row but its last columns, which are copied."""
    turned = 2 * tables[0].shape[-1]
    ops.rotary_embedding_out(out, None, x, None, *tables, None, turned, interleaved, False, 1)


# Columns, those rotated, and from row to row: whole lines; a second half inside a line in 16 bits,
# and columns that are copied; rows that start inside a line.
@DTYPES
@pytest.mark.parametrize("table_dtype", [None, FP32], ids=["same", "fp32"])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("place", [(128, 128, 128, 0), (136, 96, 160, 0), (128, 128, 130, 1)])
def test_rotation(
    rotary: ModuleType,
    place: tuple[int, int, int, int],
    interleaved: bool,
    table_dtype: torch.dtype | None,
    dtype: torch.dtype,
) -> None:
    cols, turned, pitch, shift = place
    tokens = BYTES // (HEADS * turned * dtype.itemsize)
    x = torch.randn(tokens, HEADS, cols).to(dtype)
    tables = torch.randn(2, tokens, turned // 2).to(table_dtype or dtype)
    buffer = new_rows(tokens * HEADS, pitch, shift, dtype).view(tokens, HEADS, pitch)
    out = buffer[..., :cols]
    rotate(rotary.ops, interleaved, out, x, *tables)
    assert bool(buffer[..., cols:].isnan().all())
    for first in (0, tokens // 2, tokens - SMALL):
        few = slice(first, first + SMALL)
        small = torch.full_like(x[few], torch.nan)
        rotate(rotary.ops, interleaved, small, x[few], *tables[:, few])
        assert torch.equal(small, out[few])
    rotary.ops.rotary_embedding(x, None, *tables, None, turned, interleaved, False, 1)
    assert torch.equal(x, out)


@DTYPES
@pytest.mark.parametrize("places", [(0, 0), (0, 1)])
def test_rotation_of_halves_apart(
    rotary: ModuleType, places: tuple[int, int], dtype: torch.dtype
) -> None:
    """Rows end inside a line; both halves start at one, or not."""
    cols, pitch = 72, 96
    tokens = BYTES // (HEADS * cols * dtype.itemsize)
    x1, x2 = torch.randn(2, tokens, HEADS, cols).to(dtype)
    cos, sin = torch.randn(2, tokens, 1, cols).to(dtype)
    buffers = [
        new_rows(tokens * HEADS, pitch, place, dtype).view(tokens, HEADS, pitch) for place in places
    ]
    out = [buffer[..., :cols] for buffer in buffers]
    rotary.ops.apply_rotary(x1, x2, cos, sin, *out, True)
    for buffer in buffers:
        assert bool(buffer[..., cols:].isnan().all())
    for first in (0, tokens // 2, tokens - SMALL):
        few = slice(first, first + SMALL)
        small = torch.full_like(x1[few], torch.nan), torch.full_like(x2[few], torch.nan)
        rotary.ops.apply_rotary(x1[few], x2[few], cos[few], sin[few], *small, True)
        assert torch.equal(small[0], out[0][few])
        assert torch.equal(small[1], out[1][few])
