// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::layer_norm {

/// One call, already checked. Strides count elements; rows are unit-stride inside.
struct Params {
  primitives::DType dtype;  // of all tensors
  void* out;                // [rows, cols], may equal x
  const void* x;            // [rows, cols]
  const void* weight;       // [cols] or null (ones)
  const void* bias;         // [cols] or null (zeros)
  std::int64_t rows;        // >= 1
  std::int64_t cols;        // >= 1
  std::int64_t out_stride;  // elements from one row of out to the next
  std::int64_t x_stride;
  double eps;  // added to the variance
};

}  // namespace kernelhub::layer_norm
