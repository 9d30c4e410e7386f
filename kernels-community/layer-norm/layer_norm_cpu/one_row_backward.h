// SPDX-License-Identifier: Apache-2.0
// Gradients of a plain norm of one row: what is summed over rows elsewhere is that row's share
// itself. No partial sums in memory, which would take longer than all the rest of a small call. The
// bits are those of differentiate_chunk and add_up.
#pragma once

#include <limits>

#include "layer_norm_cpu/layer_norm_backward_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::layer_norm::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// A term as the sum over rows that it is alone in: +0 where it is a zero, also one that
/// underflowed below it, and the default NaN.
HWY_INLINE V sum_of(V term) {
  const V sum = hn::Add(term, hn::Zero(F32()));
  const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
  return hn::IfThenElse(hn::IsNaN(sum), nan, sum);
}

template <class Format, bool kHasWeight>
inline void differentiate_only_row(const FusedBackwardParams& params) {
  using T = typename Format::Storage;
  const std::int64_t cols = params.cols;
  const T* x = static_cast<const T*>(params.x.data);
  const T* grad = static_cast<const T*>(params.dz0.data);
  const T* weight = static_cast<const T*>(params.gamma0);
  T* grad_x = static_cast<T*>(params.dx0.data);
  T* grad_weight = static_cast<T*>(params.dgamma0);
  T* grad_bias = static_cast<T*>(params.dbeta0);
  const auto of =
      RowOf<Format, kHasWeight>{x, grad, weight, cols}.gradient(params.norm, params.eps);
  const Normalizer normalized = of.normalized;
  const V mean_g = of.mean_g_lanes(params.norm);
  const V mean_gn = hn::Set(F32(), static_cast<float>(of.mean_gn));
  const V zero = hn::Zero(F32());
  simd::RowWriter<Format, Format> writer(grad_x, false);
  simd::RowWriter<Format, Format> weight_writer(grad_weight, false);
  simd::RowWriter<Format, Format> bias_writer(grad_bias, false);
  simd::for_each_part<Format, Format>(cols, [&](auto part) {
    const V n = normalized(part.template load<Format>(x));
    V g = part.template load<Format>(grad);
    if (grad_weight != nullptr) weight_writer.put(part, sum_of(hn::MulAdd(g, n, zero)));
    if (grad_bias != nullptr) bias_writer.put(part, sum_of(g));
    if (grad_x == nullptr) return;
    if constexpr (kHasWeight) g = hn::Mul(g, part.template load<Format>(weight));
    // In the order of differentiate_rows, whose bits these are.
    const V centered = hn::Sub(hn::NegMulAdd(n, mean_gn, g), mean_g);
    writer.put(part, hn::Mul(centered, normalized.scale));
  });
}

inline void differentiate_one(const FusedBackwardParams& params) {
  with_format(params.dtype, [&](auto format) {
    using Format = decltype(format);
    if (params.gamma0 != nullptr) return differentiate_only_row<Format, true>(params);
    differentiate_only_row<Format, false>(params);
  });
}

}  // namespace
}  // namespace kernelhub::layer_norm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
