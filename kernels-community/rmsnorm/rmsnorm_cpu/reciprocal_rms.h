// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace kernelhub::rmsnorm {

// static: each translation unit keeps its own, compiled with its own flags.

/// 1 / sqrt(squares / cols + eps) in fp64.
static inline double reciprocal_rms(double squares, std::int64_t cols, double eps) {
  return 1.0 / std::sqrt(squares / static_cast<double>(cols) + eps);
}

/// The same for a sum of fp32 squares, rounded. A sum that fp32 cannot hold is infinite, as it is
/// in the composed formula, so the row becomes zeros.
static inline float reciprocal_rms_fp32(double squares, std::int64_t cols, double eps) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (squares > kLargest) return 0.0f;
  const double rstd = reciprocal_rms(squares, cols, eps);
  return rstd > kLargest ? std::numeric_limits<float>::infinity() : static_cast<float>(rstd);
}

}  // namespace kernelhub::rmsnorm
