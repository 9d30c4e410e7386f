// SPDX-License-Identifier: Apache-2.0
// Layer normalisation of rows on Highway lanes; the includer's flags choose the instruction set.
//   out = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps), one rounding to dtype
// Corrected two-pass moments (T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37
// (1983), 242-247): deviations from a rounded mean m are exact where the mean dwarfs the spread,
// and their own mean is what m lacks. Lanes are fp32, block totals fp64. Every mean is summed over
// x / cols, so that finite rows never overflow.
// Reads each element three times, from L1 after the first time up to about 8 Ki elements a row.
#pragma once

#include <cmath>

#include "layer_norm/params.h"
#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::layer_norm::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using simd::F32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

constexpr std::int64_t kUnroll = 4;  // independent sums hide the latency of the adds

// A lane takes this many additions before it is folded into fp64: more would cost digits in long
// rows (2.4e-7 relative error at 96 additions), fewer time (a fold is worth about eight additions).
constexpr std::int64_t kAddsPerFold = 32;

/// Elements between two folds.
HWY_INLINE std::int64_t block_size() {
  return kAddsPerFold * kUnroll * static_cast<std::int64_t>(hn::Lanes(F32()));
}

HWY_INLINE double total(const V (&sums)[kUnroll]) {
  const V all = hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(F32(), all)));
}

/// Calls `add(x, k)` for all vectors of [begin, end), k cycling over the unrolled sums. Lanes past
/// the end hold `padding`.
template <class Format, class Add>
HWY_INLINE void for_each_vector(const typename Format::Storage* x, std::int64_t begin,
                                std::int64_t end, V padding, const Add& add) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  std::int64_t i = begin;
  for (; i + kUnroll * lanes <= end; i += kUnroll * lanes) {
    add(Format::load(x + i), 0);
    add(Format::load(x + i + lanes), 1);
    add(Format::load(x + i + 2 * lanes), 2);
    add(Format::load(x + i + 3 * lanes), 3);
  }
  for (; i + lanes <= end; i += lanes) add(Format::load(x + i), 0);
  if (i == end) return;
  const auto rest = static_cast<std::size_t>(end - i);
  add(hn::IfThenElse(hn::FirstN(F32(), rest), simd::load_first<Format>(x + i, rest), padding), 1);
}

template <class Format>
HWY_INLINE double mean_of(const typename Format::Storage* x, std::int64_t cols) {
  const V share = hn::Set(F32(), static_cast<float>(1.0 / static_cast<double>(cols)));
  const V zero = hn::Zero(F32());
  double mean = 0.0;
  for (std::int64_t begin = 0; begin < cols; begin += block_size()) {
    const std::int64_t end = begin + block_size() < cols ? begin + block_size() : cols;
    V sums[kUnroll] = {zero, zero, zero, zero};
    for_each_vector<Format>(x, begin, end, zero,
                            [&](V v, int k) { sums[k] = hn::MulAdd(v, share, sums[k]); });
    mean += total(sums);
  }
  return mean;
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
  const V zero = hn::Zero(F32());
  double mean = 0.0;
  double squares = 0.0;
  for (std::int64_t begin = 0; begin < cols; begin += block_size()) {
    const std::int64_t end = begin + block_size() < cols ? begin + block_size() : cols;
    V first[kUnroll] = {zero, zero, zero, zero};
    V second[kUnroll] = {zero, zero, zero, zero};
    for_each_vector<Format>(x, begin, end, m, [&](V v, int k) {
      const V d = hn::Sub(v, m);
      first[k] = hn::MulAdd(d, lane_share, first[k]);
      second[k] = hn::MulAdd(d, d, second[k]);
    });
    mean += total(first);
    squares += total(second);
  }
  const double variance = squares * share - mean * mean;
  return {mean, variance < 0.0 ? 0.0 : variance};
}

template <class Format, bool kHasWeight, bool kHasBias>
inline void normalize_row(const typename Format::Storage* x, const typename Format::Storage* weight,
                          const typename Format::Storage* bias, typename Format::Storage* out,
                          std::int64_t cols, double eps) {
  const float center = static_cast<float>(mean_of<Format>(x, cols));
  const Deviations row = deviations_from<Format>(center, x, cols);
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
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  std::int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) {
    const V v = Format::load(x + i);
    const V w = kHasWeight ? Format::load(weight + i) : v;
    const V b = kHasBias ? Format::load(bias + i) : v;
    Format::store(normalize(v, w, b), out + i);
  }
  if (i == cols) return;
  const auto rest = static_cast<std::size_t>(cols - i);
  const V v = simd::load_first<Format>(x + i, rest);
  const V w = kHasWeight ? simd::load_first<Format>(weight + i, rest) : v;
  const V b = kHasBias ? simd::load_first<Format>(bias + i, rest) : v;
  simd::store_first<Format>(normalize(v, w, b), out + i, rest);
}

template <class Format, bool kHasWeight, bool kHasBias>
inline void normalize_rows(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  for (std::int64_t row = begin; row < end; ++row) {
    normalize_row<Format, kHasWeight, kHasBias>(
        static_cast<const T*>(params.x) + row * params.x_stride, weight, bias,
        static_cast<T*>(params.out) + row * params.out_stride, params.cols, params.eps);
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
