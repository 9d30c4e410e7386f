// SPDX-License-Identifier: Apache-2.0
// A 16-bit op of one tensor is a function of 65536 values. To look them up costs about one cycle an
// element on any CPU, less than the conversions alone cost in vector code, and the exhaustive test
// of the values is a test of all that can ever come out.
#include "activation_cpu/value_table.h"

#include <numeric>

#include "activation_cpu/row_segments.h"

namespace kernelhub::activation::cpu {
namespace {

constexpr std::int64_t kValues = 1 << 16;

struct ValueTable {
  std::uint16_t values[kValues];

  ValueTable(Op op, primitives::DType dtype, Apply apply) {
    std::iota(values, values + kValues, std::uint16_t{0});
    apply({op, dtype, values, values, 1, kValues, kValues, kValues, 0.0}, 0, kValues);
  }
};

template <Op op>
const std::uint16_t* table_of(primitives::DType dtype, Apply apply) {
  if (dtype == primitives::DType::kBFloat16) {
    static const ValueTable bf16(op, dtype, apply);
    return bf16.values;
  }
  static const ValueTable fp16(op, dtype, apply);
  return fp16.values;
}

}  // namespace

const std::uint16_t* value_table(Op op, primitives::DType dtype, Apply apply) {
  switch (op) {
    case Op::kGelu:
      return table_of<Op::kGelu>(dtype, apply);
    case Op::kGeluTanh:
      return table_of<Op::kGeluTanh>(dtype, apply);
    case Op::kGeluQuick:
      return table_of<Op::kGeluQuick>(dtype, apply);
    case Op::kGeluFast:
      return table_of<Op::kGeluFast>(dtype, apply);
    case Op::kGeluNew:
      return table_of<Op::kGeluNew>(dtype, apply);
    default:
      return table_of<Op::kSilu>(dtype, apply);
  }
}

void apply_table(const Params& params, const std::uint16_t* table, std::int64_t begin,
                 std::int64_t end) {
  for_each_row_segment<std::uint16_t>(
      params, begin, end, [table](const std::uint16_t* in, std::uint16_t* out, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) out[i] = table[in[i]];
      });
}

}  // namespace kernelhub::activation::cpu
