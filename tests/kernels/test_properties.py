# SPDX-License-Identifier: Apache-2.0
"""Properties of every op of activation and relu, forward and backward, over the grid of shapes, row
layouts and dtypes: a result depends on nothing but its own element, and nothing else is written."""

import itertools
import random
import re
from collections.abc import Callable, Iterator
from types import ModuleType

import activation_reference as reference
import grid
import precision
import pytest
import torch

UNARY = (*reference.UNARY, "relu")
FORWARD = (*reference.ALL, "relu")
OPS = (*FORWARD, *(f"{op}_backward" for op in FORWARD))
ELEMENTS = 4 * 2**20
SLOW_ELEMENTS = 32 * 2**20

Run = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def run(load_package: Callable[[str], ModuleType]) -> Run:
    """run(op, out, *inputs) -> out, by the raw op."""
    packages = {name: load_package(name) for name in ("activation", "relu")}

    def call(op: str, out: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        package = packages["relu" if op.startswith("relu") else "activation"]
        extra = (0.25,) if op.startswith("fatrelu") else ()
        getattr(package.ops, op)(out, *inputs, *extra)
        return out

    return call


def widths(op: str, cols: int) -> tuple[int, ...]:
    """Columns of the output and of each input of `op`, for `cols` elements of a forward result."""
    is_backward = op.endswith("_backward")
    wide = cols if op.removesuffix("_backward") in UNARY else 2 * cols
    return (wide, cols, wide) if is_backward else (cols, wide)


def as_columns(tensor: torch.Tensor, cols: int, part: slice) -> torch.Tensor:
    """[n, 1] or, of a tensor with two halves, [n, 2]: one row an element."""
    halves = tensor.split(cols, dim=1) if cols else (tensor,)
    return torch.stack([half.reshape(-1)[part] for half in halves], dim=1)


def check_case(run: Run, op: str, rows: int, cols: int, layout: str, dtype: torch.dtype) -> None:
    width, *input_widths = widths(op, cols)
    inputs = [grid.random_rows(rows, w, layout, dtype) for w in input_widths]
    before = [tensor.clone() for tensor in inputs]
    out, buffer = grid.placed(rows, width, layout, dtype)
    run(op, out, *inputs)
    dense = run(op, torch.empty(rows, width, dtype=dtype), *before)
    assert precision.same_bits(out.contiguous(), dense).all(), "the layout changed a bit"
    if rows and cols:
        for part in (slice(0, 2048), slice(max(rows * cols - 64, 0), None)):
            single = [as_columns(tensor, cols, part) for tensor in inputs]
            expected = as_columns(out, cols, part)
            alone = run(op, torch.empty_like(expected), *single)
            assert precision.same_bits(alone, expected).all(), "a neighbour changed a bit"
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True)), "an input changed"
    out.fill_(grid.CANARY)
    assert (buffer == grid.CANARY).all(), "memory outside the output was written"


@pytest.mark.parametrize(
    ("op", "cols", "rows", "layout", "dtype"),
    grid.pairwise(OPS, grid.COLS, grid.ROWS, grid.LAYOUTS, grid.DTYPES),
)
def test_an_element_depends_on_nothing_else(
    run: Run, op: str, cols: int, rows: int, layout: str, dtype: torch.dtype
) -> None:
    check_case(run, op, min(rows, ELEMENTS // cols), cols, layout, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", grid.DTYPES)
@pytest.mark.parametrize("layout", grid.LAYOUTS)
@pytest.mark.parametrize("op", OPS)
def test_an_element_depends_on_nothing_else_on_the_whole_grid(
    run: Run, op: str, layout: str, dtype: torch.dtype
) -> None:
    for rows, cols in itertools.product(grid.ROWS, grid.COLS):
        check_case(run, op, min(rows, SLOW_ELEMENTS // cols), cols, layout, dtype)


@pytest.mark.parametrize("dtype", grid.DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_a_row_gives_the_same_bits_alone_in_a_batch_and_again(
    run: Run, op: str, dtype: torch.dtype
) -> None:
    width, *input_widths = widths(op, 129)
    inputs = [torch.randn(4096, w).to(dtype) for w in input_widths]
    batch = run(op, torch.empty(4096, width, dtype=dtype), *inputs)
    for row in (0, 1, 4095):
        alone = run(op, torch.empty(1, width, dtype=dtype), *(t[row : row + 1] for t in inputs))
        assert precision.same_bits(alone[0], batch[row]).all()
    few = [tensor[:40] for tensor in inputs]
    for _ in range(20):
        again = run(op, torch.empty(40, width, dtype=dtype), *few)
        assert precision.same_bits(again, batch[:40]).all()


def random_tensor(
    choose: random.Random, sizes: list[int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """A view of a fresh buffer with random strides and start, and where its elements lie there."""
    strides, pitch = [], 1
    for size in reversed(sizes):
        strides.insert(0, pitch)
        pitch *= max(size, 1)
        pitch += choose.choice((0, 0, 0, 1, 5))
    if strides and choose.random() < 0.15:
        i = choose.randrange(len(strides))
        strides[i] = choose.choice((0, 1, 2, 3, strides[i] * 2))
    start = choose.randrange(4)
    extent = start + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True) if n) + 5
    values = torch.randn(extent, generator=torch.Generator().manual_seed(choose.getrandbits(32)))
    buffer = values.mul(4).to(dtype)
    where = torch.arange(extent).as_strided(sizes, strides, start)
    return buffer.as_strided(sizes, strides, start), where


def is_row_layout(tensor: torch.Tensor) -> bool:
    """Unit stride in the last dimension, and one row stride for all others together."""
    if tensor.numel() == 0:
        return True
    if tensor.dim() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        return False
    leading = [(n, s) for n, s in zip(tensor.shape, tensor.stride(), strict=True)][:-1]
    leading = [(n, s) for n, s in leading if n > 1]
    return all(s == inner_n * inner_s for (_, s), (inner_n, inner_s) in itertools.pairwise(leading))


def random_calls(op: str, count: int, seed: int) -> Iterator[tuple[bool, bool, list[torch.Tensor]]]:
    """(is valid, shares memory, tensors of one call); the memory of an output is its own or that of
    the last input."""
    choose = random.Random(f"{op} {seed}")
    gated = op.removesuffix("_backward") not in UNARY
    supported = list(grid.DTYPES)
    for _ in range(count):
        rank = choose.choice((0, 1, 1, 2, 2, 2, 3, 4))
        sizes = [choose.choice((0, 1, 2, 3, 5)) for _ in range(rank)]
        if rank:
            sizes[-1] = choose.choice((0, 1, 2, 3, 8, 17, 40))
        dtype = choose.choice(supported)
        shapes = [[*sizes[:-1], sizes[-1] * w] if rank else [] for w in widths(op, 1)]
        is_valid = not (gated and rank == 0)
        dtypes = [dtype] * len(shapes)
        if choose.random() < 0.2:
            is_valid = False
            i = choose.randrange(len(shapes))
            dtypes[i] = choose.choice([d for d in (*supported, torch.int32) if d != dtype])
        if choose.random() < 0.2:
            i = choose.randrange(len(shapes))
            changed = [*shapes[i], 1] if choose.random() < 0.3 else [n + 1 for n in shapes[i]]
            is_valid = is_valid and changed == shapes[i]
            shapes[i] = changed
        pairs = [random_tensor(choose, s, d) for s, d in zip(shapes, dtypes, strict=True)]
        tensors = [tensor for tensor, _ in pairs]
        shares = choose.random() < 0.2 and shapes[0] == shapes[-1] and dtypes[0] == dtypes[-1]
        if shares:
            tensors[0] = tensors[-1]
        is_valid = is_valid and all(is_row_layout(tensor) for tensor in tensors)
        where = pairs[-1 if shares else 0][1]
        is_valid = is_valid and where.unique().numel() == where.numel()
        yield is_valid, shares, tensors


def check_random_calls(run: Run, op: str, count: int, seed: int) -> None:
    package = "relu" if op.startswith("relu") else "activation"
    kinds = set()
    for is_valid, shares, tensors in random_calls(op, count, seed):
        out, *inputs = tensors
        description = [(t.dtype, t.shape, t.stride(), t.storage_offset()) for t in tensors]
        copies = [tensor.contiguous().clone() for tensor in inputs]
        memory = torch.as_strided(
            out, (out.untyped_storage().nbytes() // out.element_size(),), (1,), 0
        )
        before = memory.clone()
        kinds.add(is_valid)
        try:
            run(op, out, *inputs)
        except RuntimeError as failure:
            text = str(failure).splitlines()[0]
            assert re.match(rf"{package}\.{op}: .*: expected .*, got ", text), text
            assert not is_valid, (description, text)
            assert precision.same_bits(memory, before).all() if out.is_floating_point() else True
            continue
        assert is_valid, description
        expected = run(op, torch.empty(out.shape, dtype=out.dtype), *copies)
        assert precision.same_bits(out.contiguous(), expected).all(), description
        if not shares:
            before.as_strided(out.shape, out.stride(), out.storage_offset()).copy_(expected)
            assert precision.same_bits(memory, before).all(), description
    assert kinds == {True, False}


@pytest.mark.parametrize("op", OPS)
def test_random_calls_compute_or_name_what_is_wrong(run: Run, op: str) -> None:
    check_random_calls(run, op, count=500, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_ten_thousand_random_calls(run: Run, op: str) -> None:
    check_random_calls(run, op, count=10_000, seed=1)


@pytest.mark.parametrize("op", OPS)
def test_arguments_of_other_kinds_only_raise(run: Run, op: str) -> None:
    count = len(widths(op, 1))
    good = [torch.zeros(2, 8) for _ in range(count)]
    bad = (
        None,
        1.0,
        "text",
        [],
        torch.zeros(2, 8).to_sparse(),
        torch.zeros(2, 8, dtype=torch.complex64),
        torch.zeros(2, 8, dtype=torch.float8_e4m3fn),
        torch.zeros(2, 8, device="meta"),
        torch.zeros(2, 8, dtype=torch.bool),
    )
    for position, value in itertools.product(range(count), bad):
        arguments = [*good[:position], value, *good[position + 1 :]]
        with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
            run(op, *arguments)
    with pytest.raises((RuntimeError, TypeError)):
        run(op, *good[:-1])


@pytest.mark.parametrize("op", FORWARD)
def test_fp32_values_of_every_magnitude_agree_with_fp64(run: Run, op: str) -> None:
    # All bf16 patterns as fp32: subnormals, both zeros, every exponent, infinities and NaNs.
    x = precision.all_patterns(torch.bfloat16).float()
    if op not in UNARY:
        ones = torch.ones_like(x)
        x = torch.stack([ones, x] if op == "mul_and_silu" else [x, ones], dim=1)
    shape = (*x.shape[:-1], 1) if op not in UNARY else x.shape
    result = run(op, torch.empty(shape), x).double()
    expected = run(op, torch.empty(shape, dtype=torch.float64), x.double())
    # The eager formula decides where a value is infinite in fp32 already.
    expected = expected.float().double()
    absolute, relative = precision.UPSTREAM[torch.float32]
    finite = x.isfinite().all(dim=1) if op not in UNARY else x.isfinite()
    torch.testing.assert_close(result[finite], expected[finite], atol=absolute, rtol=relative)
    nan = x.isnan().any(dim=1) if op not in UNARY else x.isnan()
    assert result[nan].isnan().all()
