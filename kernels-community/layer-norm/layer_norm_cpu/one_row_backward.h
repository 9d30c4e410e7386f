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

/// Stores a sum: +0 where it is a zero, and the default NaN, as those over more rows have them.
template <class Format, class Part>
HWY_INLINE void store_sum(const Part& part, V sum, typename Format::Storage* to) {
  const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
  part.template store<Format>(hn::IfThenElse(hn::IsNaN(sum), nan, sum), to);
}

template <class Format, bool kHasWeight>
inline void differentiate_only_row(const FusedBackwardParams& params) {
  using T = typename Format::Storage;
  const T* x = static_cast<const T*>(params.x.data);
  const T* grad = static_cast<const T*>(params.dz0.data);
  const T* weight = static_cast<const T*>(params.gamma0);
  T* grad_x = static_cast<T*>(params.dx0.data);
  T* grad_weight = static_cast<T*>(params.dgamma0);
  T* grad_bias = static_cast<T*>(params.dbeta0);
  const Normalizer normalized = normalizer_of<Format>(params.norm, params.eps, x, params.cols);
  simd::Totals<2> means{};
  if (grad_x != nullptr) {
    means = gradient_means<Format, kHasWeight>(grad, weight, x, normalized, params.cols);
  }
  const bool is_centered = params.norm == Norm::kLayer;
  const V mean_g = hn::Set(F32(), is_centered ? static_cast<float>(means.of[0]) : 0.0f);
  const V mean_gn = hn::Set(F32(), static_cast<float>(means.of[1]));
  const V zero = hn::Zero(F32());
  simd::for_each_part(0, params.cols, [&](auto part) {
    const V n = normalized(part.template load<Format>(x));
    V g = part.template load<Format>(grad);
    if (grad_weight != nullptr) store_sum<Format>(part, hn::MulAdd(g, n, zero), grad_weight);
    if (grad_bias != nullptr) store_sum<Format>(part, hn::Add(g, zero), grad_bias);
    if (grad_x == nullptr) return;
    if constexpr (kHasWeight) g = hn::Mul(g, part.template load<Format>(weight));
    // In the order of differentiate_rows, whose bits these are.
    const V centered = hn::Sub(hn::NegMulAdd(n, mean_gn, g), mean_g);
    part.template store<Format>(hn::Mul(centered, normalized.scale), grad_x);
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
