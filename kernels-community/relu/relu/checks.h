// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "primitives/tensor_check.h"
#include "relu/params.h"

namespace kernelhub::relu {

/// Checks the tensors of `relu(out, input)`, for which `value` is `input`, or of
/// `relu_backward(grad_input, grad_out, input)`, and describes the call to compute code. Throws
/// std::runtime_error "relu.<op>: ..." on bad arguments. The result has zero rows or columns when
/// there is nothing to compute.
inline Params checked_params(const char* op, const primitives::TensorArg& out,
                             const primitives::TensorArg& value,
                             const primitives::TensorArg& input) {
  using primitives::ArgumentCheck;
  using primitives::RowLayout;
  const ArgumentCheck check("relu", op);
  check.same_device(out, input);
  check.same_device(value, input);
  const primitives::DType dtype = check.supported_dtype(input);
  check.same_dtype(out, input);
  check.same_dtype(value, input);
  check.shape(out, input.sizes);
  check.shape(value, input.sizes);
  const RowLayout input_rows = check.rows(input);
  const RowLayout value_rows = check.rows(value);
  const RowLayout out_rows = check.writable_rows(out);
  check.overlap(out, out_rows, input, input_rows, ArgumentCheck::Alias::kExact);
  if (&value != &input) {
    check.overlap(out, out_rows, value, value_rows, ArgumentCheck::Alias::kForbidden);
  }
  Params params{dtype,
                out.data,
                value.data,
                input.data,
                out_rows.rows,
                out_rows.cols,
                out_rows.row_stride,
                value_rows.row_stride,
                input_rows.row_stride};
  const auto is_dense = [](const RowLayout& rows) {
    return rows.rows == 1 || rows.row_stride == rows.cols;
  };
  // Elementwise over dense memory is one long row: no tail per row.
  if (is_dense(input_rows) && is_dense(value_rows) && is_dense(out_rows)) {
    params.cols *= params.rows;
    params.rows = 1;
  }
  return params;
}

}  // namespace kernelhub::relu
