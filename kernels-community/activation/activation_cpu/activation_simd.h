// SPDX-License-Identifier: Apache-2.0
// The ops of the package on Highway lanes; the includer's flags choose the instruction set.
// All arithmetic is fp32; `Format::round` marks the rounding points that are part of the contract
// (T(.) in CARD.md). Build with -ffp-contract=off: a fused multiply-add would skip one of them.
#pragma once

#include "activation/params.h"
#include "activation_cpu/row_segments.h"
#include "primitives/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::activation::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using cpu::for_each_row_segment;
using simd::constant;
using simd::F32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

HWY_INLINE V silu(V x) { return simd::logistic_gate(x, hn::Abs(x), hn::Zero(F32())); }

HWY_INLINE V gelu(V x) { return simd::normal_gate(x); }

/// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3).
HWY_INLINE V gelu_tanh(V x) {
  const V slope =
      hn::MulAdd(hn::Mul(x, x), constant(0.07135481627159746), constant(1.5957691216057308));
  return simd::logistic_gate(x, hn::Mul(hn::Abs(x), slope), hn::Zero(F32()));
}

/// x / (1 + e^(-1.702 x)). The product is kept in two parts, and 1.702 in two numbers.
HWY_INLINE V gelu_quick(V x) {
  constexpr double kLeading = 1.70200002193450927734375;
  const V a = hn::Min(hn::Abs(x), constant(75.0));
  const V size = hn::Mul(a, constant(kLeading));
  const V low = simd::product_error(a, constant(kLeading), size);
  return simd::logistic_gate(x, size, hn::MulAdd(a, constant(1.702 - kLeading), low));
}

/// The last step of gelu_fast and gelu_new: T(T(0.5 x) * T(1 + t)).
template <class Format>
HWY_INLINE V half_gate(V x, V t) {
  const V left = Format::round(hn::Mul(constant(0.5), x));
  return hn::Mul(left, Format::round(hn::Add(constant(1.0), t)));
}

template <class Format>
HWY_INLINE V gelu_fast(V x) {
  const V a = Format::round(hn::Mul(x, constant(0.79788456)));
  const V cubic = Format::round(hn::Mul(Format::round(hn::Mul(constant(0.044715), x)), x));
  const V b = Format::round(hn::Add(constant(1.0), cubic));
  return half_gate<Format>(x, Format::round(simd::tanh(Format::round(hn::Mul(a, b)))));
}

template <class Format>
HWY_INLINE V gelu_new(V x) {
  const V cube = Format::round(hn::Mul(Format::round(hn::Mul(x, x)), x));
  const V sum = Format::round(hn::Add(x, Format::round(hn::Mul(constant(0.044715), cube))));
  const V inner = Format::round(hn::Mul(constant(0.79788456), sum));
  return half_gate<Format>(x, Format::round(simd::tanh(inner)));
}

template <class Format, class Function>
inline void unary_range(const Params& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using T = typename Format::Storage;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  for_each_row_segment<T>(params, begin, end, [&](const T* in, T* out, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) Format::store(function(Format::load(in + i)), out + i);
    if (i == count) return;
    const auto rest = static_cast<std::size_t>(count - i);
    const V x = simd::load_first<Format>(in + i, rest);
    simd::store_first<Format>(function(x), out + i, rest);
  });
}

template <class Format, class Function>
inline void gated_range(const Params& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using T = typename Format::Storage;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  for_each_row_segment<T>(params, begin, end, [&](const T* x, T* out, std::int64_t count) {
    const T* y = x + params.cols;
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      Format::store(function(Format::load(x + i), Format::load(y + i)), out + i);
    }
    if (i == count) return;
    const auto rest = static_cast<std::size_t>(count - i);
    const V last_x = simd::load_first<Format>(x + i, rest);
    const V last_y = simd::load_first<Format>(y + i, rest);
    simd::store_first<Format>(function(last_x, last_y), out + i, rest);
  });
}

template <class Format>
inline void apply_gated(const Params& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  const auto apply = [&](const auto& function) {
    gated_range<Format>(params, begin, end, function);
  };
  switch (params.op) {
    case Op::kSiluAndMul:
      return apply([](V x, V y) { return hn::Mul(Format::round(silu(x)), y); });
    case Op::kMulAndSilu:
      return apply([](V x, V y) { return hn::Mul(x, Format::round(silu(y))); });
    case Op::kGeluAndMul:
      return apply([](V x, V y) { return hn::Mul(Format::round(gelu(x)), y); });
    case Op::kGeluTanhAndMul:
      return apply([](V x, V y) { return hn::Mul(Format::round(gelu_tanh(x)), y); });
    default:  // kFatreluAndMul; x <= threshold is false for NaN, which stays
      return apply([threshold](V x, V y) {
        return hn::Mul(hn::IfThenZeroElse(hn::Le(x, threshold), x), y);
      });
  }
}

template <class Format>
inline void apply_format(const Params& params, std::int64_t begin, std::int64_t end) {
  const auto apply = [&](const auto& function) {
    unary_range<Format>(params, begin, end, function);
  };
  switch (params.op) {
    case Op::kSilu:
      return apply([](V x) { return silu(x); });
    case Op::kGelu:
      return apply([](V x) { return gelu(x); });
    case Op::kGeluTanh:
      return apply([](V x) { return gelu_tanh(x); });
    case Op::kGeluQuick:
      return apply([](V x) { return gelu_quick(x); });
    case Op::kGeluFast:
      return apply([](V x) { return gelu_fast<Format>(x); });
    case Op::kGeluNew:
      return apply([](V x) { return gelu_new<Format>(x); });
    default:
      return apply_gated<Format>(params, begin, end);
  }
}

/// dtype is fp32, fp16 or bf16.
inline void apply(const Params& params, std::int64_t begin, std::int64_t end) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return apply_format<simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      return apply_format<simd::BFloat16>(params, begin, end);
    default:
      return apply_format<simd::Float32>(params, begin, end);
  }
}

/// T(table[gate] * factor) for fp16 or bf16: a gated op whose activation was tabulated.
template <class Format>
inline void gated_table_range(const Params& params, const std::uint16_t* table, std::int64_t begin,
                              std::int64_t end) {
  // Far more than the stores that can be in flight: loading a vector over pending narrow stores
  // would wait for them.
  constexpr std::int64_t kBlock = 512;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  const bool second = params.op == Op::kMulAndSilu;
  for_each_row_segment<std::uint16_t>(
      params, begin, end, [&](const std::uint16_t* x, std::uint16_t* out, std::int64_t count) {
        const std::uint16_t* gate = second ? x + params.cols : x;
        const std::uint16_t* factor = second ? x : x + params.cols;
        HWY_ALIGN std::uint16_t values[kBlock];
        for (std::int64_t first = 0; first < count; first += kBlock) {
          const std::int64_t size = count - first < kBlock ? count - first : kBlock;
          for (std::int64_t i = 0; i < size; ++i) values[i] = table[gate[first + i]];
          std::int64_t i = 0;
          for (; i + lanes <= size; i += lanes) {
            const V y = Format::load(factor + first + i);
            Format::store(hn::Mul(Format::load(values + i), y), out + first + i);
          }
          if (i == size) continue;
          const auto rest = static_cast<std::size_t>(size - i);
          const V act = simd::load_first<Format>(values + i, rest);
          const V y = simd::load_first<Format>(factor + first + i, rest);
          simd::store_first<Format>(hn::Mul(act, y), out + first + i, rest);
        }
      });
}

inline void apply_gated_table(const Params& params, const std::uint16_t* table, std::int64_t begin,
                              std::int64_t end) {
  if (params.dtype == primitives::DType::kFloat16) {
    return gated_table_range<simd::Float16>(params, table, begin, end);
  }
  return gated_table_range<simd::BFloat16>(params, table, begin, end);
}

}  // namespace
}  // namespace kernelhub::activation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
