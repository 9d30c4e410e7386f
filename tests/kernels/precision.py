# SPDX-License-Identifier: Apache-2.0
"""Distances between results and fp64 references, and the tolerance table of the kernels."""

import torch

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16

# Relative error in the 2-norm for inputs N(0, 1), by dtype.
SINGLE_ROUNDING = {FP32: 3e-7, BF16: 1.9e-3, FP16: 2.4e-4}
STEPWISE_OR_GATED = {FP32: 3e-7, BF16: 2.7e-3, FP16: 3.5e-4}
ROTARY = {FP32: 2e-7, BF16: 1.9e-3, FP16: 2.4e-4}
LAYER_NORM = {FP32: 2e-7, BF16: 1.9e-3, FP16: 2.4e-4}
RMS_NORM = {FP32: 2e-7, BF16: 2.6e-3, FP16: 3.3e-4}
NORM_GRADIENT = {FP32: 1e-6, BF16: 4e-3, FP16: 6e-4}

# (absolute, relative) bounds of the upstream test suite against the composed eager formula.
UPSTREAM = {FP32: (1e-5, 1.3e-6), BF16: (1e-3, 1.6e-2), FP16: (1e-3, 1e-3)}


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    """2-norm of the difference over the 2-norm of the fp64 reference."""
    return float(((result.double() - reference).norm() / reference.norm()).detach())


def ulp_errors(result: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Error against an fp64 reference in units of the last place that result.dtype has there."""
    info = torch.finfo(result.dtype)
    exponent = torch.floor(torch.log2(reference.abs().clamp_min(info.smallest_normal)))
    return (result.double() - reference).abs() / (torch.exp2(exponent) * info.eps)


def all_patterns(dtype: torch.dtype) -> torch.Tensor:
    """Every value of a 16-bit dtype, NaNs and infinities included."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Elementwise bit equality; one NaN is as good as another."""
    as_int = {4: torch.int32, 2: torch.int16, 8: torch.int64}[a.element_size()]
    return (a.view(as_int) == b.view(as_int)) | (a.isnan() & b.isnan())
