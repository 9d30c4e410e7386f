// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

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

/// Every step of the formula rounds to the storage dtype.
constexpr bool is_stepwise(Op op) { return op == Op::kGeluFast || op == Op::kGeluNew; }

/// The op without steps: its derivative is taken, and in fp32 on the CPU its value.
constexpr Op smooth(Op op) { return is_stepwise(op) ? Op::kGeluTanh : op; }

/// The unary op inside a gated one, a unary op itself. fatrelu is no op of its own: it stands for
/// its gated form.
constexpr Op activation_of(Op op) {
  switch (op) {
    case Op::kSiluAndMul:
    case Op::kMulAndSilu:
      return Op::kSilu;
    case Op::kGeluAndMul:
      return Op::kGelu;
    case Op::kGeluTanhAndMul:
      return Op::kGeluTanh;
    default:
      return op;
  }
}

template <Op op>
using OpConstant = std::integral_constant<Op, op>;

/// Returns `visitor(OpConstant<op>{})`: the op of a call as a constant, for code that is compiled
/// for each.
template <class Visitor>
auto with_op(Op op, const Visitor& visitor) {
  switch (op) {
    case Op::kSilu:
      return visitor(OpConstant<Op::kSilu>{});
    case Op::kGelu:
      return visitor(OpConstant<Op::kGelu>{});
    case Op::kGeluTanh:
      return visitor(OpConstant<Op::kGeluTanh>{});
    case Op::kGeluQuick:
      return visitor(OpConstant<Op::kGeluQuick>{});
    case Op::kGeluFast:
      return visitor(OpConstant<Op::kGeluFast>{});
    case Op::kGeluNew:
      return visitor(OpConstant<Op::kGeluNew>{});
    case Op::kSiluAndMul:
      return visitor(OpConstant<Op::kSiluAndMul>{});
    case Op::kMulAndSilu:
      return visitor(OpConstant<Op::kMulAndSilu>{});
    case Op::kGeluAndMul:
      return visitor(OpConstant<Op::kGeluAndMul>{});
    case Op::kGeluTanhAndMul:
      return visitor(OpConstant<Op::kGeluTanhAndMul>{});
    case Op::kFatreluAndMul:
      break;
  }
  return visitor(OpConstant<Op::kFatreluAndMul>{});
}

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
