// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "primitives/tensor_check.h"
#include "rmsnorm/params.h"

namespace kernelhub::rmsnorm {

/// "llama", "gemma" or "none"; throws std::runtime_error "rmsnorm.<op>: casting ..." otherwise.
Casting checked_casting(const char* op, std::string_view name);

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

/// Checks what a call reads: x, residual, weight, eps (device, dtype, shape, strides). The result
/// says what new results must be, and lacks nothing but them: see `set_new_results`. Throws
/// std::runtime_error "rmsnorm.<op>: ..." on bad arguments. It has zero rows or columns when there
/// is nothing to compute.
Params checked_inputs(const Arguments& arguments);

/// As checked_inputs, and for the results that the call brings, also that they share no element
/// with anything else. An output may be the input of its shape and dtype: out is x, sum is
/// residual. `is_out_x_dtype`: out has the dtype of x whatever the weight's (fused_add_rms_norm).
Params checked_params(const Arguments& arguments, bool is_out_x_dtype = false);

/// Results in memory of their own, contiguous; `sum` is null without a residual.
void set_new_results(Params& params, void* out, void* rstd, void* sum);

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

/// As for the forward; what the result lacks is for `set_new_gradients`.
BackwardParams checked_inputs(const BackwardArguments& arguments);

/// As checked_params. The gradients share no element with any input. Without rows grad_weight is
/// zero: that is the caller's.
BackwardParams checked_params(const BackwardArguments& arguments);

/// Gradients in memory of their own, contiguous; null where nobody asks for one.
void set_new_gradients(BackwardParams& params, void* grad_x, void* grad_weight);

}  // namespace kernelhub::rmsnorm
