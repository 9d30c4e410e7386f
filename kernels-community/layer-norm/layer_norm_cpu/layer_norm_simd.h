// SPDX-License-Identifier: Apache-2.0
// Layer normalisation of rows on Highway lanes, alone or of a sum; the includer's flags choose the
// instruction set.
//   x = x0 + x1 + residual
//   z = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), one rounding to dtype
//   rms_norm: mean = 0, and the mean square in place of the variance
// Moments about a center c, corrected by the mean of x - c (T. F. Chan, G. H. Golub, R. J. LeVeque,
// The American Statistician 37 (1983), 242-247): deviations are exact where the mean dwarfs the
// spread. c is the mean of a few elements; where the moments say that it was too far from the mean
// of all, a second and third pass take that mean for c. Lanes are fp32, totals fp64. Every mean is
// summed over x / cols, so that finite rows never overflow.
// Reads each element, and makes each sum, twice as a rule, from L1 after the first time up to about
// 8 Ki elements a row.
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

/// A row as it lies in memory.
template <class Format>
struct Elements {
  using Order = Format;
  const typename Format::Storage* x;

  template <class Part>
  HWY_INLINE V load(const Part& part) const {
    return part.template load<Format>(x);
  }
};

template <class Row>
HWY_INLINE double mean_of(const Row& row, std::int64_t cols) {
  const V share = hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  const auto add = [&](auto part, V(&sums)[1]) {
    sums[0] = hn::MulAdd(row.load(part), share, sums[0]);
  };
  return simd::folded_sums<1, typename Row::Order>(cols, add).of[0];
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

template <class Row>
HWY_INLINE Moments moments_about(float center, const Row& row, std::int64_t cols) {
  const V share = hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  const V m = hn::Set(F32(), center);
  const auto add = [&](auto part, V(&sums)[2]) {
    const V d = part.columns_of(hn::Sub(row.load(part), m));
    sums[0] = hn::MulAdd(d, share, sums[0]);
    sums[1] = hn::MulAdd(d, d, sums[1]);
  };
  const auto totals = simd::folded_sums<2, typename Row::Order>(cols, add);
  return moments_about(center, totals.of[0], totals.of[1], cols);
}

template <class Row>
HWY_INLINE Moments mean_square(const Row& row, std::int64_t cols) {
  const auto add = [&](auto part, V(&sums)[1]) {
    const V v = row.load(part);
    sums[0] = hn::MulAdd(v, v, sums[0]);
  };
  return moments_of_squares(simd::folded_sums<1, typename Row::Order>(cols, add).of[0], cols);
}

constexpr std::int64_t kGuessed = 4 * static_cast<std::int64_t>(hn::MaxLanes(F32()));

/// A center for rows of at least kGuessed columns: the mean of the first ones.
template <class Row>
HWY_INLINE float guessed_center(const Row& row) {
  return static_cast<float>(mean_of(row, kGuessed));
}

/// Whether a guess was so close to the mean that the variance has lost no digits to it (a quarter
/// of the deviations' squares at most), and nothing overflowed on the way.
HWY_INLINE bool is_close(const Moments& row) {
  return 4.0 * row.mean * row.mean <= row.variance &&
         row.variance <= std::numeric_limits<float>::max();
}

template <class Row>
HWY_INLINE Moments two_pass_moments(const Row& row, std::int64_t cols) {
  return moments_about(static_cast<float>(mean_of(row, cols)), row, cols);
}

template <class Row>
HWY_INLINE Moments moments_of(Norm norm, const Row& row, std::int64_t cols) {
  if (norm == Norm::kRms) return mean_square(row, cols);
  if (cols >= kGuessed) {
    const Moments moments = moments_about(guessed_center(row), row, cols);
    if (is_close(moments)) return moments;
  }
  return two_pass_moments(row, cols);
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

/// Row of a matrix of the call; null where it has no such matrix.
template <class Format, class Pointer>
HWY_INLINE auto row_of(const Matrix<Pointer>& matrix, std::int64_t row) {
  using T = typename Format::Storage;
  using Element = std::conditional_t<std::is_same_v<Pointer, const void*>, const T, T>;
  auto* data = static_cast<Element*>(matrix.data);
  return data == nullptr ? data : data + row * matrix.stride;
}

/// x0 + x1 + residual in one row, not rounded yet; not kIsSum: x0, which nobody asks to be written.
/// x1 and residual may be null.
template <class X, class Residual, class Order_, bool kIsSum>
struct Addends {
  using Order = Order_;
  const typename X::Storage* x0;
  const typename X::Storage* x1;
  const typename Residual::Storage* residual;

  template <class Part>
  HWY_INLINE V load(const Part& part) const {
    V x = part.template load<X>(x0);
    if constexpr (kIsSum) {
      if (x1 != nullptr) x = hn::Add(x, part.template load<X>(x1));
      if (residual != nullptr) x = hn::Add(x, part.template load<Residual>(residual));
    }
    return x;
  }

  /// The row below.
  HWY_INLINE Addends after(const FusedParams& params) const {
    return {x0 + params.x0.stride, x1 == nullptr ? x1 : x1 + params.x1.stride,
            residual == nullptr ? residual : residual + params.residual.stride};
  }

  /// Fetches a part's columns, to be read: in 16 bits, where arithmetic is the limit, as if each
  /// tensor were the only one.
  template <class Part>
  HWY_INLINE void fetch(const Part& part) const {
    constexpr int kStreams = kIsSum && std::is_same_v<X, simd::Float32> ? 2 : 1;
    simd::fetch_columns<kStreams>(part, x0);
    if constexpr (kIsSum) {
      if (x1 != nullptr) simd::fetch_columns<kStreams>(part, x1);
      if (residual != nullptr) simd::fetch_columns<kStreams>(part, residual);
    }
  }
};

template <class X, class Residual, class Weight, bool kIsSum>
inline void normalize_rows(const FusedParams& params, std::int64_t begin, std::int64_t end) {
  using T = typename X::Storage;
  using R = typename Residual::Storage;
  using W = typename Weight::Storage;
  using Order = simd::OrderOf<X, Residual, Weight>;
  const W* weight = static_cast<const W*>(params.gamma0);
  const W* bias = static_cast<const W*>(params.beta0);
  const std::int64_t cols = params.cols;
  const auto bytes = cols * static_cast<std::int64_t>(sizeof(R));  // of the wider ones
  // Of fp16 alone the arithmetic is the limit, and stores past the caches cost more than they save.
  constexpr bool kIsMemoryBound = kIsSum || !std::is_same_v<X, simd::Float16>;
  const bool is_streamed = kIsMemoryBound && params.z0.data != params.x0.data;
  const auto streaming = primitives::Streaming::of<T>(is_streamed ? params.rows : 0, cols);
  // While results are computed and written, memory would idle, and the next row's first pass wait.
  // A CPU itself follows a single tensor within a page.
  const bool may_fetch = (kIsSum || (streaming.is_on() && bytes >= primitives::kPageBytes)) &&
                         bytes <= simd::kMostFetchedBytes;
  for (std::int64_t row = begin; row < end; ++row) {
    const Addends<X, Residual, Order, kIsSum> x{row_of<X>(params.x0, row),
                                                row_of<X>(params.x1, row),
                                                row_of<Residual>(params.residual, row)};
    T* out = row_of<X>(params.z0, row);
    R* sum = row_of<Residual>(params.x, row);
    const Moments moments = moments_of(params.norm, x, cols);
    const double rstd = reciprocal_deviation(moments, params.eps);
    if (params.mu != nullptr) {
      static_cast<float*>(params.mu)[row] =
          static_cast<float>(static_cast<double>(moments.center) + moments.mean);
    }
    if (params.rsigma != nullptr) {
      static_cast<float*>(params.rsigma)[row] = static_cast<float>(rstd);
    }
    const Normalizer normalized = normalizer_of(moments, rstd);
    // Both are written by turns.
    const bool is_sum_apart = !primitives::is_same_in_page(sum, out);
    simd::RowWriter<Residual, Order> sum_writer(sum, is_sum_apart && streaming.is_on(sum));
    simd::RowWriter<X, Order> writer(out, streaming.is_on(out));
    const bool fetches = may_fetch && row + 1 < end;
    const auto next = fetches ? x.after(params) : x;
    simd::for_each_part<X, Order>(cols, [&](auto part) {
      if (fetches) next.fetch(part);
      const V element = x.load(part);
      if constexpr (kIsSum) {
        if (sum != nullptr) sum_writer.put(part, element);
      }
      V n = normalized(element);
      if (weight != nullptr) {
        const V factor = part.template load<Weight>(weight);
        n = bias != nullptr ? hn::MulAdd(n, factor, part.template load<Weight>(bias))
                            : hn::Mul(n, factor);
      } else if (bias != nullptr) {
        n = hn::Add(n, part.template load<Weight>(bias));
      }
      writer.put(part, simd::storable<X, Residual, Weight>(n));
    });
  }
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

/// visit(Format{}) for a dtype that is that of X, or fp32.
template <class X, class Visit>
HWY_INLINE void with_format_beside(primitives::DType x, primitives::DType dtype,
                                   const Visit& visit) {
  if (dtype == x) return visit(X());
  visit(simd::Float32());
}

inline void normalize(const FusedParams& params, std::int64_t begin, std::int64_t end) {
  const bool is_sum =
      params.x1.data != nullptr || params.residual.data != nullptr || params.x.data != nullptr;
  with_format(params.dtype, [&](auto x) {
    using X = decltype(x);
    with_format_beside<X>(params.dtype, params.weight_dtype, [&](auto weight) {
      using Weight = decltype(weight);
      if (!is_sum) return normalize_rows<X, X, Weight, false>(params, begin, end);
      with_format_beside<X>(params.dtype, params.residual_dtype, [&](auto residual) {
        normalize_rows<X, decltype(residual), Weight, true>(params, begin, end);
      });
    });
  });
}

}  // namespace
}  // namespace kernelhub::layer_norm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
