// SPDX-License-Identifier: Apache-2.0
// The ops of the package on Highway lanes; the includer's flags choose the instruction set.
// All arithmetic is fp32. 16-bit activations are looked up (value_table.h); what is computed here
// in 16 bits is a product with them. Build with -ffp-contract=off: in fp32 every step of gelu_fast
// and gelu_new is a rounding point (T(.) in CARD.md), and a fused multiply-add would skip one.
#pragma once

#include "activation/params.h"
#include "activation_cpu/look_up.h"
#include "activation_cpu/row_segments.h"
#include "primitives/simd_loop.h"
#include "primitives/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::activation::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using cpu::for_each_row_segment;
using simd::constant;
using simd::F32;
using simd::for_each_vector;
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
  for_each_row_segment<float>(params, begin, end, [&](const cpu::Segment<float>& segment) {
    const float* in = segment.input;
    float* out = segment.out;
    const std::int64_t done = for_each_vector<float>(
        segment.count,
        [&](std::int64_t i) {
          primitives::fetch(in + segment.input_ahead + i);
          primitives::fetch_to_write(out + segment.out_ahead + i);
        },
        [&](std::int64_t i) { Format::store(function(Format::load(in + i)), out + i); });
    if (done == segment.count) return;
    const auto rest = static_cast<std::size_t>(segment.count - done);
    const V x = simd::load_first<Format>(in + done, rest);
    simd::store_first<Format>(function(x), out + done, rest);
  });
}

template <class Format, class Function>
inline void gated_range(const Params& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using T = typename Format::Storage;
  for_each_row_segment<T>(params, begin, end, [&](const cpu::Segment<T>& segment) {
    const T* x = segment.input;
    const T* y = x + params.cols;
    T* out = segment.out;
    const std::int64_t done = for_each_vector<T>(
        segment.count,
        [&](std::int64_t i) {
          primitives::fetch(x + segment.input_ahead + i);
          primitives::fetch(y + segment.input_ahead + i);
          primitives::fetch_to_write(out + segment.out_ahead + i);
        },
        [&](std::int64_t i) {
          Format::store(function(Format::load(x + i), Format::load(y + i)), out + i);
        });
    if (done == segment.count) return;
    const auto rest = static_cast<std::size_t>(segment.count - done);
    const V last_x = simd::load_first<Format>(x + done, rest);
    const V last_y = simd::load_first<Format>(y + done, rest);
    simd::store_first<Format>(function(last_x, last_y), out + done, rest);
  });
}

/// x <= threshold is false for NaN, which stays.
HWY_INLINE V fatrelu(V x, V threshold) { return hn::IfThenZeroElse(hn::Le(x, threshold), x); }

template <Op op>
HWY_INLINE V activate(V x, V threshold) {
  if constexpr (op == Op::kSilu) return silu(x);
  if constexpr (op == Op::kGelu) return gelu(x);
  if constexpr (op == Op::kGeluTanh) return gelu_tanh(x);
  if constexpr (op == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (op == Op::kGeluFast) return gelu_fast(x);
  if constexpr (op == Op::kGeluNew) return gelu_new(x);
  if constexpr (op == Op::kFatreluAndMul) return fatrelu(x, threshold);
}

inline void apply_fp32(const Params& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  with_op(params.op, [&](auto constant) {
    constexpr Op op = decltype(constant)::value;
    const auto act = [threshold](V x) { return activate<activation_of(op)>(x, threshold); };
    if constexpr (!is_gated(op)) {
      unary_range(params, begin, end, act);
    } else if constexpr (op == Op::kMulAndSilu) {
      gated_range<simd::Float32>(params, begin, end, [&](V x, V y) { return hn::Mul(x, act(y)); });
    } else {
      gated_range<simd::Float32>(params, begin, end, [&](V x, V y) { return hn::Mul(act(x), y); });
    }
  });
}

/// fatrelu_and_mul in 16 bits: a comparison needs no table.
template <class Format>
inline void apply_fatrelu(const Params& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  gated_range<Format>(params, begin, end,
                      [threshold](V x, V y) { return hn::Mul(fatrelu(x, threshold), y); });
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

/// Looks up a line with one load after the other. The results meet in registers: a vector read from
/// memory over narrow stores still in flight would wait for them.
struct Loads {
  static HWY_INLINE void line(const std::uint16_t* from, std::uint16_t* to,
                              const std::uint16_t* table) {
#if HWY_TARGET == HWY_SCALAR
    cpu::look_up_line(from, to, table);
#else
    for (std::int64_t i = 0; i < cpu::kLine; i += 16) {
      const auto four = [&](std::int64_t j) {
        return static_cast<long long>(cpu::look_up_four(from + i + j, table));
      };
      const __m256i values = _mm256_set_epi64x(four(12), four(8), four(4), four(0));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), values);
    }
#endif
  }
};

#if HWY_TARGET != HWY_SCALAR
/// The same with gathers of 32 bits, of which the upper half belongs to the next value.
struct Gathers {
  static HWY_INLINE void line(const std::uint16_t* from, std::uint16_t* to,
                              const std::uint16_t* table) {
    const hn::ScalableTag<std::uint16_t> d;
    const hn::RepartitionToWide<decltype(d)> wide;
    const hn::RebindToSigned<decltype(wide)> offsets;
    const auto* base = reinterpret_cast<const std::int32_t*>(table);
    for (std::int64_t i = 0; i < cpu::kLine; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      const auto index = hn::BitCast(wide, hn::LoadU(d, from + i));
      // In bytes, of the even and of the odd elements.
      const auto even = hn::ShiftRight<15>(hn::ShiftLeft<16>(index));
      const auto odd = hn::And(hn::ShiftRight<15>(index), hn::Set(wide, 0x1fffe));
      const auto low = hn::GatherOffset(offsets, base, hn::BitCast(offsets, even));
      const auto high = hn::GatherOffset(offsets, base, hn::BitCast(offsets, odd));
      const auto values = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<16>(high)), hn::BitCast(d, low));
      hn::StoreU(values, d, to + i);
    }
  }
};
#endif

/// T(table[gate] * factor) for fp16 or bf16: a gated op whose activation was tabulated.
template <class Format, class LookUp>
inline void gated_table_range(const Params& params, const std::uint16_t* table, std::int64_t begin,
                              std::int64_t end) {
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
  const bool second = params.op == Op::kMulAndSilu;
  for_each_row_segment<std::uint16_t>(
      params, begin, end, [&](const cpu::Segment<std::uint16_t>& segment) {
        const std::uint16_t* x = segment.input;
        const std::uint16_t* y = x + params.cols;
        const std::uint16_t* gate = second ? y : x;
        const std::uint16_t* factor = second ? x : y;
        std::uint16_t* out = segment.out;
        HWY_ALIGN std::uint16_t values[cpu::kLine];
        std::int64_t first = 0;
        for (; first + cpu::kLine <= segment.count; first += cpu::kLine) {
          primitives::fetch(x + segment.input_ahead + first);
          primitives::fetch(y + segment.input_ahead + first);
          primitives::fetch_to_write(out + segment.out_ahead + first);
          LookUp::line(gate + first, values, table);
          for (std::int64_t i = 0; i < cpu::kLine; i += kLanes) {
            const V factors = Format::load(factor + first + i);
            Format::store(hn::Mul(Format::load(values + i), factors), out + first + i);
          }
        }
        for (; first < segment.count; first += kLanes) {
          const std::int64_t left = segment.count - first;
          const auto rest = static_cast<std::size_t>(left < kLanes ? left : kLanes);
          for (std::size_t i = 0; i < rest; ++i) values[i] = table[gate[first + i]];
          const V act = simd::load_first<Format>(values, rest);
          const V factors = simd::load_first<Format>(factor + first, rest);
          simd::store_first<Format>(hn::Mul(act, factors), out + first, rest);
        }
      });
}

template <class LookUp>
inline void apply_gated_table(const Params& params, const std::uint16_t* table, std::int64_t begin,
                              std::int64_t end) {
  if (params.dtype == primitives::DType::kFloat16) {
    return gated_table_range<simd::Float16, LookUp>(params, table, begin, end);
  }
  return gated_table_range<simd::BFloat16, LookUp>(params, table, begin, end);
}

/// table[x]: an op of one tensor in fp16 or bf16.
template <class LookUp>
inline void apply_table(const Params& params, const std::uint16_t* table, std::int64_t begin,
                        std::int64_t end) {
  for_each_row_segment<std::uint16_t>(params, begin, end,
                                      [&](const cpu::Segment<std::uint16_t>& segment) {
                                        const std::uint16_t* in = segment.input;
                                        std::uint16_t* out = segment.out;
                                        std::int64_t i = 0;
                                        for (; i + cpu::kLine <= segment.count; i += cpu::kLine) {
                                          primitives::fetch(in + segment.input_ahead + i);
                                          primitives::fetch_to_write(out + segment.out_ahead + i);
                                          LookUp::line(in + i, out + i, table);
                                        }
                                        for (; i < segment.count; ++i) out[i] = table[in[i]];
                                      });
}

}  // namespace
}  // namespace kernelhub::activation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
