// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layer_norm/params.h"
#include "primitives/tensor_check.h"

namespace kernelhub::layer_norm {

/// Checks one call's tensors (device, dtype, shape, strides, overlap, eps) and describes it to
/// compute code; `weight` and `bias` may be null. Throws std::runtime_error
/// "layer_norm.layer_norm: ..." on bad arguments. The result has zero rows or columns when there is
/// nothing to compute.
Params checked_params(const primitives::TensorArg& out, const primitives::TensorArg& x,
                      const primitives::TensorArg* weight, const primitives::TensorArg* bias,
                      double eps);

}  // namespace kernelhub::layer_norm
