// SPDX-License-Identifier: Apache-2.0
// Layer normalisation of rows on Highway lanes; the includer's flags choose the instruction set.
//   out = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), one rounding to dtype
//   rms_norm: mean = 0, and the mean square in place of the variance
// Moments about a center c, corrected by the mean of x - c (T. F. Chan, G. H. Golub, R. J. LeVeque,
// The American Statistician 37 (1983), 242-247): deviations are exact where the mean dwarfs the
// spread. c is the mean of a few elements; where the moments say that it was too far from the mean
// of all, a second and third pass take that mean for c. Lanes are fp32, totals fp64. Every mean is
// summed over x / cols, so that finite rows never overflow.
// Reads each element twice as a rule, from L1 after the first time up to about 8 Ki elements a row.
#pragma once

#include <cmath>
#include <limits>

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
  return simd::folded_sums<1, Format>(cols, add).of[0];
}

/// A row seen from a center of its own.
struct Moments {
  float center;
  double mean;      // of x - center
  double variance;  // of x, or its mean square
};

/// About zero: `squares` is the sum of x^2.
HWY_INLINE Moments moments_of_squares(double squares, std::int64_t cols) {
  return {0.0f, 0.0, squares / static_cast<double>(cols)};
}

/// `mean` and `squares`: of x - center.
HWY_INLINE Moments moments_about(float center, double mean, double squares, std::int64_t cols) {
  const double variance = squares / static_cast<double>(cols) - mean * mean;
  return {center, mean, variance < 0.0 ? 0.0 : variance};
}

template <class Format>
HWY_INLINE Moments moments_about(float center, const typename Format::Storage* x,
                                 std::int64_t cols) {
  const V share = hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  const V m = hn::Set(F32(), center);
  const auto add = [&](auto part, V(&sums)[2]) {
    const V d = part.columns_of(hn::Sub(part.template load<Format>(x), m));
    sums[0] = hn::MulAdd(d, share, sums[0]);
    sums[1] = hn::MulAdd(d, d, sums[1]);
  };
  const auto totals = simd::folded_sums<2, Format>(cols, add);
  return moments_about(center, totals.of[0], totals.of[1], cols);
}

template <class Format>
HWY_INLINE Moments mean_square(const typename Format::Storage* x, std::int64_t cols) {
  const auto add = [&](auto part, V(&sums)[1]) {
    const V v = part.template load<Format>(x);
    sums[0] = hn::MulAdd(v, v, sums[0]);
  };
  return moments_of_squares(simd::folded_sums<1, Format>(cols, add).of[0], cols);
}

constexpr std::int64_t kGuessed = 4 * static_cast<std::int64_t>(hn::MaxLanes(F32()));

/// A center for rows of at least kGuessed columns: the mean of the first ones.
template <class Format>
HWY_INLINE float guessed_center(const typename Format::Storage* x) {
  return static_cast<float>(mean_of<Format>(x, kGuessed));
}

/// Whether a guess was so close to the mean that the variance has lost no digits to it (a quarter
/// of the deviations' squares at most), and nothing overflowed on the way.
HWY_INLINE bool is_close(const Moments& row) {
  return 4.0 * row.mean * row.mean <= row.variance &&
         row.variance <= std::numeric_limits<float>::max();
}

template <class Format>
HWY_INLINE Moments two_pass_moments(const typename Format::Storage* x, std::int64_t cols) {
  return moments_about<Format>(static_cast<float>(mean_of<Format>(x, cols)), x, cols);
}

template <class Format>
HWY_INLINE Moments moments_of(Norm norm, const typename Format::Storage* x, std::int64_t cols) {
  if (norm == Norm::kRms) return mean_square<Format>(x, cols);
  if (cols >= kGuessed) {
    const Moments row = moments_about<Format>(guessed_center<Format>(x), x, cols);
    if (is_close(row)) return row;
  }
  return two_pass_moments<Format>(x, cols);
}

/// What a row's elements are normalised by: n = (x - center) * scale + shift.
struct Normalizer {
  V center, scale, shift;

  HWY_INLINE V operator()(V x) const { return hn::MulAdd(hn::Sub(x, center), scale, shift); }
};

HWY_INLINE double reciprocal_deviation(const Moments& row, double eps) {
  return 1.0 / std::sqrt(row.variance + eps);
}

HWY_INLINE Normalizer normalizer_of(const Moments& row, double rstd) {
  // The mean in two parts: x - center is exact where the mean dwarfs the spread.
  const double mean = static_cast<double>(row.center) + row.mean;
  const float center = static_cast<float>(mean);
  const double lack = mean - static_cast<double>(center);
  return {hn::Set(F32(), center), hn::Set(F32(), static_cast<float>(rstd)),
          hn::Set(F32(), static_cast<float>(-lack * rstd))};
}

template <class Format>
HWY_INLINE Normalizer normalizer_of(Norm norm, double eps, const typename Format::Storage* x,
                                    std::int64_t cols) {
  const Moments row = moments_of<Format>(norm, x, cols);
  return normalizer_of(row, reciprocal_deviation(row, eps));
}

template <class Format, bool kHasWeight, bool kHasBias>
inline void normalize_rows(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  const std::int64_t cols = params.cols;
  // Of fp16 the arithmetic is the limit, and stores past the caches cost more than they save.
  const bool is_streamed = params.out != params.x && !std::is_same_v<Format, simd::Float16>;
  const auto streaming = primitives::Streaming::of<T>(is_streamed ? params.rows : 0, cols);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(params.x) + row * params.x_stride;
    T* out = static_cast<T*>(params.out) + row * params.out_stride;
    const Normalizer normalized = normalizer_of<Format>(params.norm, params.eps, x, cols);
    simd::RowWriter<Format, Format> writer(out, streaming.is_on(out));
    simd::for_each_part<Format, Format>(cols, [&](auto part) {
      V n = normalized(part.template load<Format>(x));
      if constexpr (kHasWeight && kHasBias) {
        n = hn::MulAdd(n, part.template load<Format>(weight), part.template load<Format>(bias));
      } else if constexpr (kHasWeight) {
        n = hn::Mul(n, part.template load<Format>(weight));
      } else if constexpr (kHasBias) {
        n = hn::Add(n, part.template load<Format>(bias));
      }
      writer.put(part, n);
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
