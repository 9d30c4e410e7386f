# SPDX-License-Identifier: Apache-2.0
"""The checks of the layer-norm package."""

from __future__ import annotations

import itertools

import layer_norm_reference as reference
import precision
import torch
from checks import DTYPES, HALVES, Context, Family, assert_replays, needs_graphs


def layer_norm(context: Context) -> None:
    """layer_norm against fp64, with and without parameters, odd widths and pitches."""
    ops = context.package("layer-norm").ops
    for dtype in DTYPES:
        for cols in (1, 7, 64, 1023, 4096, 65537):
            x = torch.randn(33, cols + 3, device=context.device).to(dtype)[:, 1 : cols + 1]
            weight, bias = torch.randn(2, cols, device=context.device).to(dtype)
            for parameters in ((weight, bias), (weight, None), (None, None)):
                out = torch.full((33, cols), float("nan"), dtype=dtype, device=context.device)
                ops.layer_norm(out, x, *parameters, 1e-5)
                wide = [None if p is None else p.double() for p in parameters]
                expected = torch.nn.functional.layer_norm(x.double(), (cols,), *wide, eps=1e-5)
                if not bool(expected.any()):
                    assert not bool(out.any())
                    continue
                error = precision.relative_error(out, expected)
                assert error <= precision.LAYER_NORM[dtype], f"{dtype} {cols}: {error:.2e}"


def norm_gradients(context: Context) -> None:
    """Gradients of layer_norm and rms_norm against fp64, sums over many rows included; of rows that
    are aligned and that are not, whose means lie near zero and far from it."""
    ops = context.package("layer-norm").ops
    shapes = ((1, 7), (33, 1023), (2048, 64), (300, 4096), (5, 13824), (3, 65537), (2, 300_001))
    shapes += () if context.is_quick else ((1_000_000, 64),)
    for dtype in DTYPES:
        for (rows, cols), is_rms, first in itertools.product(shapes, (False, True), (0, 1)):
            if first == 0 and cols % 8 != 0:
                continue
            pitch = cols + 3 * first
            x, grad = torch.randn(2, rows, pitch, device=context.device).to(dtype)
            x[1::2] += 5.0
            x, grad = (t[:, first : first + cols] for t in (x, grad))
            weight = torch.randn(cols, device=context.device).to(dtype)
            results = [torch.full_like(one, float("nan")) for one in (x, weight, weight)]
            op = ops.rms_norm_backward if is_rms else ops.layer_norm_backward
            results = results[: 2 if is_rms else 3]
            op(*results, grad, x, weight, 1e-5)
            wide = [t.double().requires_grad_() for t in (x, weight, torch.zeros_like(weight))]
            bias = None if is_rms else wide[2]
            value = reference.norm(wide[0], wide[1], bias, 1e-5, is_rms)
            expected = torch.autograd.grad(value, wide[: len(results)], grad.double())
            # Few elements average no rounding.
            bound = precision.NORM_GRADIENT[dtype] * (2.0 if rows * cols < 100 else 1.0)
            for one, exact in zip(results, expected, strict=True):
                error = precision.relative_error(one, exact)
                assert error <= bound, f"{dtype} {rows}x{cols}: {error:.2e}"
            again = [torch.empty_like(one) for one in results]
            op(*again, grad, x, weight, 1e-5)
            assert all(torch.equal(a, b) for a, b in zip(again, results, strict=True)), (rows, cols)


def norm_dtypes(context: Context) -> None:
    """float32 parameters beside 16-bit rows, in place and differentiated; rows without columns."""
    ops = context.package("layer-norm").ops
    for dtype, cols, is_rms in itertools.product(HALVES, (7, 1023, 20_001), (False, True)):
        x, grad = torch.randn(2, 33, cols + 3, device=context.device).to(dtype)[:, :, 1:-2]
        parameters = [*torch.randn(2, cols, device=context.device)][: 1 if is_rms else 2]
        name = "rms_norm" if is_rms else "layer_norm"
        out, *results = [torch.full_like(one, float("nan")) for one in (x, x, *parameters)]
        getattr(ops, name)(out, x, *parameters, 1e-5)
        getattr(ops, f"{name}_backward")(*results, grad, x, parameters[0], 1e-5)
        wide = [one.double().requires_grad_() for one in (x, *parameters)]
        value = reference.norm(*(*wide, None)[:3], 1e-5, is_rms)
        expected = torch.autograd.grad(value, wide, grad.double())
        slack = 2.0 if cols < 64 else 1.0  # few elements average no rounding
        error = precision.relative_error(out, value.detach())
        assert error <= slack * precision.LAYER_NORM[dtype], f"{dtype} {cols}: {error:.2e}"
        for one, exact in zip(results, expected, strict=True):
            error = precision.relative_error(one, exact)
            bound = slack * precision.NORM_GRADIENT[one.dtype]
            assert error <= bound, f"{dtype} {cols}: {error:.2e}"
        getattr(ops, name)(x, x, *parameters, 1e-5)
        assert torch.equal(x, out), f"{dtype} {cols} in place"
    for is_rms in (False, True):
        z, x0 = torch.empty(2, 3, 0, device=context.device)
        mu, rsigma = torch.zeros(2, 3, device=context.device)
        nothing = [None] * 11
        ops.dropout_add_norm(z, *nothing[:4], mu, rsigma, x0, *nothing, 0.0, 1e-5, 1.0, is_rms)
        assert bool((mu.isnan() & rsigma.isnan()).all())


def fused_norm(context: Context) -> None:
    """The fused op and its gradients against the CPU formula: masks, scales, subsets, dtypes."""
    package = context.package("layer-norm")
    for dtype, wide_dtype, dropout_p, is_rms in itertools.product(
        DTYPES, (None, torch.float32), (0.0, 0.3), (False, True)
    ):
        for cols in (7, 1023, 4096, 20_001):
            rows = 40
            other = wide_dtype or dtype

            def make(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
                return torch.randn(*shape, device=context.device).to(dtype).requires_grad_()

            x0, x1, residual = make(rows, cols), make(rows, cols), make(rows, cols, dtype=other)
            weights = [make(cols, dtype=other) for _ in range(5)]
            rowscale = torch.rand(rows, device=context.device).to(dtype)
            numbers = torch.arange(rows, device=context.device)
            subset = ((numbers * 7) % rows).to(torch.int32)
            seed = torch.tensor([9], device=context.device) if dropout_p else None
            tensors = (x0, x1, residual, *weights[:4], rowscale, weights[4])
            z0, z1, x, dmask0, dmask1, _, _ = package.ops.dropout_add_norm_functional(
                *tensors, subset, subset, seed, dropout_p, 1e-5, 0.5, rows, False, is_rms
            )
            wide = [t.detach().double().requires_grad_(t.requires_grad) for t in tensors]
            masks = (dmask0, dmask1) if dropout_p else (None, None)
            exact = reference.fused(
                *wide, subset, subset, dropout_p, 1e-5, 0.5, rows, is_rms, *masks
            )
            directions = [torch.randn_like(one) for one in (z0, z1, x)]
            wanted = [i for i, one in enumerate(tensors) if one.requires_grad]
            grads = torch.autograd.grad((z0, z1, x), [tensors[i] for i in wanted], directions)
            exact_grads = torch.autograd.grad(
                exact, [wide[i] for i in wanted], [one.double() for one in directions]
            )
            pairs = [*zip((z0, z1, x), exact, strict=True), *zip(grads, exact_grads, strict=True)]
            for i, (one, right) in enumerate(pairs):
                table = precision.LAYER_NORM if i < 3 else precision.NORM_GRADIENT
                bound = table[dtype] * (3.0 if dtype == torch.float32 else 1.5)
                error = precision.relative_error(one, right)
                assert error <= bound * (2.0 if cols < 64 else 1.0), f"{dtype} {cols} {i}: {error}"


def dropout_masks(context: Context) -> None:
    """A seed keeps the same elements on every device."""
    package = context.package("layer-norm")
    for cols in (1, 5, 1023, 4096):
        x0 = torch.ones(17, cols, device=context.device)
        seed = torch.tensor([1], device=context.device)
        nothing = (None,) * 10
        result = package.ops.dropout_add_norm_functional(
            x0, *nothing, seed, 0.5, 1e-5, 1.0, 0, False, False
        )
        assert torch.equal(result[3].cpu(), reference.mask(1, 0, 17, cols, 0.5))


def norm_graphs(context: Context) -> None:
    """A norm and its gradients replay from a CUDA graph, clusters of up to sixteen included."""
    needs_graphs(context)
    ops = context.package("layer-norm").ops
    for dtype, cols in itertools.product(DTYPES, (1000, 20_000, 131_072, 300_001)):
        x, grad = torch.randn(2, 33, cols, device=context.device).to(dtype)
        weight, bias = torch.randn(2, cols, device=context.device).to(dtype)

        def step(
            x: torch.Tensor = x,
            grad: torch.Tensor = grad,
            weight: torch.Tensor = weight,
            bias: torch.Tensor = bias,
        ) -> tuple[torch.Tensor, ...]:
            out, *results = [torch.empty_like(one) for one in (x, x, weight, bias)]
            ops.layer_norm(out, x, weight, bias, 1e-5)
            ops.layer_norm_backward(*results, grad, x, weight, 1e-5)
            return out, *results

        assert_replays(step, (x, grad, weight, bias), f"{dtype} {cols}")


CHECKS = (layer_norm, norm_gradients, norm_dtypes, fused_norm, dropout_masks)
FAMILY = Family(
    packages=("layer-norm",),
    ops=("layer_norm",),
    checks=(norm_graphs, *CHECKS),
    on_any_device=CHECKS,
    sanitized=CHECKS,
)
