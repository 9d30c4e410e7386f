# SPDX-License-Identifier: Apache-2.0
"""Values of the rotary package; tests/kernels/test_isa_levels.py runs this file per ISA."""

import itertools
from collections.abc import Callable
from types import ModuleType

import grid
import precision
import pytest
import rotary_reference as reference
import torch
from precision import BF16, FP16, FP32

FP64 = torch.float64
# Of what is rotated and of cos and sin.
DTYPES = [(FP32, FP32), (BF16, BF16), (BF16, FP32), (FP16, FP16), (FP16, FP32), (FP64, FP64)]
DTYPES += [(FP64, FP32)]
TYPES = pytest.mark.parametrize(("dtype", "table_dtype"), DTYPES, ids=str)

HEADS = ((1, 1), (4, 2), (9, 3))
SHAPES = ((1, 1), (2, 7), (3, 64))
WIDTHS = (2, 6, 20, 32, 80, 128, 134)
LAYOUTS = ("bhsd", "bshd", "fused", "offset_by_one", "padded")
TABLES = ("batch", "shared", "int32", "int64")
FACTORS = (DTYPES, SHAPES, HEADS, WIDTHS, LAYOUTS, TABLES, *[(False, True)] * 5)


@pytest.fixture(scope="module")
def rotary(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("rotary")


def strided(
    shape: tuple[int, int, int, int], heads: tuple[int, int], layout: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q and k [B, H, S, D] of random values in the asked layout, and the canary-filled buffer that
    holds both.
    """
    batch, _, length, width = shape
    total = sum(heads)
    pitch = width + 3 if layout == "padded" else width
    start = 1 if layout == "offset_by_one" else 0
    buffer = torch.full((start + batch * total * length * pitch + 9,), grid.CANARY, dtype=dtype)
    views = []
    begin = start
    for count in heads:
        if layout == "fused":
            steps = (length * total * pitch, pitch, total * pitch)
        elif layout == "bshd":
            steps = (length * count * pitch, pitch, count * pitch)
        else:
            steps = (count * length * pitch, length * pitch, pitch)
        size = (batch, count, length, width)
        view = buffer.as_strided(size, (*steps, 1), begin)
        views.append(view.copy_(torch.randn(size)))
        begin += count * pitch if layout == "fused" else batch * count * length * pitch
    return views[0], views[1], buffer


def like(view: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """The same view of another buffer."""
    return buffer.as_strided(view.shape, view.stride(), view.storage_offset())


def table_of(
    form: str, shape: tuple[int, int], width: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    batch, length = shape
    if form.startswith("int"):
        cos, sin = reference.tables(50, width, dtype=dtype, halves=1)
        kind = torch.int32 if form == "int32" else torch.int64
        return cos, sin, torch.randint(0, 50, (batch, length)).to(kind)
    rows = batch if form == "batch" else 1
    return *reference.tables(rows, length, width, dtype=dtype, halves=1), None


def check_case(rotary: ModuleType, case: tuple[object, ...]) -> None:
    (dtype, table_dtype), shape, heads, width, layout, form, *flags = case
    is_partial, is_half_table, interleaved, conj, has_k = flags
    rotary_dim = width // 4 * 2 if is_partial and width >= 4 else width
    table_width = rotary_dim // 2 if is_half_table else rotary_dim
    q, k, buffer = strided((shape[0], 0, shape[1], width), heads, layout, dtype)
    cos, sin, positions = table_of(form, shape, table_width, table_dtype)
    options = (positions, rotary_dim, interleaved, conj, 1)
    expected = [reference.fp32_formula(x, cos, sin, *options) for x in (q, k)]

    # Out of place: exactly the outputs are written, the inputs are not.
    before, poisoned = buffer.clone(), torch.full_like(buffer, grid.CANARY)
    outs = [like(x, poisoned) for x in (q, k)]
    arguments = (cos, sin, *options)
    k_or_none = (outs[1], q, k) if has_k else (None, q, None)
    rotary.ops.rotary_embedding_out(outs[0], *k_or_none, *arguments)
    assert torch.equal(buffer, before), "an input was written"
    for out, value in zip(outs, expected, strict=True):
        if out is outs[0] or has_k:
            assert precision.same_bits(out, value).all(), "other bits than the formula's"
            out.fill_(grid.CANARY)
    assert (poisoned == grid.CANARY).all(), "memory outside the outputs was written"

    # In place: the same bits, and nothing around them.
    rotary.ops.rotary_embedding(q, k if has_k else None, *arguments)
    like(q, before).copy_(expected[0])
    if has_k:
        like(k, before).copy_(expected[1])
    assert precision.same_bits(buffer, before).all(), "in place differs"


def test_the_grid_gives_the_bits_of_the_fp32_formula(rotary: ModuleType) -> None:
    for case in grid.pairwise(*FACTORS):
        try:
            check_case(rotary, case)
        except AssertionError as failure:
            raise AssertionError(f"{case}: {failure}") from failure


@pytest.mark.slow
def test_the_whole_grid_gives_the_bits_of_the_fp32_formula(rotary: ModuleType) -> None:
    for case in itertools.product(*FACTORS):
        check_case(rotary, case)


@TYPES
@pytest.mark.parametrize("width", [64, 128, 96])
def test_values_are_within_tolerance_of_fp64(
    rotary: ModuleType, dtype: torch.dtype, table_dtype: torch.dtype, width: int
) -> None:
    q, k = torch.randn(2, 8, 50, width).to(dtype), torch.randn(2, 2, 50, width).to(dtype)
    cos, sin = reference.tables(2, 50, width, dtype=table_dtype)
    for result, x in zip(rotary.apply_rotary_transformers(q, k, cos, sin), (q, k), strict=True):
        expected = reference.rotated(x, cos, sin)
        if dtype == FP64:
            torch.testing.assert_close(result, expected, atol=1e-15, rtol=1e-15)
            continue
        assert precision.relative_error(result, expected) <= precision.ROTARY[dtype]


@TYPES
def test_apply_rotary_gives_the_bits_of_the_fp32_formula(
    rotary: ModuleType, dtype: torch.dtype, table_dtype: torch.dtype
) -> None:
    for shape, conj in itertools.product(
        ((83, 1, 64), (5, 7, 3, 10), (1, 1), (9, 4, 1, 33)), (False, True)
    ):
        x = torch.randn(*shape[:-1], 2 * shape[-1]).to(dtype)
        x1, x2 = x.chunk(2, dim=-1)
        for lead in {shape[:-1], (1,) * (len(shape) - 1), shape[1:-1], (*shape[:-2], 1)}:
            cos, sin = reference.tables(*lead, shape[-1], dtype=table_dtype, halves=1)
            wide = FP64 if dtype == FP64 else FP32
            c, s = cos.to(wide), -sin.to(wide) if conj else sin.to(wide)
            expected1 = (x1.to(wide) * c - x2.to(wide) * s).to(dtype)
            expected2 = (x2.to(wide) * c + x1.to(wide) * s).to(dtype)
            out1, out2 = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
            rotary.apply_rotary(x1, x2, cos, sin, out1, out2, conj)
            assert torch.equal(out1, expected1)
            assert torch.equal(out2, expected2)
            place1, place2 = x.clone().chunk(2, dim=-1)
            rotary.apply_rotary(place1, place2, cos, sin, place1, place2, conj)
            assert torch.equal(place1, expected1)
            assert torch.equal(place2, expected2)


@TYPES
@pytest.mark.parametrize("interleaved", [False, True])
def test_norms_are_preserved(
    rotary: ModuleType, dtype: torch.dtype, table_dtype: torch.dtype, interleaved: bool
) -> None:
    q = torch.randn(3, 16, 333, 128).to(dtype)
    cos, sin = reference.tables(3, 333, 128)
    result, _ = rotary.layers.rotary_embedding(
        q, None, cos.to(table_dtype), sin.to(table_dtype), interleaved=interleaved
    )
    # Where the tables themselves are rounded, so is the length of (cos, sin).
    lengths = cos.to(table_dtype).double().square() + sin.to(table_dtype).double().square()
    scale = lengths.sqrt()[..., :64]
    wide = reference.pairs(q.double(), 128, interleaved)
    expected = sum((half * scale.unsqueeze(1)).square().sum() for half in wide).sqrt()
    error = abs(float(result.double().norm() / expected) - 1.0)
    assert error <= 1e-2 * torch.finfo(dtype if dtype != FP64 else FP32).eps


@TYPES
def test_back_and_forth_is_the_identity(
    rotary: ModuleType, dtype: torch.dtype, table_dtype: torch.dtype
) -> None:
    q = torch.randn(2, 4, 33, 64).to(dtype)
    cos, sin = reference.tables(2, 33, 64, dtype=table_dtype)
    there, _ = rotary.layers.rotary_embedding(q, None, cos, sin)
    back, _ = rotary.layers.rotary_embedding(there, None, cos, sin, conj=True)
    coarser = max(torch.finfo(dtype).eps, torch.finfo(table_dtype).eps)
    assert precision.relative_error(back, q.double()) <= 2 * coarser


@TYPES
def test_nan_and_infinity_go_where_the_formula_puts_them(
    rotary: ModuleType, dtype: torch.dtype, table_dtype: torch.dtype
) -> None:
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1.0, 1e-40])
    x1, x2 = (t.reshape(-1) for t in torch.meshgrid(special, special, indexing="ij"))
    q = torch.cat([x1, x2]).to(dtype).repeat(1, 1, 5, 1)
    angles = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8], [float("nan"), 1.0], [1e-30, 0.0]])
    cos, sin = (t.to(table_dtype).reshape(1, 5, 1).repeat(1, 1, 49) for t in angles.unbind(1))
    result, _ = rotary.layers.rotary_embedding(q, None, cos, sin)
    assert precision.same_bits(result, reference.fp32_formula(q, cos, sin)).all()
    # A NaN of a float32 table whose last bits are set must not round to a number.
    strange = torch.full((1, 5, 49), 0x7FFFFFFF, dtype=torch.int32).view(FP32)
    if table_dtype == FP32:
        assert rotary.layers.rotary_embedding(q, None, strange, strange)[0].isnan().all()


def test_a_result_depends_on_its_row_alone(rotary: ModuleType) -> None:
    q, k = torch.randn(64, 8, 64, 128).bfloat16(), torch.randn(64, 2, 64, 128).bfloat16()
    cos, sin = reference.tables(64, 64, 128)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results += [rotary.apply_rotary_transformers(q, k, cos, sin) for _ in range(7)]
    torch.set_num_threads(threads)
    for result in results[1:]:
        assert torch.equal(result[0], results[0][0])
        assert torch.equal(result[1], results[0][1])
    alone = rotary.apply_rotary_transformers(
        q[5:6, 3:4, 7:8], k[5:6, 1:2, 7:8], cos[5:6, 7:8], sin[5:6, 7:8]
    )
    assert torch.equal(alone[0], results[0][0][5:6, 3:4, 7:8])
    assert torch.equal(alone[1], results[0][1][5:6, 1:2, 7:8])
