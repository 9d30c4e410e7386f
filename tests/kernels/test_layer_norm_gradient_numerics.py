# SPDX-License-Identifier: Apache-2.0
"""Values of rms_norm, of the gradients and of the fused op; tests/kernels/test_isa_levels.py runs
this file per ISA."""

from collections.abc import Callable
from types import ModuleType

import grid
import layer_norm_reference as reference
import precision
import pytest
import torch
from precision import BF16, FP16, FP32

DTYPES = pytest.mark.parametrize("dtype", [FP32, BF16, FP16], ids=["fp32", "bf16", "fp16"])
NORMS = pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
EPS = 1e-5


@pytest.fixture(scope="module")
def package(load_package: Callable[[str], ModuleType]) -> ModuleType:
    return load_package("layer-norm")


def gradients(
    package: ModuleType,
    norm: str,
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float = EPS,
) -> list[torch.Tensor]:
    count = 2 if norm == "layer_norm" else 1
    results = [torch.empty_like(x), *(torch.empty_like(weight) for _ in range(count))]
    getattr(package.ops, f"{norm}_backward")(*results, grad, x, weight, eps)
    return results


def exact_gradients(
    norm: str, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float = EPS
) -> tuple[torch.Tensor, ...]:
    wide = [t.double().requires_grad_() for t in (x, weight, torch.zeros_like(weight))]
    bias = wide[2] if norm == "layer_norm" else None
    result = reference.norm(wide[0], wide[1], bias, eps, norm == "rms_norm")
    wanted = wide if norm == "layer_norm" else wide[:2]
    return torch.autograd.grad(result, wanted, grad.double())


@DTYPES
@pytest.mark.parametrize("cols", [1, 2, 7, 8, 63, 64, 384, 1023, 4096, 13824, 65537])
def test_rms_norm_keeps_the_tolerance_table(
    package: ModuleType, cols: int, dtype: torch.dtype
) -> None:
    x = torch.randn(32, cols).to(dtype)
    weight = torch.randn(cols).to(dtype)
    out = package.rms_norm(torch.full_like(x, float("nan")), x, weight, EPS)
    expected = reference.norm(x.double(), weight.double(), None, EPS, is_rms=True)
    # Few elements: no averaging of roundings.
    slack = 1.5 if cols < 64 else 1.0
    assert precision.relative_error(out, expected) <= slack * precision.LAYER_NORM[dtype]


@pytest.mark.parametrize(
    ("norm", "cols", "rows", "layout", "dtype"),
    grid.pairwise(
        ("layer_norm", "rms_norm"), grid.COLS[2:], grid.ROWS[2:], grid.LAYOUTS, (FP32, BF16, FP16)
    ),
)
def test_gradients_keep_the_tolerance_table(
    package: ModuleType, norm: str, cols: int, rows: int, layout: str, dtype: torch.dtype
) -> None:
    rows = min(rows, 2**20 // cols)
    x, grad = (grid.random_rows(rows, cols, layout, dtype) for _ in range(2))
    weight = torch.randn(cols).to(dtype)
    results = gradients(package, norm, grad, x, weight)
    for result, expected in zip(results, exact_gradients(norm, grad, x, weight), strict=True):
        assert precision.relative_error(result, expected) <= precision.NORM_GRADIENT[dtype]


@NORMS
def test_sums_over_a_million_rows_keep_the_accuracy(package: ModuleType, norm: str) -> None:
    x, grad = torch.randn(2, 1_000_000, 12)
    weight = torch.randn(12)
    _, *sums = gradients(package, norm, grad, x, weight)
    n = reference.norm(x.double(), None, None, EPS, norm == "rms_norm")
    expected = [(grad.double() * n).sum(0), grad.double().sum(0)]
    for result, exact in zip(sums, expected, strict=False):
        assert precision.relative_error(result, exact) <= precision.NORM_GRADIENT[FP32]


@pytest.mark.parametrize("mean", [1e3, 1e5])
def test_a_mean_far_above_the_spread_costs_no_accuracy(package: ModuleType, mean: float) -> None:
    x, grad = torch.randn(64, 384) + mean, torch.randn(64, 384)
    weight = torch.randn(384)
    results = gradients(package, "layer_norm", grad, x, weight)
    expected = exact_gradients("layer_norm", grad, x, weight)
    for result, exact in zip(results, expected, strict=True):
        assert precision.relative_error(result, exact) <= precision.NORM_GRADIENT[FP32]
    # As from statistics that a forward call has rounded to fp32.
    z, _, _, mu, rsigma = package.dropout_add_ln_fwd(
        x, weight, None, None, None, None, None, 0.0, EPS, 1.0, 0, None, False, False
    )
    values = reference.norm(x.double(), weight.double(), None, EPS, is_rms=False)
    assert precision.relative_error(z, values) <= precision.LAYER_NORM[FP32]
    dx0, _, dgamma, dbeta, *_ = package.dropout_add_ln_bwd(
        grad, None, x, None, None, mu, rsigma, weight, None, None, None, None, 0.0, 1.0, 0, False,
        False,
    )  # fmt: skip
    for result, exact in zip((dx0, dgamma, dbeta), expected, strict=True):
        assert precision.relative_error(result, exact) <= precision.NORM_GRADIENT[FP32]


@DTYPES
@NORMS
@pytest.mark.parametrize("start", [-1e4, 100.0, 0.0])
def test_a_start_unlike_the_rest_costs_no_accuracy(
    package: ModuleType, start: float, norm: str, dtype: torch.dtype
) -> None:
    """The moments and means are first taken about the mean of a few elements."""
    x, grad = torch.randn(64, 4096) + 7.0, torch.randn(64, 4096)
    x[:, :64] = start
    x, grad = x.to(dtype), grad.to(dtype)
    weight = torch.randn(4096).to(dtype)
    results = gradients(package, norm, grad, x, weight)
    for result, exact in zip(results, exact_gradients(norm, grad, x, weight), strict=True):
        assert precision.relative_error(result, exact) <= precision.NORM_GRADIENT[dtype]


@NORMS
@pytest.mark.parametrize(
    ("scale", "grad_scale", "eps"), [(1e-15, 1e-28, 0.0), (1e17, 1.0, EPS), (1e17, 1e28, EPS)]
)
def test_products_beyond_the_range_of_fp32_cost_no_accuracy(
    package: ModuleType, norm: str, scale: float, grad_scale: float, eps: float
) -> None:
    """Products of the gradient with x may vanish or overflow where those with n do not."""
    x, grad = torch.randn(8, 1024) * scale, torch.randn(8, 1024) * grad_scale
    weight = torch.randn(1024)
    grad_x, *_ = gradients(package, norm, grad, x, weight, eps)
    expected, *_ = exact_gradients(norm, grad, x, weight, eps)
    assert precision.relative_error(grad_x, expected) <= precision.NORM_GRADIENT[FP32]


@DTYPES
@NORMS
def test_extreme_rows_give_what_the_formula_gives(
    package: ModuleType, norm: str, dtype: torch.dtype
) -> None:
    largest = torch.finfo(dtype).max
    x = torch.randn(5, 40).to(dtype)
    x[0] = 0.0
    x[1, 3] = float("nan")
    x[2, 39] = float("inf")
    x[3] = largest
    x[3, ::2] = -largest
    out = getattr(package.layers, norm)(x, None, eps=EPS)
    assert not out[0].any()
    assert out[1].isnan().all()
    assert out[2].isnan().any()
    assert not out[3].isnan().any()
    grad_x, *sums = gradients(package, norm, torch.ones_like(x), x, torch.ones(40).to(dtype))
    assert not grad_x[0].isnan().any()
    assert grad_x[1].isnan().all()
    assert not grad_x[3].isnan().any()
    assert grad_x[4].isfinite().all()
    assert sums[0].isnan().all()


@DTYPES
@NORMS
def test_a_row_gives_the_same_bits_alone_and_in_a_batch(
    package: ModuleType, norm: str, dtype: torch.dtype
) -> None:
    x, grad = torch.randn(2, 4096, 129).to(dtype)
    weight = torch.randn(129).to(dtype)
    batch, *_ = gradients(package, norm, grad, x, weight)
    for row in (0, 1, 4095):
        alone, *_ = gradients(package, norm, grad[row : row + 1], x[row : row + 1], weight)
        assert torch.equal(alone[0], batch[row])


# One case of the fused op: which tensors there are and of which dtypes. The factors of the cover.
FUSED = {
    "cols": (1, 7, 64, 1023, 4096),
    "dtype": (FP32, BF16, FP16),
    "residual": ("none", "same", "fp32"),
    "weights": ("same", "fp32"),
    "is_rms": (False, True),
    "x1": (False, True),
    "second_weights": (False, True),
    "beta": (False, True),
    "rowscale": (False, True),
    "colscale": (False, True),
    "dropout_p": (0.0, 0.4),
    "subsets": ("none", "x0", "z", "both"),
}


def choose(wanted: bool, *shape: int, dtype: torch.dtype) -> torch.Tensor | None:
    return torch.randn(*shape).to(dtype).requires_grad_() if wanted else None


def subset(rows: int, others: int) -> torch.Tensor:
    """Distinct numbers from 1, some rows without one."""
    chosen = torch.zeros(rows, dtype=torch.int32)
    places = torch.randperm(rows)[: min(rows, others) - 2]
    chosen[places] = (torch.randperm(others)[: len(places)] + 1).to(torch.int32)
    return chosen


@pytest.mark.parametrize("case", grid.pairwise(*FUSED.values()), ids=str)
def test_the_fused_op_and_its_gradients_keep_the_tolerance_table(
    package: ModuleType, case: tuple[object, ...]
) -> None:
    fused = dict(zip(FUSED, case, strict=True))
    dtype, cols = fused["dtype"], fused["cols"]
    residual_dtype = FP32 if fused["residual"] == "fp32" else dtype
    weight_dtype = FP32 if fused["weights"] == "fp32" else dtype
    rows, x0_rows, z_rows = 40, 40, 40
    x0_subset = z_subset = None
    if fused["subsets"] in ("x0", "both"):
        x0_rows, x0_subset = 33, subset(rows, 33)
    if fused["subsets"] in ("z", "both"):
        z_rows, z_subset = 50, subset(rows, 50)
    inputs = {
        "x0": choose(True, x0_rows, cols, dtype=dtype),
        "x1": choose(fused["x1"], rows, cols, dtype=dtype),
        "residual": choose(fused["residual"] != "none", rows, cols, dtype=residual_dtype),
        "gamma0": choose(True, cols, dtype=weight_dtype),
        "beta0": choose(fused["beta"], cols, dtype=weight_dtype),
        "gamma1": choose(fused["second_weights"], cols, dtype=weight_dtype),
        "beta1": choose(fused["second_weights"] and fused["beta"], cols, dtype=weight_dtype),
        "colscale": choose(fused["colscale"], cols, dtype=weight_dtype),
    }
    rowscale = torch.rand(rows).to(dtype) + 0.5 if fused["rowscale"] else None
    rowscale_const = 1.0 if x0_subset is None else 1.25
    dropout_p = fused["dropout_p"]
    seed = torch.tensor([17]) if dropout_p else None
    tensors = list(inputs.values())
    z0, z1, x, dmask0, dmask1, mu, _rsigma = package.ops.dropout_add_norm_functional(
        *tensors[:7], rowscale, tensors[7], x0_subset, z_subset, seed, dropout_p, EPS,
        rowscale_const, z_rows, False, fused["is_rms"],
    )  # fmt: skip
    wide = {
        n: None if t is None else t.detach().double().requires_grad_() for n, t in inputs.items()
    }
    colscale = wide.pop("colscale")
    exact_z0, exact_z1, exact_x = reference.fused(
        **wide, rowscale=None if rowscale is None else rowscale.double(), colscale=colscale,
        x0_subset=x0_subset, z_subset=z_subset, dropout_p=dropout_p, eps=EPS,
        rowscale_const=rowscale_const, z_numrows=z_rows, is_rms=fused["is_rms"],
        dmask0=dmask0 if dropout_p else None,
        dmask1=dmask1 if dropout_p and fused["x1"] else None,
    )  # fmt: skip
    wide["colscale"] = colscale
    # Sums of several terms round in fp32, and few elements average no rounding.
    slack = (1.5 if cols < 64 else 1.1) * (3.0 if dtype == FP32 else 1.0)
    if cols > 1:  # one element less its own mean is nothing but rounding
        assert precision.relative_error(z0, exact_z0) <= slack * precision.LAYER_NORM[dtype]
        if fused["second_weights"]:
            assert precision.relative_error(z1, exact_z1) <= slack * precision.LAYER_NORM[dtype]
    saved = x if x.numel() else inputs["x0"]
    assert saved.dtype == residual_dtype or fused["residual"] == "none"
    assert precision.relative_error(saved, exact_x) <= slack * precision.LAYER_NORM[saved.dtype]
    if fused["is_rms"]:
        assert not mu.any()
    outputs = [(z0, exact_z0), (z1, exact_z1), (x if x.numel() else None, exact_x)]
    outputs = [(a, b) for a, b in outputs if a is not None and b is not None]
    directions = [torch.randn(a.shape).to(a.dtype) for a, _ in outputs]
    wanted = {n: t for n, t in inputs.items() if t is not None}
    got = torch.autograd.grad([a for a, _ in outputs], list(wanted.values()), directions)
    expected = torch.autograd.grad(
        [b for _, b in outputs], [wide[n] for n in wanted], [d.double() for d in directions]
    )
    for name, grad, exact in zip(wanted, got, expected, strict=True):
        if cols == 1 and not exact.abs().max() > 1e-3:
            continue
        # Gradients read the rounded x, as the forward call returns it.
        bound = precision.NORM_GRADIENT[dtype] * (4.0 if cols < 64 else 1.5)
        assert precision.relative_error(grad, exact) <= bound, name
