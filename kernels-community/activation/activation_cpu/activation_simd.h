// SPDX-License-Identifier: Apache-2.0
// The ops of the package on Highway lanes; the includer's flags choose the instruction set.
// All arithmetic is fp32. 16-bit activations are looked up (value_table.h); what is computed here
// in 16 bits is a product with them. Build with -ffp-contract=off: in fp32 every step of gelu_fast
// and gelu_new is a rounding point (T(.) in CARD.md), and a fused multiply-add would skip one.
#pragma once

#include "activation/params.h"
#include "activation_cpu/look_up.h"
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

HWY_INLINE V silu(V x) { return simd::logistic_gate(x, hn::Abs(x)); }

HWY_INLINE V gelu(V x) { return simd::normal_gate(x); }

/// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3).
HWY_INLINE V gelu_tanh(V x) {
  const V slope =
      hn::MulAdd(hn::Mul(x, x), constant(0.07135481627159746), constant(1.5957691216057308));
  return simd::logistic_gate(x, hn::Mul(hn::Abs(x), slope));
}

/// x / (1 + e^(-1.702 x)).
HWY_INLINE V gelu_quick(V x) {
  return simd::logistic_gate(x, hn::Mul(hn::Abs(x), constant(1.702)));
}

/// The last step of gelu_fast and gelu_new.
HWY_INLINE V half_gate(V x, V inner) {
  const V tanh = simd::tanh(inner);
  return hn::Mul(hn::Mul(constant(0.5), x), hn::Add(constant(1.0), tanh));
}

HWY_INLINE V gelu_fast(V x) {
  const V cubic = hn::Mul(hn::Mul(constant(0.044715), x), x);
  const V slope = hn::Add(constant(1.0), cubic);
  return half_gate(x, hn::Mul(hn::Mul(x, constant(0.79788456)), slope));
}

HWY_INLINE V gelu_new(V x) {
  const V cube = hn::Mul(hn::Mul(x, x), x);
  const V sum = hn::Add(x, hn::Mul(constant(0.044715), cube));
  return half_gate(x, hn::Mul(constant(0.79788456), sum));
}

template <class Function>
inline void unary_range(const Params& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using Format = simd::Float32;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  for_each_row_segment<float>(params, begin, end,
                              [&](const float* in, float* out, std::int64_t count) {
                                std::int64_t i = 0;
                                for (; i + lanes <= count; i += lanes) {
                                  Format::store(function(Format::load(in + i)), out + i);
                                }
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

/// x <= threshold is false for NaN, which stays.
template <class Format>
inline void apply_fatrelu(const Params& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  gated_range<Format>(params, begin, end, [threshold](V x, V y) {
    return hn::Mul(hn::IfThenZeroElse(hn::Le(x, threshold), x), y);
  });
}

inline void apply_fp32(const Params& params, std::int64_t begin, std::int64_t end) {
  const auto unary = [&](const auto& function) { unary_range(params, begin, end, function); };
  const auto gated = [&](const auto& function) {
    gated_range<simd::Float32>(params, begin, end, function);
  };
  switch (params.op) {
    case Op::kSilu:
      return unary([](V x) { return silu(x); });
    case Op::kGelu:
      return unary([](V x) { return gelu(x); });
    case Op::kGeluTanh:
      return unary([](V x) { return gelu_tanh(x); });
    case Op::kGeluQuick:
      return unary([](V x) { return gelu_quick(x); });
    case Op::kGeluFast:
      return unary([](V x) { return gelu_fast(x); });
    case Op::kGeluNew:
      return unary([](V x) { return gelu_new(x); });
    case Op::kSiluAndMul:
      return gated([](V x, V y) { return hn::Mul(silu(x), y); });
    case Op::kMulAndSilu:
      return gated([](V x, V y) { return hn::Mul(x, silu(y)); });
    case Op::kGeluAndMul:
      return gated([](V x, V y) { return hn::Mul(gelu(x), y); });
    case Op::kGeluTanhAndMul:
      return gated([](V x, V y) { return hn::Mul(gelu_tanh(x), y); });
    default:
      return apply_fatrelu<simd::Float32>(params, begin, end);
  }
}

/// dtype is fp32; fp16 and bf16 for fatrelu_and_mul.
inline void apply(const Params& params, std::int64_t begin, std::int64_t end) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return apply_fatrelu<simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      return apply_fatrelu<simd::BFloat16>(params, begin, end);
    default:
      return apply_fp32(params, begin, end);
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
          cpu::look_up(gate + first, values, size, table);
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
