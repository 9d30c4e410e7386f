// SPDX-License-Identifier: Apache-2.0
// Layer normalisation of rows on Highway lanes; the includer's flags choose the instruction set.
//   out = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), one rounding to dtype
//   rms_norm: mean = 0, and the mean square in place of the variance
// Corrected two-pass moments (T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37
// (1983), 242-247): deviations from a rounded mean m are exact where the mean dwarfs the spread,
// and their own mean is what m lacks. Lanes are fp32, totals fp64. Every mean is summed over
// x / cols, so that finite rows never overflow.
// Reads each element three times, from L1 after the first time up to about 8 Ki elements a row.
#pragma once

#include <cmath>

#include "layer_norm/params.h"
#include "primitives/simd_rows.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::layer_norm::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using simd::F32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

template <class Format>
HWY_INLINE double mean_of(const typename Format::Storage* x, std::int64_t cols) {
  const V share = hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  const auto add = [&](auto part, V(&sums)[1]) {
    sums[0] = hn::MulAdd(part.template load<Format>(x), share, sums[0]);
  };
  return simd::folded_sums<1>(cols, add).of[0];
}

struct Deviations {
  double mean;      // of x - center
  double variance;  // of x
};

template <class Format>
HWY_INLINE Deviations deviations_from(float center, const typename Format::Storage* x,
                                      std::int64_t cols) {
  const double share = 1.0 / static_cast<double>(cols);
  const V lane_share = hn::Set(F32(), static_cast<float>(share));
  const V m = hn::Set(F32(), center);
  const auto add = [&](auto part, V(&sums)[2]) {
    const V d = part.columns_of(hn::Sub(part.template load<Format>(x), m));
    sums[0] = hn::MulAdd(d, lane_share, sums[0]);
    sums[1] = hn::MulAdd(d, d, sums[1]);
  };
  const auto totals = simd::folded_sums<2>(cols, add);
  const double mean = totals.of[0];
  const double variance = totals.of[1] * share - mean * mean;
  return {mean, variance < 0.0 ? 0.0 : variance};
}

template <class Format>
HWY_INLINE double mean_square(const typename Format::Storage* x, std::int64_t cols) {
  const auto add = [&](auto part, V(&sums)[1]) {
    const V v = part.template load<Format>(x);
    sums[0] = hn::MulAdd(v, v, sums[0]);
  };
  return simd::folded_sums<1>(cols, add).of[0] / static_cast<double>(cols);
}

template <class Format, bool kHasWeight, bool kHasBias>
inline void normalize_row(const typename Format::Storage* x, const typename Format::Storage* weight,
                          const typename Format::Storage* bias, typename Format::Storage* out,
                          std::int64_t cols, Norm norm, double eps) {
  const bool is_centered = norm == Norm::kLayer;
  const float center = is_centered ? static_cast<float>(mean_of<Format>(x, cols)) : 0.0f;
  const Deviations row = is_centered ? deviations_from<Format>(center, x, cols)
                                     : Deviations{0.0, mean_square<Format>(x, cols)};
  const double rstd = 1.0 / std::sqrt(row.variance + eps);
  const V m = hn::Set(F32(), center);
  const V scale = hn::Set(F32(), static_cast<float>(rstd));
  const V shift = hn::Set(F32(), static_cast<float>(-row.mean * rstd));
  const auto normalize = [&](V v, V w, V b) {
    const V n = hn::MulAdd(hn::Sub(v, m), scale, shift);
    if constexpr (kHasWeight && kHasBias) return hn::MulAdd(n, w, b);
    if constexpr (kHasWeight && !kHasBias) return hn::Mul(n, w);
    if constexpr (!kHasWeight && kHasBias) return hn::Add(n, b);
    return n;
  };
  simd::for_each_part(0, cols, [&](auto part) {
    const V v = part.template load<Format>(x);
    const V w = kHasWeight ? part.template load<Format>(weight) : v;
    const V b = kHasBias ? part.template load<Format>(bias) : v;
    part.template store<Format>(normalize(v, w, b), out);
  });
}

template <class Format, bool kHasWeight, bool kHasBias>
inline void normalize_rows(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  for (std::int64_t row = begin; row < end; ++row) {
    normalize_row<Format, kHasWeight, kHasBias>(
        static_cast<const T*>(params.x) + row * params.x_stride, weight, bias,
        static_cast<T*>(params.out) + row * params.out_stride, params.cols, params.norm,
        params.eps);
  }
}

template <class Format>
inline void normalize_format(const Params& params, std::int64_t begin, std::int64_t end) {
  const bool has_weight = params.weight != nullptr;
  const bool has_bias = params.bias != nullptr;
  if (has_weight && has_bias) return normalize_rows<Format, true, true>(params, begin, end);
  if (has_weight) return normalize_rows<Format, true, false>(params, begin, end);
  if (has_bias) return normalize_rows<Format, false, true>(params, begin, end);
  return normalize_rows<Format, false, false>(params, begin, end);
}

/// dtype is fp32, fp16 or bf16.
inline void normalize(const Params& params, std::int64_t begin, std::int64_t end) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return normalize_format<simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      return normalize_format<simd::BFloat16>(params, begin, end);
    default:
      return normalize_format<simd::Float32>(params, begin, end);
  }
}

}  // namespace
}  // namespace kernelhub::layer_norm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
