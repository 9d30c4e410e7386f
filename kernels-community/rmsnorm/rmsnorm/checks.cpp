// SPDX-License-Identifier: Apache-2.0
#include "rmsnorm/checks.h"

#include <cmath>

namespace kernelhub::rmsnorm {
namespace {

using primitives::ArgumentCheck;
using primitives::DType;
using primitives::DTypeCode;
using primitives::RowLayout;
using primitives::TensorArg;
using Alias = ArgumentCheck::Alias;

constexpr DTypeCode kFloat32{DTypeCode::kFloat, 32, 1};

ArgumentCheck check_of(const char* op) { return {"rmsnorm", op}; }

void check_dtype(const ArgumentCheck& check, const TensorArg& argument, DTypeCode expected) {
  if (argument.dtype == expected) return;
  check.fail(argument.name, "dtype", primitives::dtype_name(expected),
             primitives::dtype_name(argument.dtype));
}

DType checked_weight_dtype(const ArgumentCheck& check, const TensorArg* weight, const TensorArg& x,
                           DType dtype) {
  if (weight == nullptr) return dtype;
  check.same_device(*weight, x);
  const DType weight_dtype = check.supported_dtype(*weight);
  if ((dtype == DType::kFloat64) != (weight_dtype == DType::kFloat64)) {
    check.same_dtype(*weight, x);
  }
  check.shape(*weight, {x.sizes.back()});
  check.rows(*weight);
  return weight_dtype;
}

void check_numbers(const ArgumentCheck& check, double eps, double offset) {
  if (!(eps >= 0.0) || std::isinf(eps)) {
    check.fail("epsilon", "value", "a finite number of at least 0", std::to_string(eps));
  }
  if (!std::isfinite(offset)) {
    check.fail("weight_offset", "value", "a finite number", std::to_string(offset));
  }
}

primitives::Extents row_shape(const TensorArg& x) { return {x.sizes.begin(), x.sizes.size() - 1}; }

/// rstd is contiguous: [rows].
void check_rstd(const ArgumentCheck& check, const TensorArg& rstd, const TensorArg& x) {
  check.same_device(rstd, x);
  check_dtype(check, rstd, kFloat32);
  check.shape(rstd, row_shape(x));
  std::int64_t stride = 1;
  for (std::size_t i = rstd.sizes.size(); i-- > 0;) {
    if (rstd.sizes[i] != 1 && rstd.strides[i] != stride && rstd.numel() > 0) {
      check.fail(rstd.name, "strides", "a contiguous tensor", primitives::list_text(rstd.strides));
    }
    stride *= rstd.sizes[i];
  }
}

DType dtype_of(DTypeCode code) {
  if (code.kind == DTypeCode::kBFloat) return DType::kBFloat16;
  return code.bits == 64 ? DType::kFloat64 : code.bits == 32 ? DType::kFloat32 : DType::kFloat16;
}

/// What torch's promotion gives for llama and none; `weight` is null without one.
DTypeCode result_dtype(Casting casting, DTypeCode x, const TensorArg* weight) {
  if (weight == nullptr || casting == Casting::kGemma || weight->dtype == x || x.bits > 16)
    return x;
  return kFloat32;
}

RowLayout one_row(const TensorArg& argument) { return {1, argument.numel(), argument.numel()}; }

/// A written tensor with the dtype and the shape of x.
RowLayout checked_output(const ArgumentCheck& check, const TensorArg& out, DTypeCode dtype,
                         const TensorArg& x) {
  check.same_device(out, x);
  check_dtype(check, out, dtype);
  check.shape(out, x.sizes);
  return check.writable_rows(out);
}

}  // namespace

Casting checked_casting(const char* op, std::string_view name) {
  if (name == "llama") return Casting::kLlama;
  if (name == "gemma") return Casting::kGemma;
  if (name == "none") return Casting::kNone;
  check_of(op).fail("casting", "value", "llama, gemma or none", std::string(name));
}

namespace {

/// What a forward and a backward say of x, the weight and the numbers.
template <class Checked, class Given>
Checked checked_x(const ArgumentCheck& check, const Given& arguments) {
  const TensorArg& x = *arguments.x;
  Checked params{};
  params.dtype = check.supported_dtype(x);
  if (x.sizes.empty()) check.fail(x.name, "rank", "at least 1", "0");
  check_numbers(check, arguments.eps, arguments.offset);
  const RowLayout x_rows = check.rows(x);
  params.weight_dtype = checked_weight_dtype(check, arguments.weight, x, params.dtype);
  params.x = x.data;
  params.weight = arguments.weight == nullptr ? nullptr : arguments.weight->data;
  params.rows = x_rows.rows;
  params.cols = x_rows.cols;
  params.x_stride = x_rows.row_stride;
  params.eps = arguments.eps;
  params.offset = arguments.offset;
  return params;
}

}  // namespace

Params checked_inputs(const Arguments& arguments) {
  const ArgumentCheck check = check_of(arguments.op);
  const TensorArg& x = *arguments.x;
  Params params = checked_x<Params>(check, arguments);
  params.out_dtype = dtype_of(result_dtype(arguments.casting, x.dtype, arguments.weight));
  params.is_rounded_first = arguments.casting == Casting::kLlama;
  if (arguments.residual == nullptr) return params;

  const TensorArg& residual = *arguments.residual;
  check.same_device(residual, x);
  check.same_dtype(residual, x);
  check.shape(residual, x.sizes);
  params.residual = residual.data;
  params.residual_stride = check.rows(residual).row_stride;
  return params;
}

void set_new_results(Params& params, void* out, void* rstd, void* sum) {
  params.out = out;
  params.rstd = static_cast<float*>(rstd);
  params.sum = sum;
  params.out_stride = params.cols;
  params.sum_stride = sum == nullptr ? 0 : params.cols;
}

Params checked_params(const Arguments& arguments, bool is_out_x_dtype) {
  const ArgumentCheck check = check_of(arguments.op);
  const TensorArg& x = *arguments.x;
  const TensorArg& out = *arguments.out;
  Params params = checked_inputs(arguments);
  if (is_out_x_dtype) params.out_dtype = params.dtype;
  const DTypeCode out_code = params.out_dtype == params.dtype ? x.dtype : kFloat32;
  const RowLayout x_rows{params.rows, params.cols, params.x_stride};
  const RowLayout out_rows = checked_output(check, out, out_code, x);
  check.overlap(out, out_rows, x, x_rows, Alias::kExact);
  params.out = out.data;
  params.out_stride = out_rows.row_stride;
  if (arguments.weight != nullptr) {
    check.overlap(out, out_rows, *arguments.weight, one_row(*arguments.weight), Alias::kForbidden);
  }
  if (arguments.rstd != nullptr) {
    const RowLayout rstd_rows = one_row(*arguments.rstd);
    check_rstd(check, *arguments.rstd, x);
    check.overlap(*arguments.rstd, rstd_rows, x, x_rows, Alias::kForbidden);
    check.overlap(*arguments.rstd, rstd_rows, out, out_rows, Alias::kForbidden);
    params.rstd = static_cast<float*>(arguments.rstd->data);
  }
  if (arguments.residual == nullptr) return params;

  const TensorArg& residual = *arguments.residual;
  const TensorArg& sum = *arguments.sum;
  const RowLayout residual_rows{params.rows, params.cols, params.residual_stride};
  const RowLayout sum_rows = checked_output(check, sum, x.dtype, x);
  check.overlap(sum, sum_rows, residual, residual_rows, Alias::kExact);
  check.overlap(sum, sum_rows, x, x_rows, Alias::kForbidden);
  check.overlap(sum, sum_rows, out, out_rows, Alias::kForbidden);
  check.overlap(out, out_rows, residual, residual_rows, Alias::kForbidden);
  if (arguments.weight != nullptr) {
    check.overlap(sum, sum_rows, *arguments.weight, one_row(*arguments.weight), Alias::kForbidden);
  }
  params.sum = sum.data;
  params.sum_stride = sum_rows.row_stride;
  return params;
}

BackwardParams checked_inputs(const BackwardArguments& arguments) {
  const ArgumentCheck check = check_of(arguments.op);
  const TensorArg& x = *arguments.x;
  const TensorArg& grad_out = *arguments.grad_out;
  BackwardParams params = checked_x<BackwardParams>(check, arguments);
  check.same_device(grad_out, x);
  if (!(grad_out.dtype == x.dtype) && !(grad_out.dtype == kFloat32 && x.dtype.bits == 16)) {
    check.same_dtype(grad_out, x);
  }
  check.shape(grad_out, x.sizes);
  check_rstd(check, *arguments.rstd, x);
  params.grad_dtype = dtype_of(grad_out.dtype);
  params.grad_out = grad_out.data;
  params.rstd = static_cast<const float*>(arguments.rstd->data);
  params.grad_out_stride = check.rows(grad_out).row_stride;
  return params;
}

BackwardParams checked_params(const BackwardArguments& arguments) {
  const ArgumentCheck check = check_of(arguments.op);
  const TensorArg& x = *arguments.x;
  BackwardParams params = checked_inputs(arguments);
  const RowLayout x_rows{params.rows, params.cols, params.x_stride};
  const RowLayout grad_out_rows{params.rows, params.cols, params.grad_out_stride};
  const auto check_disjoint = [&](const TensorArg& grad, const RowLayout& rows) {
    check.overlap(grad, rows, *arguments.grad_out, grad_out_rows, Alias::kForbidden);
    check.overlap(grad, rows, x, x_rows, Alias::kForbidden);
    check.overlap(grad, rows, *arguments.rstd, one_row(*arguments.rstd), Alias::kForbidden);
    if (arguments.weight == nullptr) return;
    check.overlap(grad, rows, *arguments.weight, one_row(*arguments.weight), Alias::kForbidden);
  };
  if (arguments.grad_x != nullptr) {
    const RowLayout rows = checked_output(check, *arguments.grad_x, x.dtype, x);
    check_disjoint(*arguments.grad_x, rows);
    params.grad_x = arguments.grad_x->data;
    params.grad_x_stride = rows.row_stride;
  }
  if (arguments.grad_weight == nullptr) return params;

  const TensorArg& grad_weight = *arguments.grad_weight;
  if (arguments.weight == nullptr) {
    check.fail(grad_weight.name, "value", "none, as weight", "a tensor");
  }
  check.same_device(grad_weight, x);
  check.same_dtype(grad_weight, *arguments.weight);
  check.shape(grad_weight, arguments.weight->sizes);
  check.rows(grad_weight);
  check_disjoint(grad_weight, one_row(grad_weight));
  if (arguments.grad_x != nullptr) {
    check.overlap(*arguments.grad_x, check.rows(*arguments.grad_x), grad_weight,
                  one_row(grad_weight), Alias::kForbidden);
  }
  params.grad_weight = grad_weight.data;
  return params;
}

void set_new_gradients(BackwardParams& params, void* grad_x, void* grad_weight) {
  params.grad_x = grad_x;
  params.grad_weight = grad_weight;
  params.grad_x_stride = grad_x == nullptr ? 0 : params.cols;
}

}  // namespace kernelhub::rmsnorm
