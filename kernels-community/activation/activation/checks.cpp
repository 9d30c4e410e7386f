// SPDX-License-Identifier: Apache-2.0
#include "activation/checks.h"

namespace kernelhub::activation {
namespace {

using primitives::ArgumentCheck;
using primitives::Extents;
using primitives::list_text;
using primitives::RowLayout;
using primitives::TensorArg;

/// In the order of Op.
constexpr struct {
  const char* op;
  const char* backward;
} kNames[] = {
    {"silu", "silu_backward"},
    {"gelu", "gelu_backward"},
    {"gelu_tanh", "gelu_tanh_backward"},
    {"gelu_quick", "gelu_quick_backward"},
    {"gelu_fast", "gelu_fast_backward"},
    {"gelu_new", "gelu_new_backward"},
    {"silu_and_mul", "silu_and_mul_backward"},
    {"mul_and_silu", "mul_and_silu_backward"},
    {"gelu_and_mul", "gelu_and_mul_backward"},
    {"gelu_tanh_and_mul", "gelu_tanh_and_mul_backward"},
    {"fatrelu_and_mul", "fatrelu_and_mul_backward"},
};
static_assert(std::size(kNames) == static_cast<std::size_t>(Op::kFatreluAndMul) + 1);

[[noreturn, gnu::cold, gnu::noinline]] void refuse_halves(const ArgumentCheck& check,
                                                          const TensorArg& input) {
  if (input.sizes.empty()) check.fail("input", "rank", "at least 1", "0");
  check.fail("input", "last dimension", "an even number", std::to_string(input.sizes.back()));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_half_shape(const ArgumentCheck& check,
                                                              const TensorArg& half,
                                                              const TensorArg& input) {
  std::vector<std::int64_t> shape = input.sizes;
  shape.back() /= 2;
  check.fail(half.name, "shape", list_text(shape), list_text(half.sizes));
}

/// `out`, or its gradient, has the shape of the input, or of one of its halves for gated ops.
void check_out_shape(const ArgumentCheck& check, Op op, const TensorArg& out,
                     const TensorArg& input) {
  if (!is_gated(op)) return check.shape(out, input.sizes);
  const Extents sizes = input.sizes;
  if (sizes.empty() || sizes.back() % 2 != 0) refuse_halves(check, input);
  const std::size_t leading = sizes.size() - 1;
  const bool is_half = out.sizes.size() == sizes.size() && out.sizes.back() == sizes.back() / 2 &&
                       Extents(out.sizes.begin(), leading) == Extents(sizes.begin(), leading);
  if (!is_half) refuse_half_shape(check, out, input);
}

bool is_dense(const RowLayout& layout) {
  return layout.rows == 1 || layout.row_stride == layout.cols;
}

}  // namespace

const char* op_name(Op op) { return kNames[static_cast<int>(op)].op; }

const char* backward_name(Op op) { return kNames[static_cast<int>(op)].backward; }

Params checked_params(Op op, const TensorArg& out, const TensorArg& input, double threshold) {
  const ArgumentCheck check("activation", op_name(op));
  check.same_device(out, input);
  const primitives::DType dtype = check.supported_dtype(input);
  check.same_dtype(out, input);
  check_out_shape(check, op, out, input);
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

BackwardParams checked_backward_params(Op op, const TensorArg& grad_input,
                                       const TensorArg& grad_out, const TensorArg& input,
                                       double threshold) {
  const ArgumentCheck check("activation", backward_name(op));
  check.same_device(grad_input, input);
  check.same_device(grad_out, input);
  const primitives::DType dtype = check.supported_dtype(input);
  check.same_dtype(grad_input, input);
  check.same_dtype(grad_out, input);
  check_out_shape(check, op, grad_out, input);
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
