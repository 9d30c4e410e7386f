// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "primitives/tensor_check.h"
#include "rmsnorm/params.h"

namespace kernelhub::rmsnorm {

/// "llama", "gemma" or "none"; throws std::runtime_error "rmsnorm.<op>: casting ..." otherwise.
Casting checked_casting(const char* op, std::string_view name);

/// dtype of the result for an x and a weight (null: none) of these dtypes; what torch's promotion
/// gives for llama and none.
primitives::DTypeCode result_dtype(Casting casting, primitives::DTypeCode x,
                                   const primitives::DTypeCode* weight);

/// What a call brings. Pointers to arguments may be null where the op has none.
struct Arguments {
  const char* op;
  Casting casting;
  const primitives::TensorArg* out;
  const primitives::TensorArg* rstd;
  const primitives::TensorArg* x;
  const primitives::TensorArg* residual;
  const primitives::TensorArg* sum;
  const primitives::TensorArg* weight;
  double eps;
  double offset;
};

/// Checks x, weight and eps alone, before results are allocated for them.
void check_inputs(const Arguments& arguments);

/// Checks one call's tensors (device, dtype, shape, strides, overlap, eps) and describes it to
/// compute code. An output may be the input of its shape and dtype: out is x, sum is residual.
/// `is_out_x_dtype`: out has the dtype of x whatever the weight's (fused_add_rms_norm).
/// Throws std::runtime_error "rmsnorm.<op>: ..." on bad arguments. The result has zero rows or
/// columns when there is nothing to compute.
Params checked_params(const Arguments& arguments, bool is_out_x_dtype = false);

struct BackwardArguments {
  const char* op;
  const primitives::TensorArg* grad_x;
  const primitives::TensorArg* grad_weight;
  const primitives::TensorArg* grad_out;
  const primitives::TensorArg* x;
  const primitives::TensorArg* weight;
  const primitives::TensorArg* rstd;
  double eps;
  double offset;
};

void check_inputs(const BackwardArguments& arguments);

/// As checked_params. The gradients share no element with any input. Without rows grad_weight is
/// zero: that is the caller's.
BackwardParams checked_params(const BackwardArguments& arguments);

}  // namespace kernelhub::rmsnorm
