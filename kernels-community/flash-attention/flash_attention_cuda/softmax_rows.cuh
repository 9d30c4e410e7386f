// SPDX-License-Identifier: Apache-2.0
// Rows of a softmax that is carried along tiles of scores.
#pragma once

#include <cmath>
#include <cuda_runtime_api.h>

namespace kernelhub::flash_attention::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kMinusInf = -INFINITY;

/// A row's running softmax: largest score so far in units of log2, and this thread's share of the
/// sum of exp2(score * exponent - largest2). The largest score is kept as the rounded product that
/// weights are relative to: from product and sum in one rounding, a factor between two tiles of the
/// same largest score would be its rounding error, in every tile, and not 1.
struct RowSoftmax {
  float largest2;
  float sum;
};

/// What a finished row multiplies its sums with, and its log-sum-exp. A row that has seen no key is
/// zero, whatever its sums: a weight of zero times an infinity of its tile is NaN.
struct RowResult {
  float factor;
  float lse;
  bool is_empty;

  __device__ __forceinline__ float of(float sum) const { return is_empty ? 0.0f : sum * factor; }
};

/// c tanh(x / c), tanh x = 1 - 2 / (1 + e^2x).
template <class Hw>
__device__ __forceinline__ float soft_capped(float x, float cap) {
  const float power = Hw::exp2(x * (2.0f * kLog2E / cap));
  return cap * (1.0f - 2.0f * Hw::reciprocal(1.0f + power));
}

/// `largest2`, `sink2` in units of log2, -inf for none. The sink joins the denominator alone, and
/// nothing where no key is visible.
template <class Hw>
__device__ __forceinline__ RowResult finish_row(float largest2, float sum, float sink2) {
  if (sum == 0.0f) return {0.0f, kMinusInf, true};
  const float top = fmaxf(largest2, sink2);
  const float share = Hw::exp2(largest2 - top);
  const float total = sum * share + Hw::exp2(sink2 - top);
  return {share * Hw::reciprocal(total), (top + Hw::log2(total)) * kLn2, false};
}

}  // namespace kernelhub::flash_attention::cuda
