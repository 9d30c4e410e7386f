# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels of layer-norm, run on a CPU (cuda_on_host), against the CPU kernels: the same
masks, and values as near as two orders of additions are."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grid
import pytest
import torch
import tvm_ffi
from precision import BF16, FP16, FP32

HERE = Path(__file__).parent
PACKAGES = HERE.parent.parent / "kernels-community"
SOURCES = PACKAGES / "layer-norm"
EPS = 1e-5
# Two results that were rounded once each, in the 2-norm.
BOUNDS = {FP32: 1e-6, BF16: 3e-3, FP16: 4e-4}


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("on_host") / "layer_norm_on_host.so"
    dlpack = Path(os.path.dirname(tvm_ffi.__file__)) / "3rdparty" / "dlpack" / "include"
    includes = [HERE / "cuda_on_host", SOURCES, PACKAGES, HERE.parent.parent / "abi" / "include"]
    command = ["c++", "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread"]
    command += [f"-I{folder}" for folder in (*includes, dlpack, dlpack / "dlpack")]
    command += ["-x", "c++", str(HERE / "layer_norm_on_host.cpp")]
    command += [str(SOURCES / "layer_norm" / "checks.cpp")]
    command += [str(PACKAGES / "primitives" / "tensor_check.cpp")]
    command += [str(source) for source in sorted((SOURCES / "layer_norm_cuda").glob("*.cu"))]
    subprocess.run([*command, "-o", str(library)], check=True)
    return tvm_ffi.load_module(str(library))


def assert_close(result: torch.Tensor, expected: torch.Tensor, slack: float = 1.0) -> None:
    assert not result.isnan().any()
    distance = (result.double() - expected.double()).norm()
    assert distance <= slack * BOUNDS[expected.dtype] * expected.double().norm() + 1e-9


WIDTHS = (1, 7, 8, 63, 257, 1023, 4097)
NORMS = ("layer_norm", "rms_norm")


@pytest.mark.parametrize(
    ("norm", "cols", "layout", "dtype", "has_weight"),
    [
        *grid.pairwise(NORMS, WIDTHS, grid.LAYOUTS, (FP32, BF16, FP16), (True, False)),
        ("layer_norm", 33_001, "offset_by_one", BF16, True),
    ],
)
def test_plain_norms_and_their_gradients(
    package: ModuleType,
    on_host: Any,
    norm: str,
    cols: int,
    layout: str,
    dtype: torch.dtype,
    has_weight: bool,
) -> None:
    rows = 7 if cols < 1000 else 3 if cols < 9000 else 1
    is_rms = norm == "rms_norm"
    x, grad = (grid.random_rows(rows, cols, layout, dtype) for _ in range(2))
    x += 30.0
    weight = torch.randn(cols).to(dtype) if has_weight else None
    bias = torch.randn(cols).to(dtype) if has_weight and not is_rms else None
    # Rows that blocks share, on sm_90, and rows that are too wide for one block, on sm_80.
    for capability in (9, 8) if cols > 8000 else (9,):
        on_host.set_device(capability)
        out, buffer = grid.placed(rows, cols, layout, dtype)
        on_host.layer_norm(out, x, weight, bias, EPS, is_rms)
        parameters = (weight,) if is_rms else (weight, bias)
        assert_close(out, getattr(package.layers, norm)(x, *parameters, EPS))
        out.fill_(grid.CANARY)
        assert (buffer == grid.CANARY).all(), "memory outside the output was written"

        results = [out, torch.full((cols,), float("nan")).to(dtype)]
        results += [] if is_rms else [torch.full((cols,), float("nan")).to(dtype)]
        expected = [torch.empty(t.shape, dtype=dtype) for t in results]
        getattr(package.ops, f"{norm}_backward")(*expected, grad, x, weight, EPS)
        on_host.layer_norm_backward(*([*results, None])[:3], grad, x, weight, EPS, is_rms)
        for result, exact in zip(results, expected, strict=True):
            assert_close(result, exact, slack=4.0)
        out.fill_(grid.CANARY)
        assert (buffer == grid.CANARY).all(), "memory outside the gradient was written"


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize(("norm", "cols"), [("layer_norm", 4096), ("rms_norm", 1000)])
def test_a_row_has_the_same_bits_at_any_address_and_in_any_batch(
    on_host: Any, norm: str, cols: int, dtype: torch.dtype
) -> None:
    on_host.set_device(9)
    is_rms = norm == "rms_norm"
    rows = 3 if cols == 4096 else 9
    x, _ = grid.placed(rows, cols, "offset_by_one", dtype)
    x.copy_(torch.randn(rows, cols) + 3.0)
    for has_weight, has_bias in ((False, False), (True, False), (True, True)):
        weight = torch.randn(cols).to(dtype) if has_weight else None
        bias = torch.randn(cols).to(dtype) if has_bias and not is_rms else None
        misaligned, _ = grid.placed(rows, cols, "offset_by_one", dtype)
        on_host.layer_norm(misaligned, x, weight, bias, EPS, is_rms)
        aligned = torch.full((rows, cols), float("nan"), dtype=dtype)
        on_host.layer_norm(aligned, x.clone(), weight, bias, EPS, is_rms)
        assert torch.equal(aligned, misaligned)
        alone = torch.full((1, cols), float("nan"), dtype=dtype)
        on_host.layer_norm(alone, x[-1:].clone(), weight, bias, EPS, is_rms)
        assert torch.equal(alone, aligned[-1:])


@pytest.mark.parametrize("cols", [200, 4096, 33_001])
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_statistics_are_exact_where_the_mean_dwarfs_the_spread(
    on_host: Any, mean: float, cols: int
) -> None:
    on_host.set_device(9)
    x = torch.randn(1, cols) + mean
    out = torch.full_like(x, float("nan"))
    on_host.layer_norm(out, x, None, None, EPS, False)
    exact = torch.nn.functional.layer_norm(x.double(), (cols,), eps=EPS)
    assert (out.double() - exact).norm() <= 2e-7 * exact.norm()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("cols", [44, 1000])
def test_means_of_the_fused_op_are_rounded_once_where_they_dwarf_the_spread(
    on_host: Any, cols: int, first: int
) -> None:
    """Of rows of aligned units and of others."""
    on_host.set_device(9)
    x0 = torch.empty(16, cols + 4)[:, first : first + cols].copy_(torch.randn(16, cols) + 3e5)
    z, mu = torch.empty(16, cols), torch.full((16,), float("nan"))
    on_host.dropout_add_norm(
        z, *(None,) * 4, mu, None, x0, *(None,) * 11, 0.0, EPS, 1.0, False
    )  # fmt: skip
    exact = x0.double().mean(dim=1)
    assert ((mu.double() - exact).abs() <= 1.02 * 2.0**-24 * exact).all()


def exact_gradients(
    norm: str, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Gradients of rows and of both parameters, in fp64."""
    wide = [t.double().requires_grad_() for t in (x, weight, torch.zeros_like(weight))]
    shape = (x.shape[-1],)
    if norm == "layer_norm":
        out = torch.nn.functional.layer_norm(wide[0], shape, wide[1], wide[2], EPS)
    else:
        out = torch.nn.functional.rms_norm(wide[0], shape, wide[1], EPS) + wide[2]
    return torch.autograd.grad(out, wide, grad.double())


def row_gradients(
    on_host: Any, norm: str, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
) -> list[torch.Tensor]:
    sums = torch.full((2, x.shape[-1]), float("nan")).to(x.dtype)
    made = [torch.full_like(x, float("nan")), sums[0], sums[1] if norm == "layer_norm" else None]
    on_host.layer_norm_backward(*made, grad, x, weight, EPS, norm == "rms_norm")
    return [t for t in made if t is not None]


@pytest.mark.parametrize("dtype", [FP32, BF16, FP16])
@pytest.mark.parametrize("cols", [7, 200, 1023, 4096])
def test_gradients_of_rows_near_zero_and_far_from_it(
    on_host: Any, cols: int, dtype: torch.dtype
) -> None:
    """Rows of a warp and of a block, which are reduced once or twice each by itself."""
    on_host.set_device(9)
    means = torch.tensor([0.0, 0.5, -1.9, 2.1, 30.0, -400.0, 0.0])
    x, grad = ((torch.randn(7, cols) + mean).to(dtype) for mean in (means[:, None], 0.0))
    weight = torch.randn(cols).to(dtype)
    results = row_gradients(on_host, "layer_norm", grad, x, weight)
    exact = exact_gradients("layer_norm", grad, x, weight)
    for result, expected in zip(results, exact, strict=True):
        assert_close(result, expected.to(dtype), slack=4.0)
    for row in range(7):
        alone = row_gradients(on_host, "layer_norm", grad[[row]], x[[row]], weight)
        assert torch.equal(alone[0], results[0][[row]])
        exact_row = exact[0][[row]].to(dtype)
        assert_close(alone[0], exact_row, slack=4.0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cols", [7, 1023, 4096])
@pytest.mark.parametrize(("scale", "grad_scale"), [(3e17, 1.0), (1e18, 1e22), (1.0, 1e37)])
def test_gradients_of_rows_whose_sums_of_products_overflow(
    on_host: Any, norm: str, cols: int, scale: float, grad_scale: float
) -> None:
    on_host.set_device(9)
    x, grad = torch.randn(3, cols) * scale, torch.randn(3, cols) * grad_scale
    x[0] /= scale
    weight = torch.randn(cols)
    result = row_gradients(on_host, norm, grad, x, weight)[0]
    expected = exact_gradients(norm, grad, x, weight)[0]
    for row in range(3):
        found, exact = (t[[row]].double() / grad_scale * scale for t in (result, expected))
        assert_close(found, exact.float(), slack=4.0)


def test_one_gradient_that_is_nan_poisons_its_row_only(on_host: Any) -> None:
    on_host.set_device(9)
    x, grad = torch.randn(5, 24), torch.randn(5, 24)
    x[1, 3], grad[3, 7] = float("nan"), float("inf")
    weight = torch.randn(24)
    result = row_gradients(on_host, "layer_norm", grad, x, weight)[0]
    assert result[1].isnan().all()
    assert not result[3].isfinite().any()
    expected = row_gradients(on_host, "layer_norm", grad[::2], x[::2], weight)[0]
    assert torch.equal(result[::2], expected)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (True, False, True)]
)
@pytest.mark.parametrize("cols", [24, 1023])
def test_only_gradients_that_are_asked_for_are_made(
    on_host: Any, cols: int, wanted: tuple[bool, ...]
) -> None:
    on_host.set_device(9)
    x, grad, weight = torch.randn(300, cols), torch.randn(300, cols), torch.randn(cols)
    made = [torch.full(s, float("nan")) for s in ((300, cols), (cols,), (cols,))]
    made = [t if w else None for t, w in zip(made, wanted, strict=True)]
    on_host.layer_norm_backward(*made, grad, x, weight, EPS, False)
    for result, expected in zip(made, exact_gradients("layer_norm", grad, x, weight), strict=True):
        if result is not None:
            assert_close(result, expected.float(), slack=4.0)


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize("cols", [7, 1023, 17_001])
@pytest.mark.parametrize("norm", NORMS)
def test_parameters_of_fp32_beside_16_bit_rows(
    package: ModuleType, on_host: Any, norm: str, cols: int, dtype: torch.dtype
) -> None:
    rows = 5 if cols < 9000 else 1
    is_rms = norm == "rms_norm"
    on_host.set_device(9)
    x, grad = (grid.random_rows(rows, cols, "offset_by_one", dtype) for _ in range(2))
    weight, bias = torch.randn(cols), None if is_rms else torch.randn(cols)
    parameters = (weight,) if is_rms else (weight, bias)

    results = [torch.full(t.shape, float("nan"), dtype=t.dtype) for t in (x, *parameters)]
    expected = [torch.empty_like(t) for t in results]
    getattr(package.ops, f"{norm}_backward")(*expected, grad, x, weight, EPS)
    on_host.layer_norm_backward(*([*results, None])[:3], grad, x, weight, EPS, is_rms)
    for result, exact in zip(results, expected, strict=True):
        assert_close(result, exact, slack=4.0)

    out = torch.full(x.shape, float("nan"), dtype=dtype)
    on_host.layer_norm(out, x, weight, bias, EPS, is_rms)
    assert_close(out, getattr(package.layers, norm)(x, *parameters, EPS))
    on_host.layer_norm(x, x, weight, bias, EPS, is_rms)
    assert torch.equal(x, out), "in place"


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize("cols", [64, 1024, 4096])
@pytest.mark.parametrize("norm", NORMS)
def test_rows_beside_parameters_of_fp32_have_the_same_bits_at_any_address(
    package: ModuleType, on_host: Any, norm: str, cols: int, dtype: torch.dtype
) -> None:
    on_host.set_device(9)
    x, weight, bias = torch.randn(5, cols).to(dtype), torch.randn(cols), torch.randn(cols)
    bias = None if norm == "rms_norm" else bias
    parameters = (weight,) if bias is None else (weight, bias)
    aligned = torch.full((5, cols), float("nan"), dtype=dtype)
    on_host.layer_norm(aligned, x, weight, bias, EPS, norm == "rms_norm")
    assert_close(aligned, getattr(package.layers, norm)(x, *parameters, EPS))
    misaligned, buffer = grid.placed(5, cols, "offset_by_one", dtype)
    on_host.layer_norm(misaligned, x, weight, bias, EPS, norm == "rms_norm")
    assert torch.equal(misaligned, aligned)
    misaligned.fill_(grid.CANARY)
    assert (buffer == grid.CANARY).all(), "memory outside the output was written"


@pytest.mark.parametrize("is_rms", [False, True])
def test_statistics_of_rows_without_columns_are_nan(on_host: Any, is_rms: bool) -> None:
    mu, rsigma = torch.zeros(2, 3)
    z, x0 = torch.empty(2, 3, 0)
    nothing = (None,) * 11
    on_host.dropout_add_norm(
        z, *(None,) * 4, mu, rsigma, x0, *nothing, 0.0, EPS, 1.0, is_rms
    )  # fmt: skip
    assert mu.isnan().all()
    assert rsigma.isnan().all()


# Which tensors a fused call has.
CASES = grid.pairwise(
    (1, 63, 1023),
    (FP32, BF16),
    ("none", "same", "fp32"),
    ("same", "fp32"),
    (False, True),
    (False, True),
    (False, True),
    (0.0, 0.3),
    (False, True),
)


# Rows of aligned units without what only one kernel knows, in blocks of several rows and of one.
CASES += [
    (cols, dtype, residual, weights, is_rms, False, scales, 0.0, False)
    for cols in (64, 1024)
    for dtype, residual, weights, is_rms, scales in (
        (FP32, "same", "same", False, False),
        (FP32, "none", "same", True, "rows"),
        (BF16, "same", "fp32", True, False),
        (BF16, "fp32", "fp32", False, "rows"),
        (FP16, "none", "fp32", False, False),
    )
]

# Rows too wide for the registers: composed again in every pass.
CASES += [(17_001, BF16, "fp32", "same", True, True, True, 0.3, False)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_fused_op_and_its_gradients(
    package: ModuleType, on_host: Any, case: tuple[Any, ...]
) -> None:
    cols, dtype, residual_kind, weights, is_rms, is_parallel, has_scales, dropout_p, subsets = case
    on_host.set_device(9)
    rows = 5 if subsets or cols < 9000 else 1
    residual_dtype = FP32 if residual_kind == "fp32" else dtype
    weight_dtype = FP32 if weights == "fp32" else dtype
    has_residual = residual_kind != "none"

    def make(wanted: bool, *shape: int, dtype: torch.dtype = dtype) -> torch.Tensor | None:
        return torch.randn(*shape).to(dtype) if wanted else None

    def same(dtype: torch.dtype) -> torch.Tensor:
        return torch.full((rows, cols), float("nan"), dtype=dtype)

    x0_rows = z_rows = 6 if subsets else rows
    x0_subset = torch.tensor([3, 0, 6, 1, 2], dtype=torch.int32) if subsets else None
    z_subset = torch.tensor([0, 6, 2, 4, 1], dtype=torch.int32) if subsets else None
    x0 = make(True, x0_rows, cols)
    x1 = make(is_parallel, rows, cols)
    residual = make(has_residual, rows, cols, dtype=residual_dtype)
    gamma0, beta0 = (make(True, cols, dtype=weight_dtype) for _ in range(2))
    gamma1, beta1 = (make(is_parallel, cols, dtype=weight_dtype) for _ in range(2))
    has_colscale = has_scales is True  # or "rows": of rows only
    rowscale = make(bool(has_scales), rows)
    colscale = make(has_colscale, cols, dtype=weight_dtype)
    seed = torch.tensor([-5]) if dropout_p else None
    scalars = (dropout_p, EPS, 1.25, is_rms)
    inputs = (x0, x1, residual, gamma0, beta0, gamma1, beta1, rowscale, colscale, x0_subset)
    inputs += (z_subset, seed)

    outputs = []
    for module in (package.ops, on_host):
        z0 = torch.full((z_rows, cols), float("nan"), dtype=dtype)
        z1 = z0.clone() if is_parallel else None
        dmask0 = torch.full((x0_rows, cols), 7, dtype=torch.uint8) if dropout_p else None
        dmask1 = same(FP32).to(torch.uint8) if dropout_p and is_parallel else None
        statistics = [torch.full((rows,), float("nan")) for _ in range(2)]
        made = [z0, z1, same(residual_dtype), dmask0, dmask1, *statistics]
        module.dropout_add_norm(*made, *inputs, *scalars)
        outputs.append(made)
    for expected, result in zip(outputs[0][:5], outputs[1][:5], strict=True):
        if expected is not None and expected.dtype == torch.uint8:
            assert torch.equal(result, expected)
        elif expected is not None and cols > 1:
            assert_close(result, expected)
    _, _, x, dmask0, dmask1, mu, rsigma = outputs[0]
    torch.testing.assert_close(outputs[1][5], mu, atol=1e-6, rtol=1e-6)
    if cols > 1:
        torch.testing.assert_close(outputs[1][6], rsigma, atol=1e-6, rtol=1e-6)

    dz0 = make(True, z_rows, cols)
    dz1, dx = make(is_parallel, z_rows, cols), make(has_residual, rows, cols, dtype=residual_dtype)
    wanted = (True, True, is_parallel, is_parallel, has_colscale)
    given = (dz0, dz1, dx, x, x0, dmask0, dmask1, mu, rsigma, gamma0, gamma1, rowscale, colscale)
    given += (x0_subset, z_subset)
    outputs = []
    for module in (package.ops, on_host):
        made = [torch.full((x0_rows, cols), float("nan"), dtype=dtype)]
        made += [same(dtype) if is_parallel else None]
        made += [same(residual_dtype) if has_residual else None]
        made += [torch.full((cols,), float("nan")).to(weight_dtype) if w else None for w in wanted]
        module.dropout_add_norm_backward(*made, *given, *scalars)
        outputs.append(made)
    for expected, result in zip(*outputs, strict=True):
        if expected is not None and cols > 1:
            assert_close(result, expected, slack=4.0)


def test_numbers_outside_a_subset_poison_their_rows_and_nothing_else(on_host: Any) -> None:
    x0 = torch.randn(4, 16)
    z, x = torch.empty(4, 16), torch.empty(4, 16)
    subset = torch.tensor([1, 5, 2, -1], dtype=torch.int32)
    on_host.dropout_add_norm(
        z, None, x, None, None, None, None, x0, None, None, None, None, None, None, None, None,
        subset, None, None, 0.0, EPS, 1.0, False,
    )  # fmt: skip
    assert torch.equal(x[[0, 2]], x0[:2])
    assert x[[1, 3]].isnan().all()
    assert z[[1, 3]].isnan().all()
    assert z[[0, 2]].isfinite().all()
