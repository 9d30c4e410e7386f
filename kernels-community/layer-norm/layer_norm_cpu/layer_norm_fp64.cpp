// SPDX-License-Identifier: Apache-2.0
// layer_norm and rms_norm in fp64, for gradient checks: two passes, every step in fp64.
#include <cmath>

#include "layer_norm_cpu/layer_norm_cpu.h"

namespace kernelhub::layer_norm::cpu {
namespace {

void normalize_row(const Params& params, const double* x, double* out) {
  const double* weight = static_cast<const double*>(params.weight);
  const double* bias = static_cast<const double*>(params.bias);
  const double share = 1.0 / static_cast<double>(params.cols);
  const bool is_centered = params.norm == Norm::kLayer;
  double center = 0.0;
  if (is_centered) {
    for (std::int64_t i = 0; i < params.cols; ++i) center += x[i] * share;
  }
  double mean = 0.0;
  double squares = 0.0;
  for (std::int64_t i = 0; i < params.cols; ++i) {
    const double d = x[i] - center;
    mean += is_centered ? d * share : 0.0;
    squares += d * d;
  }
  const double variance = squares * share - mean * mean;
  const double rstd = 1.0 / std::sqrt((variance < 0.0 ? 0.0 : variance) + params.eps);
  for (std::int64_t i = 0; i < params.cols; ++i) {
    const double n = ((x[i] - center) - mean) * rstd;
    out[i] = n * (weight == nullptr ? 1.0 : weight[i]) + (bias == nullptr ? 0.0 : bias[i]);
  }
}

}  // namespace

void normalize_fp64(const Params& params, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    normalize_row(params, static_cast<const double*>(params.x) + row * params.x_stride,
                  static_cast<double*>(params.out) + row * params.out_stride);
  }
}

}  // namespace kernelhub::layer_norm::cpu
