// SPDX-License-Identifier: Apache-2.0
// Gradients of plain norms on Highway lanes; the includer's flags choose the instruction set.
//   n = (x - mean) * rstd, g = grad_out * weight
//   grad_x = (g - mean(g) - n * mean(g * n)) * rstd
//   grad_weight = the sum of grad_out * n over rows, grad_bias that of grad_out
//   rms_norm: mean = mean(g) = 0, and the mean square in place of the variance
// Moments as in the forward, computed again, together with the means. Lanes are fp32, totals fp64.
// Every mean is summed over g / cols, so that finite rows never overflow. Reads x and grad_out
// twice as a rule, from L1 or L2 the second time.
#pragma once

#include "layer_norm_cpu/layer_norm_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::layer_norm::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// The sums over rows of one chunk, each empty where nobody asks for it.
struct ParameterSums {
  simd::ChunkSums weight, bias;

  template <class Format>
  HWY_INLINE void end_row() {
    if (weight.totals != nullptr) weight.end_row<Format>();
    if (bias.totals != nullptr) bias.end_row<Format>();
  }
  template <class Format>
  void fold() {
    if (weight.totals != nullptr) weight.fold<Format>();
    if (bias.totals != nullptr) bias.fold<Format>();
  }
};

/// What the gradient of a row of x follows from.
struct RowGradient {
  Normalizer normalized;
  double mean_g, mean_gn;

  HWY_INLINE V mean_g_lanes(Norm norm) const {
    return hn::Set(F32(), norm == Norm::kLayer ? static_cast<float>(mean_g) : 0.0f);
  }
};

/// A row of a call.
template <class Format, bool kHasWeight>
struct RowOf {
  using T = typename Format::Storage;
  const T* x;
  const T* grad;
  const T* weight;
  std::int64_t cols;

  /// g / cols of a part.
  template <class Part>
  HWY_INLINE V g_share(const Part& part, V share) const {
    const V g = hn::Mul(part.template load<Format>(grad), share);
    if constexpr (!kHasWeight) return g;
    if constexpr (kHasWeight) return hn::Mul(g, part.template load<Format>(weight));
  }
  HWY_INLINE V share() const {
    return hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  }

  /// The means by a pass of their own.
  HWY_INLINE RowGradient with_means(const Normalizer& normalized) const {
    const V all = share();
    const auto add = [&](auto part, V(&sums)[2]) {
      const V g = g_share(part, all);
      // Behind the row g is zero, but n may be infinite.
      const V n = part.columns_of(normalized(part.template load<Format>(x)));
      sums[0] = hn::Add(g, sums[0]);
      sums[1] = hn::MulAdd(g, n, sums[1]);
    };
    const auto means = simd::folded_sums<2, Format>(cols, add);
    return {normalized, means.of[0], means.of[1]};
  }

  /// Everything in one pass: n = (x - center - mean) * rstd, so its products with g follow from
  /// those of x - center. Where these lose digits or overflow, passes of their own.
  HWY_INLINE RowGradient gradient(Norm norm, double eps) const {
    const bool is_centered = norm == Norm::kLayer;
    if (is_centered && cols < kGuessed) return careful_gradient(norm, eps);
    const float center = is_centered ? guessed_center(Elements<Format>{x}) : 0.0f;
    const V m = hn::Set(F32(), center);
    const V all = share();
    const auto add = [&](auto part, V(&sums)[4]) {
      const V d = part.columns_of(hn::Sub(part.template load<Format>(x), m));
      const V g = g_share(part, all);
      sums[0] = hn::MulAdd(d, all, sums[0]);
      sums[1] = hn::MulAdd(d, d, sums[1]);
      sums[2] = hn::Add(g, sums[2]);
      sums[3] = hn::MulAdd(g, d, sums[3]);
    };
    const auto totals = simd::folded_sums<4, Format>(cols, add);
    const Moments row = is_centered ? moments_about(center, totals.of[0], totals.of[1], cols)
                                    : moments_of_squares(totals.of[1], cols);
    const double rstd = reciprocal_deviation(row, eps);
    const double mean_gn = (totals.of[3] - row.mean * totals.of[2]) * rstd;
    // Products with tiny deviations may vanish, with huge ones overflow.
    constexpr double kMostScale = 1 << 30;
    const bool is_plain = is_close(row) && rstd <= kMostScale && std::isfinite(mean_gn);
    if (!is_plain) return careful_gradient(norm, eps);
    return {normalizer_of(row, rstd), totals.of[2], mean_gn};
  }

  HWY_INLINE RowGradient careful_gradient(Norm norm, double eps) const {
    const Moments row = moments_of(norm, Elements<Format>{x}, cols);
    return with_means(normalizer_of(row, reciprocal_deviation(row, eps)));
  }
};

template <class Format, bool kHasWeight>
inline void differentiate_rows(const FusedBackwardParams& params, std::int64_t begin,
                               std::int64_t end, ParameterSums sums) {
  using T = typename Format::Storage;
  const T* weight = static_cast<const T*>(params.gamma0);
  const std::int64_t cols = params.cols;
  const auto bytes = cols * static_cast<std::int64_t>(sizeof(T));
  const bool has_grad_x = params.dx0.data != nullptr;
  const simd::PendingSums weight_sums = sums.weight.row();
  const simd::PendingSums bias_sums = sums.bias.row();
  const auto streaming = primitives::Streaming::of<T>(has_grad_x ? params.rows : 0, cols);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(params.x.data) + row * params.x.stride;
    const T* grad = static_cast<const T*>(params.dz0.data) + row * params.dz0.stride;
    // Also for the sums over rows alone, so that their bits do not depend on what else is asked
    // for.
    const auto of =
        RowOf<Format, kHasWeight>{x, grad, weight, cols}.gradient(params.norm, params.eps);
    const Normalizer normalized = of.normalized;
    if (!has_grad_x) {
      simd::for_each_part<Format, Format>(cols, [&](auto part) {
        const V g = part.template load<Format>(grad);
        weight_sums.add_product(part, g, normalized(part.template load<Format>(x)));
        bias_sums.add(part, g);
      });
      sums.template end_row<Format>();
      continue;
    }
    const V mean_g = of.mean_g_lanes(params.norm);
    const V mean_gn = hn::Set(F32(), static_cast<float>(of.mean_gn));
    T* grad_x = static_cast<T*>(params.dx0.data) + row * params.dx0.stride;
    simd::RowWriter<Format, Format> writer(grad_x, streaming.is_on(grad_x));
    // While results are computed and written, memory would idle, and the next row's first pass
    // wait.
    const bool has_next = row + 1 < end && bytes <= simd::kMostFetchedBytes;
    const T* next_x = has_next ? x + params.x.stride : x;
    const T* next_grad = has_next ? grad + params.dz0.stride : grad;
    simd::for_each_part<Format, Format>(cols, [&](auto part) {
      simd::fetch_columns<2>(part, next_x);
      simd::fetch_columns<2>(part, next_grad);
      const V n = normalized(part.template load<Format>(x));
      V g = part.template load<Format>(grad);
      weight_sums.add_product(part, g, n);
      bias_sums.add(part, g);
      if constexpr (kHasWeight) g = hn::Mul(g, part.template load<Format>(weight));
      // g - mean(g) first would be contracted with the product g: no longer zero where g is its
      // mean.
      const V centered = hn::Sub(hn::NegMulAdd(n, mean_gn, g), mean_g);
      writer.put(part, hn::Mul(centered, normalized.scale));
    });
    sums.template end_row<Format>();
  }
  sums.template fold<Format>();
}

inline void differentiate_formats(const FusedBackwardParams& params, std::int64_t begin,
                                  std::int64_t end, const ParameterSums& sums) {
  with_format(params.dtype, [&](auto format) {
    using Format = decltype(format);
    if (params.gamma0 != nullptr) {
      return differentiate_rows<Format, true>(params, begin, end, sums);
    }
    differentiate_rows<Format, false>(params, begin, end, sums);
  });
}

inline void differentiate(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end) {
  differentiate_formats(params, begin, end, {});
}

/// How many sums over rows the call asks for; the weight's comes first.
inline std::int64_t count_sums(const FusedBackwardParams& params) {
  return (params.dgamma0 != nullptr ? 1 : 0) + (params.dbeta0 != nullptr ? 1 : 0);
}

inline void differentiate_chunk(const FusedBackwardParams& params, void* workspace,
                                const primitives::ColumnChunks& chunks, std::int64_t chunk) {
  const std::int64_t count = count_sums(params);
  ParameterSums sums;
  if (params.dgamma0 != nullptr) {
    sums.weight = simd::ChunkSums(workspace, chunks, chunk, 0, count);
  }
  if (params.dbeta0 != nullptr) {
    sums.bias = simd::ChunkSums(workspace, chunks, chunk, count - 1, count);
  }
  differentiate_formats(params, chunks.begin(chunk), chunks.end(chunk), sums);
}

inline void add_up(const FusedBackwardParams& params, void* workspace,
                   const primitives::ColumnChunks& chunks, std::int64_t begin, std::int64_t end) {
  const std::int64_t count = count_sums(params);
  with_format(params.dtype, [&](auto format) {
    using Format = decltype(format);
    using T = typename Format::Storage;
    if (params.dgamma0 != nullptr) {
      simd::add_up_chunks<Format>(static_cast<T*>(params.dgamma0), workspace, chunks, 0, count,
                                  begin, end);
    }
    if (params.dbeta0 != nullptr) {
      simd::add_up_chunks<Format>(static_cast<T*>(params.dbeta0), workspace, chunks, count - 1,
                                  count, begin, end);
    }
  });
}

}  // namespace
}  // namespace kernelhub::layer_norm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
