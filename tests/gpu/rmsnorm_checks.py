# SPDX-License-Identifier: Apache-2.0
"""The checks of the rmsnorm package."""

from __future__ import annotations

import itertools

import precision
import rmsnorm_reference as reference
import torch
from checks import DTYPES, Context, Family, assert_replays, needs_graphs

EPS = 1e-6
# A lane, a warp, blocks, clusters of two and of sixteen, and rows that are read again.
COLS = (1, 7, 64, 1023, 4096, 13824, 32768, 65537, 262144, 300001)
QUICK_COLS = (1, 7, 1023, 4096, 32768, 65537, 300001)
LAYOUTS = ("aligned", "offset", "padded")
WIDE = 16384


def _cases(context: Context) -> list[tuple[int, int, str]]:
    """Rows, columns, layout. With --quick wide rows are few and have one layout, in which those of
    an odd width start anywhere.
    """
    if not context.is_quick:
        return [(33, *case) for case in itertools.product(COLS, LAYOUTS)]
    narrow = [cols for cols in QUICK_COLS if cols <= WIDE]
    wide = [(5, cols, LAYOUTS[0]) for cols in QUICK_COLS if cols > WIDE]
    return [(33, *case) for case in itertools.product(narrow, LAYOUTS)] + wide


def placed(
    context: Context, cols: int, layout: str, dtype: torch.dtype, rows: int = 33
) -> torch.Tensor:
    """[rows, cols] of N(0, 1), aligned, off by one element, or with an odd pitch."""
    extra, start = {"aligned": (0, 0), "offset": (0, 1), "padded": (3, 1)}[layout]
    memory = torch.randn(start + rows * (cols + extra), device=context.device).to(dtype)
    return memory[start:].view(rows, cols + extra)[:, :cols]


def rms_norm_numerics(context: Context) -> None:
    """rms_norm_fwd and its gradients against fp64: widths, layouts, every dtype of the weight."""
    ops = context.package("rmsnorm").ops
    for dtype, weight_dtype in itertools.product(DTYPES, DTYPES):
        for rows, cols, layout in _cases(context):
            x = placed(context, cols, layout, dtype, rows)
            weight = torch.randn(cols, device=context.device).to(weight_dtype)
            out, rstd = ops.rms_norm_fwd(x, weight, EPS, 0.5, "none")
            error = precision.relative_error(out, reference.exact(x, weight, EPS, 0.5))
            what = f"{dtype} {weight_dtype} {cols} {layout}"
            # One column: all results have one magnitude, so their roundings do not average.
            rounding = torch.finfo(out.dtype).eps / 2 if cols == 1 else 0.0
            assert error <= max(precision.RMS_NORM[dtype], rounding), f"{what}: {error:.2e}"
            if cols == 1:
                continue
            grad = placed(context, cols, layout, out.dtype, rows)
            gradients = ops.rms_norm_bwd(grad, x, weight, rstd, EPS, 0.5, True, True)
            expected = reference.exact_gradients(grad, x, weight, EPS, 0.5)
            for gradient, other in zip(gradients, expected, strict=True):
                bound = 2 * precision.NORM_GRADIENT[gradient.dtype]
                error = precision.relative_error(gradient, other)
                assert error <= bound, f"{what}: gradient {error:.2e}"


def rms_norm_bits(context: Context) -> None:
    """A row gives the same bits alone, in a batch, at any address, and every time."""
    ops = context.package("rmsnorm").ops
    for dtype, cols in itertools.product(DTYPES, (7, 513, 4096, 65537)):
        x = torch.randn(257, cols, device=context.device).to(dtype)
        weight = torch.randn(cols, device=context.device).to(dtype)
        batch = ops.rms_norm_fwd(x, weight, EPS, 0.0, "llama")
        for row in (0, 1, 256):
            alone = ops.rms_norm_fwd(x[row : row + 1].clone(), weight, EPS, 0.0, "llama")
            for one, other in zip(alone, batch, strict=True):
                assert torch.equal(one[0], other[row]), f"{dtype} {cols} row {row}"
        first = ops.rms_norm_bwd(x, x, weight, batch[1], EPS, 0.0, True, True)
        for _ in range(2 if context.is_quick and cols > WIDE else 20):
            again = ops.rms_norm_bwd(x, x, weight, batch[1], EPS, 0.0, True, True)
            assert all(torch.equal(a, b) for a, b in zip(again, first, strict=True))


def rms_norm_in_place(context: Context) -> None:
    """rms_norm onto its input, and fused_add_rms_norm, give what the composed calls give."""
    package = context.package("rmsnorm")
    for dtype, cols in itertools.product(DTYPES, COLS):
        x, residual = (placed(context, cols, "padded", dtype) for _ in range(2))
        weight = torch.randn(cols, device=context.device).to(dtype)
        total = x + residual
        expected = package.ops.rms_norm_fwd(total.contiguous(), weight, EPS, 0.0, "llama")[0]
        package.ops.fused_add_rms_norm(x, residual, weight, EPS)
        assert torch.equal(x, expected), f"{dtype} {cols}"
        assert torch.equal(residual, total), f"{dtype} {cols}"
        package.ops.rms_norm(residual, residual, weight, EPS)
        assert torch.equal(residual, expected), f"{dtype} {cols} in place"


def rms_norm_graphs(context: Context) -> None:
    """Forward and backward replay from a CUDA graph, clusters of up to sixteen included."""
    needs_graphs(context)
    ops = context.package("rmsnorm").ops
    for dtype, cols in itertools.product(DTYPES, (1000, 20_000, 131_072, 300_001)):
        x, grad = torch.randn(2, 33, cols, device=context.device).to(dtype)
        weight = torch.randn(cols, device=context.device).to(dtype)

        def step(
            x: torch.Tensor = x, grad: torch.Tensor = grad, weight: torch.Tensor = weight
        ) -> tuple[torch.Tensor, ...]:
            out, rstd = ops.rms_norm_fwd(x, weight, EPS, 0.0, "llama")
            return out, rstd, *ops.rms_norm_bwd(grad, x, weight, rstd, EPS, 0.0, True, True)

        assert_replays(step, (x, grad, weight), f"{dtype} {cols}")


FAMILY = Family(
    packages=("rmsnorm",),
    ops=("rms_norm", "gemma_rms_norm", "fused_add_rms_norm", "apply_rms_norm"),
    checks=(rms_norm_graphs, rms_norm_numerics, rms_norm_bits, rms_norm_in_place),
    on_any_device=(rms_norm_numerics, rms_norm_bits, rms_norm_in_place),
    sanitized=(rms_norm_bits, rms_norm_in_place),
)
