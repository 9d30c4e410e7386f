// SPDX-License-Identifier: Apache-2.0
#include "layer_norm/checks.h"

#include <cmath>

namespace kernelhub::layer_norm {
namespace {

using primitives::ArgumentCheck;
using primitives::RowLayout;
using primitives::TensorArg;

const void* checked_parameter(const ArgumentCheck& check, const TensorArg* parameter,
                              const TensorArg& x, const TensorArg& out, const RowLayout& out_rows) {
  if (parameter == nullptr) return nullptr;
  check.same_device(*parameter, x);
  check.same_dtype(*parameter, x);
  check.shape(*parameter, {x.sizes.back()});
  check.overlap(out, out_rows, *parameter, check.rows(*parameter),
                ArgumentCheck::Alias::kForbidden);
  return parameter->data;
}

}  // namespace

Params checked_params(const TensorArg& out, const TensorArg& x, const TensorArg* weight,
                      const TensorArg* bias, double eps) {
  const ArgumentCheck check("layer_norm", "layer_norm");
  check.same_device(out, x);
  const primitives::DType dtype = check.supported_dtype(x);
  check.same_dtype(out, x);
  if (x.sizes.empty()) check.fail("x", "rank", "at least 1", "0");
  check.shape(out, x.sizes);
  if (!(eps >= 0.0) || std::isinf(eps)) {
    check.fail("eps", "value", "a finite number of at least 0", std::to_string(eps));
  }
  const RowLayout x_rows = check.rows(x);
  const RowLayout out_rows = check.writable_rows(out);
  check.overlap(out, out_rows, x, x_rows, ArgumentCheck::Alias::kExact);
  const void* weight_data = checked_parameter(check, weight, x, out, out_rows);
  const void* bias_data = checked_parameter(check, bias, x, out, out_rows);
  return {dtype,
          out.data,
          x.data,
          weight_data,
          bias_data,
          out_rows.rows,
          out_rows.cols,
          out_rows.row_stride,
          x_rows.row_stride,
          eps};
}

}  // namespace kernelhub::layer_norm
