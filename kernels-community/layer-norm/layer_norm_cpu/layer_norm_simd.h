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

/// What a row's elements are normalised by: n = (x - center) * scale + shift.
struct Normalizer {
  V center, scale, shift;

  HWY_INLINE V operator()(V x) const { return hn::MulAdd(hn::Sub(x, center), scale, shift); }
};

template <class Format>
HWY_INLINE Normalizer normalizer_of(Norm norm, double eps, const typename Format::Storage* x,
                                    std::int64_t cols) {
  float center = 0.0f;
  Deviations row{};
  if (norm == Norm::kLayer) {
    center = static_cast<float>(mean_of<Format>(x, cols));
    row = deviations_from<Format>(center, x, cols);
  } else {
    row.variance = mean_square<Format>(x, cols);
  }
  const double rstd = 1.0 / std::sqrt(row.variance + eps);
  return {hn::Set(F32(), center), hn::Set(F32(), static_cast<float>(rstd)),
          hn::Set(F32(), static_cast<float>(-row.mean * rstd))};
}

template <class Format, bool kHasWeight, bool kHasBias>
inline void normalize_rows(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  const std::int64_t cols = params.cols;
  const simd::Streaming streaming(static_cast<const T*>(params.out),
                                  params.out == params.x ? 0 : params.rows, cols,
                                  params.out_stride);
  const bool streams = streaming.is_on();
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(params.x) + row * params.x_stride;
    T* out = static_cast<T*>(params.out) + row * params.out_stride;
    const Normalizer normalized = normalizer_of<Format>(params.norm, params.eps, x, cols);
    simd::for_each_part(0, cols, [&](auto part) {
      V n = normalized(part.template load<Format>(x));
      if constexpr (kHasWeight && kHasBias) {
        n = hn::MulAdd(n, part.template load<Format>(weight), part.template load<Format>(bias));
      } else if constexpr (kHasWeight) {
        n = hn::Mul(n, part.template load<Format>(weight));
      } else if constexpr (kHasBias) {
        n = hn::Add(n, part.template load<Format>(bias));
      }
      part.template store<Format>(n, out, streams);
    });
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

/// visit(Format{}) for the storage format of a dtype other than fp64.
template <class Visit>
HWY_INLINE void with_format(primitives::DType dtype, const Visit& visit) {
  switch (dtype) {
    case primitives::DType::kFloat16:
      return visit(simd::Float16());
    case primitives::DType::kBFloat16:
      return visit(simd::BFloat16());
    default:
      return visit(simd::Float32());
  }
}

inline void normalize(const Params& params, std::int64_t begin, std::int64_t end) {
  with_format(params.dtype,
              [&](auto format) { normalize_format<decltype(format)>(params, begin, end); });
}

}  // namespace
}  // namespace kernelhub::layer_norm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
