# SPDX-License-Identifier: Apache-2.0
"""Which values may be timed: relative error in the 2-norm against fp64."""

from __future__ import annotations

import torch

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16

# Bounds for N(0, 1) inputs, by dtype.
SINGLE_ROUNDING = {FP32: 3e-7, BF16: 1.9e-3, FP16: 2.4e-4}
STEPWISE_OR_GATED = {FP32: 3e-7, BF16: 2.7e-3, FP16: 3.5e-4}
# Gradients of element-wise ops: two or three roundings on the way.
BACKWARD = {FP32: 1e-5, BF16: 6e-3, FP16: 8e-4}
ROTARY = {FP32: 2e-7, BF16: 1.9e-3, FP16: 2.4e-4}
ATTENTION = {FP32: 2e-6, BF16: 3.0e-3, FP16: 4e-4}
LAYER_NORM = {FP32: 2e-7, BF16: 1.9e-3, FP16: 2.4e-4}
RMS_NORM = {FP32: 2e-7, BF16: 2.6e-3, FP16: 3.3e-4}
NORM_GRADIENT = {FP32: 1e-6, BF16: 4e-3, FP16: 6e-4}


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    """2-norm of the difference over that of the fp64 reference; inf for a spurious NaN."""
    error = float((result.double() - reference).norm() / reference.norm())
    return error if error == error else float("inf")
