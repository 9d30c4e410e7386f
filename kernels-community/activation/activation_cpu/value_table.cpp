// SPDX-License-Identifier: Apache-2.0
// A 16-bit op of one tensor is a function of 65536 values, and so is its derivative. To look them
// up costs less than one cycle an element on any CPU, about what the conversions alone cost in
// vector code. So they may be computed at leisure: in fp64, rounded to fp32 and then to the dtype
// as an exact fp32 formula would be (gated ops are compared with such ones), or by the stepwise
// definition with an exact tanh; results do not depend on the instruction set, and the exhaustive
// test sees all that can ever come out. Build with -ffp-contract=off: every step of gelu_fast and
// gelu_new is a rounding point (T(.) in CARD.md), and a fused multiply-add would skip one.
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

/// act'(x) and act(x), computed in fp64.
Derivative derivative_of(Op op, double x) {
  using primitives::DType;
  const double one = 1.0;
  double value, slope;
  apply_fp64({op, DType::kFloat64, &value, &x, 1, 1, 1, 1, 0.0}, 0, 1);
  apply_backward_fp64({op, DType::kFloat64, &slope, &one, &x, 1, 1, 1, 1, 1, 0.0}, 0, 1);
  return {static_cast<float>(slope), static_cast<float>(value)};
}

/// What a table holds: the type, for which ops, and the entry for x.
struct Values {
  using Entry = std::uint16_t;
  static constexpr bool has_table(Op op) { return !is_gated(op); }
  template <class Format>
  static Entry of(Op op, float x) {
    return narrow<Format>(value_of<Format>(op, x));
  }
};

struct Derivatives {
  using Entry = Derivative;
  static constexpr bool has_table(Op op) { return !is_gated(op) && !is_stepwise(op); }
  template <class Format>
  static Entry of(Op op, float x) {
    return derivative_of(op, x);
  }
};

struct Slopes : Derivatives {
  using Entry = float;
  template <class Format>
  static Entry of(Op op, float x) {
    return derivative_of(op, x).slope;
  }
};

template <class Kind, class Format>
struct Table {
  typename Kind::Entry entries[kValues + 1] = {};  // a look-up of the last value may read one more

  explicit Table(Op op) {
    for (std::int64_t bits = 0; bits < kValues; ++bits) {
      const float x = widen<Format>(static_cast<std::uint16_t>(bits));
      entries[bits] = Kind::template of<Format>(op, x);
    }
  }
};

template <class Kind, class Format, Op op>
const typename Kind::Entry* the_table() {
  static const Table<Kind, Format> table(op);
  return table.entries;
}

/// Null for an op that has none.
template <class Kind>
const typename Kind::Entry* table_of(Op op, primitives::DType dtype) {
  return with_op(op, [dtype](auto constant) -> const typename Kind::Entry* {
    constexpr Op own = decltype(constant)::value;
    if constexpr (!Kind::has_table(own)) {
      return nullptr;
    } else if (dtype == primitives::DType::kBFloat16) {
      return the_table<Kind, simd::BFloat16, own>();
    } else {
      return the_table<Kind, simd::Float16, own>();
    }
  });
}

}  // namespace

const std::uint16_t* value_table(Op op, primitives::DType dtype) {
  return table_of<Values>(op, dtype);
}

const float* slope_table(Op op, primitives::DType dtype) { return table_of<Slopes>(op, dtype); }

const Derivative* derivative_table(Op op, primitives::DType dtype) {
  return table_of<Derivatives>(op, dtype);
}

}  // namespace kernelhub::activation::cpu
