// SPDX-License-Identifier: Apache-2.0
// A 16-bit op of one tensor is a function of 65536 values, and so is its derivative. To look them
// up costs less than one cycle an element on any CPU, about what the conversions alone cost in
// vector code. So they may be computed at leisure: in fp64 with one rounding, or by the stepwise
// definition with an exact tanh; results do not depend on the instruction set, and the exhaustive
// test sees all that can ever come out.
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/value_table.h"

#include <cmath>

#include "activation_cpu/activation_cpu.h"
#include "primitives/simd_float.h"

static_assert(HWY_TARGET == HWY_SCALAR, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {
namespace {

namespace simd = primitives::HWY_NAMESPACE;
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int64_t kValues = 1 << 16;

template <class Format>
float widen(std::uint16_t bits) {
  return hn::GetLane(Format::load(&bits));
}

template <class Format>
std::uint16_t narrow(float value) {
  std::uint16_t bits;
  Format::store(hn::Set(simd::F32(), value), &bits);
  return bits;
}

template <class Format>
float t(float value) {
  return hn::GetLane(Format::round(hn::Set(simd::F32(), value)));
}

/// T(T(0.5 x) * T(1 + T(tanh(inner)))), the end of gelu_fast and gelu_new.
template <class Format>
float half_gate(float x, float inner) {
  const float tanh = t<Format>(static_cast<float>(std::tanh(static_cast<double>(inner))));
  return t<Format>(0.5f * x) * t<Format>(1.0f + tanh);
}

template <class Format>
float gelu_fast(float x) {
  const float cubic = t<Format>(t<Format>(0.044715f * x) * x);
  const float inner = t<Format>(t<Format>(x * 0.79788456f) * t<Format>(1.0f + cubic));
  return half_gate<Format>(x, inner);
}

template <class Format>
float gelu_new(float x) {
  const float cube = t<Format>(t<Format>(x * x) * x);
  const float sum = t<Format>(x + t<Format>(0.044715f * cube));
  return half_gate<Format>(x, t<Format>(0.79788456f * sum));
}

template <class Format>
float value_of(Op op, float x) {
  if (op == Op::kGeluFast) return gelu_fast<Format>(x);
  if (op == Op::kGeluNew) return gelu_new<Format>(x);
  const double input = x;
  double out;
  apply_fp64({op, primitives::DType::kFloat64, &out, &input, 1, 1, 1, 1, 0.0}, 0, 1);
  return static_cast<float>(out);
}

template <class Format>
struct ValueTable {
  using Value = std::uint16_t;
  std::uint16_t values[kValues + 1];  // a gather of the last value reads one more

  explicit ValueTable(Op op) {
    values[kValues] = 0;
    for (std::int64_t bits = 0; bits < kValues; ++bits) {
      const float x = widen<Format>(static_cast<std::uint16_t>(bits));
      values[bits] = narrow<Format>(value_of<Format>(op, x));
    }
  }
};

/// act'(x) and act(x), computed in fp64.
Derivative derivative_of(Op op, double x) {
  using primitives::DType;
  const double one = 1.0;
  double value, slope;
  apply_fp64({op, DType::kFloat64, &value, &x, 1, 1, 1, 1, 0.0}, 0, 1);
  apply_backward_fp64({op, DType::kFloat64, &slope, &one, &x, 1, 1, 1, 1, 1, 0.0}, 0, 1);
  return {static_cast<float>(slope), static_cast<float>(value)};
}

template <class Format>
struct SlopeTable {
  using Value = float;
  float values[kValues];

  explicit SlopeTable(Op op) {
    for (std::int64_t bits = 0; bits < kValues; ++bits) {
      values[bits] = derivative_of(op, widen<Format>(static_cast<std::uint16_t>(bits))).slope;
    }
  }
};

template <class Format>
struct DerivativeTable {
  using Value = Derivative;
  Derivative values[kValues];

  explicit DerivativeTable(Op op) {
    for (std::int64_t bits = 0; bits < kValues; ++bits) {
      values[bits] = derivative_of(op, widen<Format>(static_cast<std::uint16_t>(bits)));
    }
  }
};

/// The values of the one Table<Format> that there is for `op`, null where `has_table` is false.
template <template <class> class Table, Op op, bool has_table>
const typename Table<simd::BFloat16>::Value* table_of(primitives::DType dtype) {
  if constexpr (!has_table) {
    return nullptr;
  } else {
    if (dtype == primitives::DType::kBFloat16) {
      static Table<simd::BFloat16> bf16(op);
      return bf16.values;
    }
    static Table<simd::Float16> fp16(op);
    return fp16.values;
  }
}

}  // namespace

const std::uint16_t* value_table(Op op, primitives::DType dtype) {
  return with_op(op, [dtype](auto constant) -> const std::uint16_t* {
    constexpr Op own = decltype(constant)::value;
    constexpr bool has_table = !is_gated(own);
    return table_of<ValueTable, own, has_table>(dtype);
  });
}

const float* slope_table(Op op, primitives::DType dtype) {
  return with_op(op, [dtype](auto constant) -> const float* {
    constexpr Op own = decltype(constant)::value;
    constexpr bool has_table = !is_gated(own) && !is_stepwise(own);
    return table_of<SlopeTable, own, has_table>(dtype);
  });
}

const Derivative* derivative_table(Op op, primitives::DType dtype) {
  return with_op(op, [dtype](auto constant) -> const Derivative* {
    constexpr Op own = decltype(constant)::value;
    constexpr bool has_table = !is_gated(own) && !is_stepwise(own);
    return table_of<DerivativeTable, own, has_table>(dtype);
  });
}

}  // namespace kernelhub::activation::cpu
