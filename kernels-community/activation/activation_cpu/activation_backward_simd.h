// SPDX-License-Identifier: Apache-2.0
// Gradients of the ops on Highway lanes; the includer's flags choose the instruction set.
//   unary  grad_input = T(g * act'(x))
//   gated  grad_x = T(g * act'(x) * y), grad_y = T(g * act(x)) in one pass
// Derivatives are those of the smooth formulas in fp32: the rounding points of gelu_fast, gelu_new
// and the gated forward have none of their own. g is never written.
#pragma once

#include "activation/params.h"
#include "activation_cpu/backward_segments.h"
#include "primitives/simd_loop.h"
#include "primitives/simd_math.h"
#include "primitives/simd_streaming.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::activation::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using cpu::for_each_backward_segment;
using simd::constant;
using simd::F32;
using simd::for_each_vector;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// act(x) and act'(x).
struct Activation {
  V value;
  V slope;
};

/// `x` inside [-bound, bound]: beyond it the part of a slope that grows with x is below the
/// smallest fp32, and inf * 0 must not turn it into NaN.
HWY_INLINE V clamped(V x, double bound) {
  return hn::Max(hn::Min(x, constant(bound)), constant(-bound));
}

/// The min and max of `clamped` lose NaN.
HWY_INLINE V keep_nan(V x, V slope) { return hn::IfThenElse(hn::IsNaN(x), x, slope); }

/// Of x * s(y), s the logistic function: s + x y' s (1 - s). `x` clamped where y is in [-128, 128],
/// `rate` = y' there.
HWY_INLINE Activation logistic(V x, V clamped_x, V y, V rate) {
  const V size = hn::Min(hn::Abs(y), constant(128.0));
  const simd::ExpParts e = simd::exp_of_negative(size);
  const V power = simd::scale_by_power(e.mantissa, e.exponent);
  const V above = hn::Div(constant(1.0), hn::Add(constant(1.0), power));  // s(|y|)
  const V below = hn::Mul(power, above);                                  // s(-|y|)
  const V s = hn::IfThenElse(hn::Lt(y, hn::Zero(F32())), below, above);
  const V slope = hn::MulAdd(hn::Mul(clamped_x, rate), hn::Mul(above, below), s);
  return {hn::Mul(x, s), keep_nan(x, slope)};
}

HWY_INLINE Activation silu(V x) {
  const V bounded = clamped(x, 128.0);
  return logistic(x, bounded, bounded, constant(1.0));
}

HWY_INLINE Activation gelu_quick(V x) {
  const V bounded = clamped(x, 75.0);
  return logistic(x, bounded, hn::Mul(bounded, constant(1.702)), constant(1.702));
}

/// y = 2 sqrt(2/pi) (x + 0.044715 x^3); gelu_fast and gelu_new are this function too.
HWY_INLINE Activation gelu_tanh(V x) {
  const V bounded = clamped(x, 16.0);
  const V square = hn::Mul(bounded, bounded);
  const V y = hn::Mul(
      bounded, hn::MulAdd(square, constant(0.07135481627159746), constant(1.5957691216057308)));
  const V rate =
      hn::MulAdd(square, constant(3 * 0.07135481627159746), constant(1.5957691216057308));
  return logistic(x, bounded, y, rate);
}

/// Phi(x) + x phi(x), Phi the normal distribution and phi its density.
HWY_INLINE Activation gelu(V x) {
  const simd::NormalTail normal = simd::normal_tail(x);
  const auto is_negative = hn::Lt(x, hn::Zero(F32()));
  const V phi = hn::Mul(normal.power, constant(0.3989422804014327));
  const V distribution =
      hn::IfThenElse(is_negative, normal.tail, hn::Sub(constant(1.0), normal.tail));
  return {simd::normal_gate(x), keep_nan(x, hn::MulAdd(clamped(x, 16.0), phi, distribution))};
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

template <class Format, class Function>
inline void unary_range(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                        const Function& function) {
  using T = typename Format::Storage;
  const simd::Streaming streaming(static_cast<const T*>(params.grad_input), rows_apart(params),
                                  params.cols, params.grad_input_stride);
  for_each_backward_segment<T>(params, begin, end, [&](const cpu::BackwardSegment<T>& segment) {
    const T* grad = segment.grad_out;
    const T* in = segment.input;
    T* grad_in = segment.grad_input;
    const bool streams = streaming.is_on(grad_in);
    const std::int64_t done = for_each_vector<T>(
        segment.count,
        [&](std::int64_t i) {
          primitives::fetch(grad + segment.grad_out_ahead + i);
          primitives::fetch(in + segment.input_ahead + i);
          if (!streams) primitives::fetch_to_write(grad_in + segment.grad_input_ahead + i);
        },
        [&](std::int64_t i) {
          const V slope = function(Format::load(in + i)).slope;
          simd::store<Format>(hn::Mul(Format::load(grad + i), slope), grad_in + i, streams);
        });
    if (done == segment.count) return;
    const auto rest = static_cast<std::size_t>(segment.count - done);
    const V slope = function(simd::load_first<Format>(in + done, rest)).slope;
    const V g = simd::load_first<Format>(grad + done, rest);
    simd::store_first<Format>(hn::Mul(g, slope), grad_in + done, rest);
  });
}

/// `function` acts on one half and `gate` points at it; the other half is its factor.
template <class Format, class Function>
inline void gated_range(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                        std::int64_t gate, std::int64_t factor, const Function& function) {
  using T = typename Format::Storage;
  const simd::Streaming streaming(static_cast<const T*>(params.grad_input), rows_apart(params),
                                  2 * params.cols, params.grad_input_stride);
  for_each_backward_segment<T>(params, begin, end, [&](const cpu::BackwardSegment<T>& segment) {
    const T* grad = segment.grad_out;
    const T* in = segment.input;
    T* grad_in = segment.grad_input;
    const bool streams = streaming.is_on(grad_in) && streaming.is_on(grad_in + params.cols);
    const std::int64_t done = for_each_vector<T>(
        segment.count,
        [&](std::int64_t i) {
          primitives::fetch(grad + segment.grad_out_ahead + i);
          for (const std::int64_t half : {gate, factor}) {
            primitives::fetch(in + half + segment.input_ahead + i);
            if (!streams) primitives::fetch_to_write(grad_in + half + segment.grad_input_ahead + i);
          }
        },
        [&](std::int64_t i) {
          const V g = Format::load(grad + i);
          const Activation act = function(Format::load(in + gate + i));
          const V other = Format::load(in + factor + i);
          const V grad_gate = hn::Mul(hn::Mul(g, act.slope), other);
          simd::store<Format>(grad_gate, grad_in + gate + i, streams);
          simd::store<Format>(hn::Mul(g, act.value), grad_in + factor + i, streams);
        });
    if (done == segment.count) return;
    const auto rest = static_cast<std::size_t>(segment.count - done);
    const V g = simd::load_first<Format>(grad + done, rest);
    const Activation act = function(simd::load_first<Format>(in + gate + done, rest));
    const V other = simd::load_first<Format>(in + factor + done, rest);
    simd::store_first<Format>(hn::Mul(hn::Mul(g, act.slope), other), grad_in + gate + done, rest);
    simd::store_first<Format>(hn::Mul(g, act.value), grad_in + factor + done, rest);
  });
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

/// The op whose derivative is computed.
constexpr Op smooth(Op op) {
  return op == Op::kGeluFast || op == Op::kGeluNew ? Op::kGeluTanh : op;
}

template <class Format>
inline void apply_backward_format(const BackwardParams& params, std::int64_t begin,
                                  std::int64_t end) {
  const V threshold = constant(params.threshold);
  with_op(params.op, [&](auto constant) {
    constexpr Op op = smooth(decltype(constant)::value);
    const auto function = [threshold](V x) { return differentiate<op>(x, threshold); };
    if constexpr (is_gated(op)) {
      const std::int64_t gate = op == Op::kMulAndSilu ? params.cols : 0;
      gated_range<Format>(params, begin, end, gate, params.cols - gate, function);
    } else {
      unary_range<Format>(params, begin, end, function);
    }
  });
}

/// dtype is fp32, fp16 or bf16.
inline void apply_backward(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return apply_backward_format<simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      return apply_backward_format<simd::BFloat16>(params, begin, end);
    default:
      return apply_backward_format<simd::Float32>(params, begin, end);
  }
}

}  // namespace
}  // namespace kernelhub::activation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
