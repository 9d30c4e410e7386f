// SPDX-License-Identifier: Apache-2.0
// Gradients of the ops on Highway lanes; the includer's flags choose the instruction set.
//   unary  grad_input = T(g * act'(x))
//   gated  grad_x = T(g * act'(x) * y), grad_y = T(g * act(x)) in one pass
// Derivatives are those of the smooth formulas: the rounding points of gelu_fast, gelu_new and the
// gated forward have none of their own. They are computed in fp32, and looked up in 16 bits
// (value_table.h). g is never written.
#pragma once

#include <type_traits>

#include "activation/params.h"
#include "activation_cpu/activation_cpu.h"
#include "activation_cpu/look_up_simd.h"
#include "activation_cpu/value_table.h"
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

/// act(x) and act'(x).
struct Activation {
  V value;
  V slope;
};

/// `x` not beyond bounds outside of which the logistic function s(y), below, is 0 or 1: the part of
/// a slope that grows with x has vanished there, and inf * 0 must not turn it into NaN.
HWY_INLINE V bounded(V x, double least, double most) {
  return simd::at_least(simd::at_most(x, most), least);
}

/// Of x s(y): s + x y' s (1 - s) = s (1 + x y' e^-y s). `double_growth` is 2 x y', x bounded there.
template <bool kIsRounded>
HWY_INLINE Activation logistic(V x, V double_growth, V y) {
  const V half = simd::logistic_half<kIsRounded>(y);
  const V s = hn::Div(constant(1.0), simd::logistic_sum(half));
  const V factor = hn::MulAdd(double_growth, hn::Mul(half, s), constant(1.0));
  return {hn::Mul(x, s), hn::Mul(s, factor)};
}

HWY_INLINE Activation silu(V x) {
  const V near = bounded(x, simd::kLogisticLeast, simd::kLogisticMost);
  return logistic<false>(x, hn::Add(near, near), near);
}

HWY_INLINE Activation gelu_quick(V x) {
  const V near = bounded(x, simd::kLogisticLeast / 1.702, simd::kLogisticMost / 1.702);
  const V y = hn::Mul(near, constant(1.702));
  return logistic<true>(x, hn::Add(y, y), y);
}

/// y = 2 sqrt(2/pi) (x + 0.044715 x^3); gelu_fast and gelu_new are this function too.
HWY_INLINE Activation gelu_tanh(V x) {
  constexpr double kLinear = 1.5957691216057308, kCubic = 0.07135481627159746;
  const V near = bounded(x, -10.067, 8.83);  // y is -88.86 and 63.2 there
  const V square = hn::Mul(near, near);
  const V y = hn::Mul(near, hn::MulAdd(square, constant(kCubic), constant(kLinear)));
  const V double_rate = hn::MulAdd(square, constant(6 * kCubic), constant(2 * kLinear));
  return logistic<true>(x, hn::Mul(near, double_rate), y);
}

/// Phi(x) + x phi(x), Phi the normal distribution and phi its density: for a negative x that is
/// power (mills - |x| / sqrt(2 pi)), and 1 less that of -x for a positive one.
HWY_INLINE Activation gelu(V x) {
  const simd::NormalTail normal = simd::normal_tail(x);
  const V density = constant(0.3989422804014327 * simd::kTailUnit);
  const V below = hn::Mul(normal.power, hn::NegMulAdd(normal.size, density, normal.mills));
  const V above = hn::Sub(constant(1.0), below);
  return {simd::normal_gate(x, normal), hn::IfNegativeThenElse(x, below, above)};
}

/// x <= threshold is false for NaN, whose gradient stays.
HWY_INLINE Activation fatrelu(V x, V threshold) {
  const auto is_cut = hn::Le(x, threshold);
  return {hn::IfThenZeroElse(is_cut, x), hn::IfThenZeroElse(is_cut, constant(1.0))};
}

/// Rows of the gradient that are not those of the input, which has just been read.
inline std::int64_t rows_apart(const BackwardParams& params) {
  return params.grad_input == params.input ? 0 : params.rows;
}

template <class T>
inline std::array<Rows<const T>, 2> unary_inputs(const BackwardParams& params) {
  return {{{static_cast<const T*>(params.grad_out), params.grad_out_stride},
           {static_cast<const T*>(params.input), params.input_stride}}};
}

template <class T>
inline std::array<Rows<T>, 1> unary_outs(const BackwardParams& params) {
  return {{{static_cast<T*>(params.grad_input), params.grad_input_stride}}};
}

/// The column where the half begins that the activation is of.
inline std::int64_t gate_of(const BackwardParams& params) {
  return params.op == Op::kMulAndSilu ? params.cols : 0;
}

/// grad_out, then the halves of the input, the one that the activation is of first.
template <class T>
inline std::array<Rows<const T>, 3> gated_inputs(const BackwardParams& params) {
  const T* input = static_cast<const T*>(params.input);
  const std::int64_t gate = gate_of(params);
  return {{{static_cast<const T*>(params.grad_out), params.grad_out_stride},
           {input + gate, params.input_stride},
           {input + params.cols - gate, params.input_stride}}};
}

/// Their gradients.
template <class T>
inline std::array<Rows<T>, 2> gated_outs(const BackwardParams& params) {
  T* grad_input = static_cast<T*>(params.grad_input);
  const std::int64_t gate = gate_of(params);
  return {{{grad_input + gate, params.grad_input_stride},
           {grad_input + params.cols - gate, params.grad_input_stride}}};
}

template <class Function>
inline void unary_range(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  simd::map_rows<simd::Float32>(unary_inputs<float>(params), unary_outs<float>(params),
                                Streaming::of<float>(rows_apart(params), params.cols),
                                {params.rows, params.cols, begin, end},
                                [&](const simd::Vectors<2>& in, simd::Vectors<1>& out) {
                                  out[0] = hn::Mul(in[0], function(in[1]).slope);
                                });
}

/// Gradients of the gate and of its factor.
HWY_INLINE void gated_gradients(V grad, Activation act, V factor, V* grad_gate, V* grad_factor) {
  *grad_gate = hn::Mul(hn::Mul(grad, act.slope), factor);
  *grad_factor = hn::Mul(grad, act.value);
}

template <class Format, class Function>
inline void gated_range(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using T = typename Format::Storage;
  simd::map_rows<Format>(gated_inputs<T>(params), gated_outs<T>(params),
                         Streaming::of<T>(rows_apart(params), 2 * params.cols),
                         {params.rows, params.cols, begin, end},
                         [&](const simd::Vectors<3>& in, simd::Vectors<2>& out) {
                           gated_gradients(in[0], function(in[1]), in[2], &out[0], &out[1]);
                         });
}

/// g * table[x] for fp16 or bf16.
template <class Format, class LookUp>
inline void unary_table_range(const BackwardParams& params, const float* slopes, std::int64_t begin,
                              std::int64_t end) {
  using T = std::uint16_t;
  const auto compute = [slopes](const auto& from, std::int64_t i) __attribute__((always_inline)) {
    const auto found = LookUp::template batch<Format>(from[1] + i, slopes);
    std::array<simd::Batch<Format>, 1> grads{Format::load_batch(from[0] + i)};
    for (int v = 0; v < Format::kVectors; ++v) {
      grads[0].of[v] = hn::Mul(grads[0].of[v], found.of[v]);
    }
    return grads;
  };
  const auto few = [slopes](const auto& from, const auto& to, std::int64_t i, std::size_t count) {
    const V found = look_up_first(from[1] + i, count, slopes);
    const V grad = simd::load_first<Format>(from[0] + i, count);
    simd::store_first<Format>(hn::Mul(grad, found), to[0] + i, count);
  };
  simd::map_batches<Format>(unary_inputs<T>(params), unary_outs<T>(params),
                            Streaming::of<T>(rows_apart(params), params.cols),
                            {params.rows, params.cols, begin, end}, compute, few);
}

/// The same for both halves of a gated op.
template <class Format, class LookUp>
inline void gated_table_range(const BackwardParams& params, const cpu::Derivative* derivatives,
                              std::int64_t begin, std::int64_t end) {
  using T = std::uint16_t;
  const auto compute = [derivatives](const auto& from, std::int64_t i)
      __attribute__((always_inline)) {
    const auto found = LookUp::template batch<Format>(from[1] + i, derivatives);
    const auto grads = Format::load_batch(from[0] + i);
    const auto factors = Format::load_batch(from[2] + i);
    std::array<simd::Batch<Format>, 2> results;
    for (int v = 0; v < Format::kVectors; ++v) {
      gated_gradients(grads.of[v], {found.values.of[v], found.slopes.of[v]}, factors.of[v],
                      &results[0].of[v], &results[1].of[v]);
    }
    return results;
  };
  const auto few = [derivatives](const auto& from, const auto& to, std::int64_t i,
                                 std::size_t count) {
    const DerivativeLanes found = look_up_first(from[1] + i, count, derivatives);
    V gate, factor;
    gated_gradients(simd::load_first<Format>(from[0] + i, count), {found.values, found.slopes},
                    simd::load_first<Format>(from[2] + i, count), &gate, &factor);
    simd::store_first<Format>(gate, to[0] + i, count);
    simd::store_first<Format>(factor, to[1] + i, count);
  };
  // Of fp16's derivatives N(0, 1) uses some 160 KiB, several first levels.
  constexpr bool kIsFar = std::is_same_v<Format, simd::Float16>;
  simd::map_batches<Format, kIsFar>(gated_inputs<T>(params), gated_outs<T>(params),
                                    Streaming::of<T>(rows_apart(params), 2 * params.cols),
                                    {params.rows, params.cols, begin, end}, compute, few);
}

/// Of ops of one tensor; dtype is fp16 or bf16, as below.
template <class LookUp>
inline void apply_slopes(const BackwardParams& params, const float* slopes, std::int64_t begin,
                         std::int64_t end) {
  if (params.dtype == primitives::DType::kFloat16) {
    return unary_table_range<simd::Float16, LookUp>(params, slopes, begin, end);
  }
  unary_table_range<simd::BFloat16, LookUp>(params, slopes, begin, end);
}

/// Of gated ops.
template <class LookUp>
inline void apply_derivatives(const BackwardParams& params, const cpu::Derivative* derivatives,
                              std::int64_t begin, std::int64_t end) {
  if (params.dtype == primitives::DType::kFloat16) {
    return gated_table_range<simd::Float16, LookUp>(params, derivatives, begin, end);
  }
  gated_table_range<simd::BFloat16, LookUp>(params, derivatives, begin, end);
}

template <Op op>
HWY_INLINE Activation differentiate(V x, V threshold) {
  constexpr Op kAct = activation_of(op);
  if constexpr (kAct == Op::kSilu) return silu(x);
  if constexpr (kAct == Op::kGelu) return gelu(x);
  if constexpr (kAct == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (kAct == Op::kGeluTanh) return gelu_tanh(x);
  if constexpr (kAct == Op::kFatreluAndMul) return fatrelu(x, threshold);
}

inline void apply_backward_fp32(const BackwardParams& params, std::int64_t begin,
                                std::int64_t end) {
  const V threshold = constant(params.threshold);
  with_op(params.op, [&](auto constant) {
    constexpr Op op = smooth(decltype(constant)::value);
    const auto function = [threshold](V x) { return differentiate<op>(x, threshold); };
    if constexpr (is_gated(op)) {
      gated_range<simd::Float32>(params, begin, end, function);
    } else {
      unary_range(params, begin, end, function);
    }
  });
}

/// fatrelu_and_mul in 16 bits: a comparison needs no table.
template <class Format>
inline void apply_fatrelu(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  const V threshold = constant(params.threshold);
  gated_range<Format>(params, begin, end, [threshold](V x) { return fatrelu(x, threshold); });
}

/// dtype is fp32; fp16 and bf16 for fatrelu_and_mul.
inline void apply_backward(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return apply_fatrelu<simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      return apply_fatrelu<simd::BFloat16>(params, begin, end);
    default:
      return apply_backward_fp32(params, begin, end);
  }
}

template <class LookUp>
inline cpu::BackwardLevel backward_level() {
  return {apply_backward, apply_slopes<LookUp>, apply_derivatives<LookUp>};
}

}  // namespace
}  // namespace kernelhub::activation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
