// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::rmsnorm {

/// Where a result is rounded; the formulas are in CARD.md.
enum class Casting : std::int32_t {
  kLlama,  // x * rstd to the dtype of x, then times weight: the promoted dtype
  kGemma,  // one rounding, to the dtype of x
  kNone,   // one rounding, to the promoted dtype
};

/// One call, already checked. Strides count elements; rows are unit-stride inside.
struct Params {
  primitives::DType dtype;         // of x, residual and sum
  primitives::DType weight_dtype;  // as dtype without a weight
  primitives::DType out_dtype;     // dtype, or fp32
  bool is_rounded_first;           // Casting::kLlama
  void* out;                       // [rows, cols], may equal x where the dtypes do
  float* rstd;                     // [rows] or null
  const void* x;                   // [rows, cols]
  const void* residual;            // [rows, cols] or null: x + residual is normalised
  void* sum;                       // [rows, cols]: x + residual, may equal residual; null without
  const void* weight;              // [cols] or null (ones)
  std::int64_t rows;               // >= 1
  std::int64_t cols;               // >= 1, or 0 with rstd
  std::int64_t out_stride;         // elements from one row of out to the next
  std::int64_t x_stride;
  std::int64_t residual_stride;
  std::int64_t sum_stride;
  double eps;     // added to the mean square
  double offset;  // added to the weight
};

/// Nothing to write. Rows without columns have an rstd: NaN, that of the mean of nothing.
inline bool is_empty(const Params& params) {
  return params.rows == 0 || (params.cols == 0 && params.rstd == nullptr);
}

/// One call of the backward, already checked.
struct BackwardParams {
  primitives::DType dtype;         // of x and grad_x
  primitives::DType weight_dtype;  // and of grad_weight; as dtype without a weight
  primitives::DType grad_dtype;    // dtype, or fp32
  void* grad_x;                    // [rows, cols] or null where nobody asks
  void* grad_weight;               // [cols] or null
  void* workspace;                 // as many bytes as `backward_workspace` says, for grad_weight
  const void* grad_out;            // [rows, cols]
  const void* x;                   // [rows, cols]
  const void* weight;              // [cols] or null
  const float* rstd;               // [rows], of the forward
  std::int64_t rows;               // >= 1
  std::int64_t cols;               // >= 1
  std::int64_t grad_x_stride;      // elements from one row of grad_x to the next
  std::int64_t grad_out_stride;
  std::int64_t x_stride;
  double eps;
  double offset;
};

}  // namespace kernelhub::rmsnorm
