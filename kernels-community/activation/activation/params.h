// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::activation {

/// Every op of the package; the formulas and their rounding points are in CARD.md.
enum class Op : std::int32_t {
  kSilu,
  kGelu,
  kGeluTanh,
  kGeluQuick,
  kGeluFast,
  kGeluNew,
  kSiluAndMul,
  kMulAndSilu,
  kGeluAndMul,
  kGeluTanhAndMul,
  kFatreluAndMul,
};

/// Gated ops read `[rows, 2 * cols]`; row r holds x in its first half and y in its second.
constexpr bool is_gated(Op op) { return op >= Op::kSiluAndMul; }

/// One call, already checked. Strides count elements; rows are unit-stride inside.
struct Params {
  Op op;
  primitives::DType dtype;  // of out and input
  void* out;                // [rows, cols]
  const void* input;        // [rows, cols], gated: [rows, 2 * cols]; may equal out if not gated
  std::int64_t rows;        // >= 1
  std::int64_t cols;        // >= 1
  std::int64_t out_stride;  // elements from one row of out to the next
  std::int64_t input_stride;
  double threshold;  // fatrelu_and_mul only
};

/// One call of an op's backward, already checked; the layouts are those of Params.
struct BackwardParams {
  Op op;                           // the forward op
  primitives::DType dtype;         // of all three tensors
  void* grad_input;                // as input, which it may equal
  const void* grad_out;            // [rows, cols]
  const void* input;               // [rows, cols], gated: [rows, 2 * cols]
  std::int64_t rows;               // >= 1
  std::int64_t cols;               // >= 1
  std::int64_t grad_input_stride;  // elements from one row of grad_input to the next
  std::int64_t grad_out_stride;
  std::int64_t input_stride;
  double threshold;  // fatrelu_and_mul_backward only
};

}  // namespace kernelhub::activation
