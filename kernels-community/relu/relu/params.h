// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::relu {

/// One call, already checked: `out = value` where `input` is not cut, else 0. `value` is the input
/// itself, or for the backward the gradient of the result. Strides count elements; rows are
/// unit-stride inside.
struct Params {
  primitives::DType dtype;  // of all three
  void* out;                // [rows, cols]; may equal input
  const void* value;        // [rows, cols]
  const void* input;        // [rows, cols]
  std::int64_t rows;        // >= 1
  std::int64_t cols;        // >= 1
  std::int64_t out_stride;  // elements from one row of out to the next
  std::int64_t value_stride;
  std::int64_t input_stride;
};

}  // namespace kernelhub::relu
