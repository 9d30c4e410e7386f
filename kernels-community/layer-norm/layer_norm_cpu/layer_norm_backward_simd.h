// SPDX-License-Identifier: Apache-2.0
// Gradients of plain norms on Highway lanes; the includer's flags choose the instruction set.
//   n = (x - mean) * rstd, g = grad_out * weight
//   grad_x = (g - mean(g) - n * mean(g * n)) * rstd
//   grad_weight = the sum of grad_out * n over rows, grad_bias that of grad_out
//   rms_norm: mean = mean(g) = 0, and the mean square in place of the variance
// Moments as in the forward, computed again. Lanes are fp32, totals fp64. Every mean is summed over
// g / cols, so that finite rows never overflow. Reads x four times and grad_out twice, but the
// first time from L1 or L2.
#pragma once

#include "layer_norm_cpu/layer_norm_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::layer_norm::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// The sums over rows of one chunk, each empty where nobody asks for it.
struct ParameterSums {
  simd::ChunkSums weight, bias;

  HWY_INLINE void end_row() {
    if (weight.totals != nullptr) weight.end_row();
    if (bias.totals != nullptr) bias.end_row();
  }
  void fold() {
    if (weight.totals != nullptr) weight.fold();
    if (bias.totals != nullptr) bias.fold();
  }
};

/// mean(g) and mean(g * n) of a row.
template <class Format, bool kHasWeight>
HWY_INLINE simd::Totals<2> gradient_means(const typename Format::Storage* grad,
                                          const typename Format::Storage* weight,
                                          const typename Format::Storage* x,
                                          const Normalizer& normalized, std::int64_t cols) {
  const V share = hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  const auto add = [&](auto part, V(&sums)[2]) {
    V g = hn::Mul(part.template load<Format>(grad), share);
    if constexpr (kHasWeight) g = hn::Mul(g, part.template load<Format>(weight));
    // Behind the row g is zero, but n may be infinite.
    const V n = part.columns_of(normalized(part.template load<Format>(x)));
    sums[0] = hn::Add(g, sums[0]);
    sums[1] = hn::MulAdd(g, n, sums[1]);
  };
  return simd::folded_sums<2>(cols, add);
}

template <class Format, bool kHasWeight>
inline void differentiate_rows(const FusedBackwardParams& params, std::int64_t begin,
                               std::int64_t end, ParameterSums sums) {
  using T = typename Format::Storage;
  const T* weight = static_cast<const T*>(params.gamma0);
  const std::int64_t cols = params.cols;
  const bool has_grad_x = params.dx0.data != nullptr;
  const bool has_weight_sum = sums.weight.totals != nullptr;
  const bool has_bias_sum = sums.bias.totals != nullptr;
  const simd::Streaming streaming(static_cast<const T*>(params.dx0.data),
                                  has_grad_x ? params.rows : 0, cols, params.dx0.stride);
  const bool streams = streaming.is_on();
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(params.x.data) + row * params.x.stride;
    const T* grad = static_cast<const T*>(params.dz0.data) + row * params.dz0.stride;
    T* grad_x = static_cast<T*>(params.dx0.data) + row * params.dx0.stride;
    const Normalizer normalized = normalizer_of<Format>(params.norm, params.eps, x, cols);
    simd::Totals<2> means{};
    if (has_grad_x) {
      means = gradient_means<Format, kHasWeight>(grad, weight, x, normalized, cols);
    }
    const bool is_centered = params.norm == Norm::kLayer;
    const V mean_g = hn::Set(F32(), is_centered ? static_cast<float>(means.of[0]) : 0.0f);
    const V mean_gn = hn::Set(F32(), static_cast<float>(means.of[1]));
    simd::for_each_part(0, cols, [&](auto part) {
      const V n = normalized(part.template load<Format>(x));
      V g = part.template load<Format>(grad);
      if (has_weight_sum) sums.weight.add_product(part, g, n);
      if (has_bias_sum) sums.bias.add(part, g);
      if (!has_grad_x) return;
      if constexpr (kHasWeight) g = hn::Mul(g, part.template load<Format>(weight));
      // g - mean(g) first would be contracted with the product g: no longer zero where g is its
      // mean.
      const V centered = hn::Sub(hn::NegMulAdd(n, mean_gn, g), mean_g);
      part.template store<Format>(hn::Mul(centered, normalized.scale), grad_x, streams);
    });
    sums.end_row();
  }
  sums.fold();
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

inline void add_up(const FusedBackwardParams& params, const void* workspace,
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
