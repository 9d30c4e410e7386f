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
template <bool kMayBeNan>
HWY_INLINE V sum_of(V term) {
  const V sum = hn::Add(term, hn::Zero(F32()));
  if constexpr (!kMayBeNan) return sum;
  const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
  return hn::IfThenElse(hn::IsNaN(sum), nan, sum);
}

/// sum_of<false> for a row of 16-bit elements, without a way through fp32.
inline void copy_sums(const std::uint16_t* HWY_RESTRICT row, std::int64_t cols,
                      std::uint16_t* HWY_RESTRICT sums) {
  constexpr std::uint16_t kMinusZero = 0x8000;
  std::int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const simd::Packed16 lanes;
  constexpr auto kStep = static_cast<std::int64_t>(hn::MaxLanes(lanes));
  for (; i + kStep <= cols; i += kStep) {
    const auto bits = hn::LoadU(lanes, row + i);
    const auto is_minus_zero = hn::Eq(bits, hn::Set(lanes, kMinusZero));
    hn::StoreU(hn::IfThenZeroElse(is_minus_zero, bits), lanes, sums + i);
  }
#endif
  for (; i < cols; ++i) sums[i] = row[i] == kMinusZero ? std::uint16_t{0} : row[i];
}

/// Everything of one row but what `of` says. Without NaN, if not kMayHaveNan, in what is read.
template <class Format, bool kHasWeight, bool kMayHaveNan>
inline void write_gradients(const FusedBackwardParams& params, const RowOf<Format, kHasWeight>& row,
                            const RowGradient& of) {
  using T = typename Format::Storage;
  T* grad_x = static_cast<T*>(params.dx0.data);
  T* grad_weight = static_cast<T*>(params.dgamma0);
  T* grad_bias = static_cast<T*>(params.dbeta0);
  if constexpr (!kMayHaveNan && !std::is_same_v<Format, simd::Float32>) {
    if (grad_bias != nullptr) copy_sums(row.grad, row.cols, grad_bias);
    grad_bias = nullptr;
  }
  const Normalizer normalized = of.normalized;
  const V mean_g = of.mean_g_lanes(params.norm);
  const V mean_gn = hn::Set(F32(), static_cast<float>(of.mean_gn));
  const V zero = hn::Zero(F32());
  simd::RowWriter<Format, Format> writer(grad_x, false);
  simd::RowWriter<Format, Format> weight_writer(grad_weight, false);
  simd::RowWriter<Format, Format> bias_writer(grad_bias, false);
  simd::for_each_part<Format, Format>(row.cols, [&](auto part) {
    const V n = normalized(part.template load<Format>(row.x));
    V g = part.template load<Format>(row.grad);
    if (grad_weight != nullptr) {
      weight_writer.put(part, sum_of<kMayHaveNan>(hn::MulAdd(g, n, zero)));
    }
    if (grad_bias != nullptr) bias_writer.put(part, sum_of<kMayHaveNan>(g));
    if (grad_x == nullptr) return;
    if constexpr (kHasWeight) g = hn::Mul(g, part.template load<Format>(row.weight));
    // In the order of differentiate_rows, whose bits these are.
    const V centered = hn::Sub(hn::NegMulAdd(n, mean_gn, g), mean_g);
    writer.put(part, hn::Mul(centered, normalized.scale));
  });
}

template <class Format, bool kHasWeight>
inline void differentiate_only_row(const FusedBackwardParams& params) {
  using T = typename Format::Storage;
  const RowOf<Format, kHasWeight> row{static_cast<const T*>(params.x.data),
                                      static_cast<const T*>(params.dz0.data),
                                      static_cast<const T*>(params.gamma0), params.cols};
  const RowGradient of = row.gradient(params.norm, params.eps);
  // A NaN or an infinity of any element would be in the sums: without one no product is NaN.
  if (std::isfinite(of.mean_g) && std::isfinite(of.mean_gn)) {
    return write_gradients<Format, kHasWeight, false>(params, row, of);
  }
  write_gradients<Format, kHasWeight, true>(params, row, of);
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
