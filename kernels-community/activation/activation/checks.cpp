// SPDX-License-Identifier: Apache-2.0
#include "activation/checks.h"

namespace kernelhub::activation {
namespace {

using primitives::ArgumentCheck;
using primitives::RowLayout;
using primitives::TensorArg;

std::vector<std::int64_t> expected_out_shape(const ArgumentCheck& check, Op op,
                                             const TensorArg& input) {
  std::vector<std::int64_t> shape = input.sizes;
  if (!is_gated(op)) return shape;
  if (shape.empty()) check.fail("input", "rank", "at least 1", "0");
  if (shape.back() % 2 != 0) {
    check.fail("input", "last dimension", "an even number", std::to_string(shape.back()));
  }
  shape.back() /= 2;
  return shape;
}

bool is_dense(const RowLayout& layout) {
  return layout.rows == 1 || layout.row_stride == layout.cols;
}

}  // namespace

const char* op_name(Op op) {
  switch (op) {
    case Op::kSilu:
      return "silu";
    case Op::kGelu:
      return "gelu";
    case Op::kGeluTanh:
      return "gelu_tanh";
    case Op::kGeluQuick:
      return "gelu_quick";
    case Op::kGeluFast:
      return "gelu_fast";
    case Op::kGeluNew:
      return "gelu_new";
    case Op::kSiluAndMul:
      return "silu_and_mul";
    case Op::kMulAndSilu:
      return "mul_and_silu";
    case Op::kGeluAndMul:
      return "gelu_and_mul";
    case Op::kGeluTanhAndMul:
      return "gelu_tanh_and_mul";
    case Op::kFatreluAndMul:
      return "fatrelu_and_mul";
  }
  return "unknown op";
}

Params checked_params(Op op, const TensorArg& out, const TensorArg& input, double threshold) {
  const ArgumentCheck check("activation", op_name(op));
  check.same_device(out, input);
  const primitives::DType dtype = check.supported_dtype(input);
  check.same_dtype(out, input);
  const std::vector<std::int64_t> out_shape = expected_out_shape(check, op, input);
  check.shape(out, out_shape);
  const RowLayout input_rows = check.rows(input);
  const RowLayout out_rows = check.writable_rows(out);
  check.overlap(out, out_rows, input, input_rows,
                is_gated(op) ? ArgumentCheck::Alias::kForbidden : ArgumentCheck::Alias::kExact);
  Params params{op,
                dtype,
                out.data,
                input.data,
                out_rows.rows,
                out_rows.cols,
                out_rows.row_stride,
                input_rows.row_stride,
                threshold};
  // Elementwise over dense memory is one long row: no tail per row.
  if (!is_gated(op) && is_dense(input_rows) && is_dense(out_rows)) {
    params.cols *= params.rows;
    params.rows = 1;
  }
  return params;
}

std::string backward_name(Op op) { return std::string(op_name(op)) + "_backward"; }

BackwardParams checked_backward_params(Op op, const TensorArg& grad_input,
                                       const TensorArg& grad_out, const TensorArg& input,
                                       double threshold) {
  const std::string name = backward_name(op);
  const ArgumentCheck check("activation", name.c_str());
  check.same_device(grad_input, input);
  check.same_device(grad_out, input);
  const primitives::DType dtype = check.supported_dtype(input);
  check.same_dtype(grad_input, input);
  check.same_dtype(grad_out, input);
  const std::vector<std::int64_t> out_shape = expected_out_shape(check, op, input);
  check.shape(grad_out, out_shape);
  check.shape(grad_input, input.sizes);
  const RowLayout input_rows = check.rows(input);
  const RowLayout grad_out_rows = check.rows(grad_out);
  const RowLayout grad_input_rows = check.writable_rows(grad_input);
  check.overlap(grad_input, grad_input_rows, grad_out, grad_out_rows,
                ArgumentCheck::Alias::kForbidden);
  check.overlap(grad_input, grad_input_rows, input, input_rows, ArgumentCheck::Alias::kExact);
  BackwardParams params{op,
                        dtype,
                        grad_input.data,
                        grad_out.data,
                        input.data,
                        grad_out_rows.rows,
                        grad_out_rows.cols,
                        grad_input_rows.row_stride,
                        grad_out_rows.row_stride,
                        input_rows.row_stride,
                        threshold};
  if (!is_gated(op) && is_dense(input_rows) && is_dense(grad_out_rows) &&
      is_dense(grad_input_rows)) {
    params.cols *= params.rows;
    params.rows = 1;
  }
  return params;
}

}  // namespace kernelhub::activation
