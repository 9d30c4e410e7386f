// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "activation/params.h"
#include "primitives/tensor_check.h"

namespace kernelhub::activation {

/// "silu_and_mul"
const char* op_name(Op op);

/// Checks one call's tensors (device, dtype, shape, strides, overlap) and describes it to compute
/// code. Throws std::runtime_error "activation.<op>: ..." on bad arguments. The result has zero
/// rows or columns when there is nothing to compute.
Params checked_params(Op op, const primitives::TensorArg& out, const primitives::TensorArg& input,
                      double threshold);

/// "silu_and_mul_backward"
const char* backward_name(Op op);

/// As checked_params, for `<op>_backward(grad_input, grad_out, input)`. `grad_input` may be the
/// input itself; it shares no element with `grad_out`.
BackwardParams checked_backward_params(Op op, const primitives::TensorArg& grad_input,
                                       const primitives::TensorArg& grad_out,
                                       const primitives::TensorArg& input, double threshold);

}  // namespace kernelhub::activation
