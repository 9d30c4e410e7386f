// SPDX-License-Identifier: Apache-2.0
// The ops of the package on Highway lanes; the includer's flags choose the instruction set.
// All arithmetic is fp32. 16-bit activations are looked up (value_table.h); what is computed here
// in 16 bits is a product with them. The steps of gelu_fast and gelu_new (T(.) in CARD.md) matter
// there: in fp32, where one rounds no more than the arithmetic around it, both are gelu_tanh.
#pragma once

#include "activation/params.h"
#include "activation_cpu/activation_cpu.h"
#include "activation_cpu/look_up_simd.h"
#include "primitives/simd_loop.h"
#include "primitives/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::activation::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using primitives::Rows;
using primitives::Streaming;
using simd::constant;
using simd::F32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

HWY_INLINE V silu(V x) { return simd::logistic_gate<false>(x, x); }

HWY_INLINE V gelu(V x) { return simd::normal_gate(x, simd::normal_tail(x)); }

/// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3).
HWY_INLINE V gelu_tanh(V x) {
  const V slope =
      hn::MulAdd(hn::Mul(x, x), constant(0.07135481627159746), constant(1.5957691216057308));
  return simd::logistic_gate<true>(x, hn::Mul(x, slope));
}

/// x / (1 + e^(-1.702 x)).
HWY_INLINE V gelu_quick(V x) { return simd::logistic_gate<true>(x, hn::Mul(x, constant(1.702))); }

/// Rows of the output that were not read shortly before.
inline std::int64_t rows_apart(const Params& params) {
  return params.out == params.input ? 0 : params.rows;
}

/// The halves of a gated input, the one that the activation is of first.
template <class T>
inline std::array<Rows<const T>, 2> halves_of(const Params& params) {
  const Rows<const T> x{static_cast<const T*>(params.input), params.input_stride};
  const Rows<const T> y{x.data + params.cols, x.stride};
  if (params.op == Op::kMulAndSilu) return {y, x};
  return {x, y};
}

template <class T>
inline std::array<Rows<T>, 1> out_of(const Params& params) {
  return {{{static_cast<T*>(params.out), params.out_stride}}};
}

template <class Function>
inline void unary_range(const Params& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  const std::array<Rows<const float>, 1> input{
      {{static_cast<const float*>(params.input), params.input_stride}}};
  simd::map_rows<simd::Float32>(
      input, out_of<float>(params), Streaming::of<float>(rows_apart(params), params.cols),
      {params.rows, params.cols, begin, end},
      [&](const simd::Vectors<1>& in, simd::Vectors<1>& out) { out[0] = function(in[0]); });
}

template <class Format, class Function>
inline void gated_range(const Params& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using T = typename Format::Storage;
  simd::map_rows<Format>(halves_of<T>(params), out_of<T>(params),
                         Streaming::of<T>(params.rows, params.cols),
                         {params.rows, params.cols, begin, end},
                         [&](const simd::Vectors<2>& in, simd::Vectors<1>& out) {
                           out[0] = hn::Mul(function(in[0]), in[1]);
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
  if constexpr (op == Op::kFatreluAndMul) return fatrelu(x, threshold);
}

inline void apply_fp32(const Params& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  with_op(params.op, [&](auto constant) {
    constexpr Op op = decltype(constant)::value;
    const auto act = [threshold](V x) { return activate<smooth(activation_of(op))>(x, threshold); };
    if constexpr (is_gated(op)) {
      gated_range<simd::Float32>(params, begin, end, act);
    } else {
      unary_range(params, begin, end, act);
    }
  });
}

/// fatrelu_and_mul in 16 bits: a comparison needs no table.
template <class Format>
inline void apply_fatrelu(const Params& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  gated_range<Format>(params, begin, end, [threshold](V x) { return fatrelu(x, threshold); });
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

/// table[x]: an op of one tensor in fp16 or bf16.
template <class LookUp>
inline void apply_table(const Params& params, const std::uint16_t* table, std::int64_t begin,
                        std::int64_t end) {
  using T = std::uint16_t;
  const std::array<Rows<const T>, 1> input{
      {{static_cast<const T*>(params.input), params.input_stride}}};
  const auto whole = [table](const auto& from, const auto& to, std::int64_t i, auto streams, auto) {
    LookUp::line(from[0] + i, to[0] + i, table, streams);
  };
  const auto rest = [table](const auto& from, const auto& to, std::int64_t i, std::int64_t count) {
    for (const std::int64_t end_i = i + count; i < end_i; ++i) to[0][i] = table[from[0][i]];
  };
  primitives::for_each_batch<T, 1, primitives::CacheLevel::kFirst>(
      input, out_of<T>(params), Streaming::of<T>(rows_apart(params), params.cols),
      {params.rows, params.cols, begin, end}, whole, rest);
}

/// T(table[gate] * factor) for fp16 or bf16: a gated op whose activation was tabulated.
template <class Format, class LookUp>
inline void gated_table_range(const Params& params, const std::uint16_t* table, std::int64_t begin,
                              std::int64_t end) {
  using T = std::uint16_t;
  const auto compute = [table](const auto& from, std::int64_t i) __attribute__((always_inline)) {
    const auto gates = LookUp::template batch<Format>(from[0] + i, table);
    std::array<simd::Batch<Format>, 1> products{Format::load_batch(from[1] + i)};
    for (int v = 0; v < Format::kVectors; ++v) {
      products[0].of[v] = hn::Mul(gates.of[v], products[0].of[v]);
    }
    return products;
  };
  const auto few = [table](const auto& from, const auto& to, std::int64_t i, std::size_t count) {
    T values[hn::MaxLanes(F32())];
    for (std::size_t k = 0; k < count; ++k) values[k] = table[(from[0] + i)[k]];
    const V gate = simd::load_first<Format>(values, count);
    const V factor = simd::load_first<Format>(from[1] + i, count);
    simd::store_first<Format>(hn::Mul(gate, factor), to[0] + i, count);
  };
  simd::map_batches<Format>(halves_of<T>(params), out_of<T>(params),
                            Streaming::of<T>(params.rows, params.cols),
                            {params.rows, params.cols, begin, end}, compute, few);
}

template <class LookUp>
inline void apply_gated_table(const Params& params, const std::uint16_t* table, std::int64_t begin,
                              std::int64_t end) {
  if (params.dtype == primitives::DType::kFloat16) {
    return gated_table_range<simd::Float16, LookUp>(params, table, begin, end);
  }
  gated_table_range<simd::BFloat16, LookUp>(params, table, begin, end);
}

template <class LookUp>
inline cpu::Level level() {
  return {apply, apply_table<LookUp>, apply_gated_table<LookUp>};
}

}  // namespace
}  // namespace kernelhub::activation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
