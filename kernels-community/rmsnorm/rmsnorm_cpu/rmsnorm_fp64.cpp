// SPDX-License-Identifier: Apache-2.0
// RMS normalisation and its gradients in fp64, for gradient checks: every step in fp64. The rstd of
// the forward is fp32, so the backward computes its own.
#include "rmsnorm_cpu/reciprocal_rms.h"
#include "rmsnorm_cpu/rmsnorm_cpu.h"

namespace kernelhub::rmsnorm::cpu {
namespace {

double factor(const void* weight, std::int64_t col, double offset) {
  return weight == nullptr ? 1.0 : static_cast<const double*>(weight)[col] + offset;
}

double rstd_of(const double* x, std::int64_t cols, double eps) {
  double squares = 0.0;
  for (std::int64_t i = 0; i < cols; ++i) squares += x[i] * x[i];
  return reciprocal_rms(squares, cols, eps);
}

void normalize(const Params& params, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    const double* x = static_cast<const double*>(params.x) + row * params.x_stride;
    double* out = static_cast<double*>(params.out) + row * params.out_stride;
    if (params.residual != nullptr) {
      const double* residual =
          static_cast<const double*>(params.residual) + row * params.residual_stride;
      double* sum = static_cast<double*>(params.sum) + row * params.sum_stride;
      for (std::int64_t i = 0; i < params.cols; ++i) sum[i] = x[i] + residual[i];
      x = sum;
    }
    const double rstd = rstd_of(x, params.cols, params.eps);
    if (params.rstd != nullptr) params.rstd[row] = static_cast<float>(rstd);
    for (std::int64_t i = 0; i < params.cols; ++i) {
      out[i] = x[i] * rstd * factor(params.weight, i, params.offset);
    }
  }
}

/// `totals`: sums over the rows for grad_weight [cols], or null.
void differentiate_rows(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                        double* totals) {
  for (std::int64_t row = begin; row < end; ++row) {
    const double* x = static_cast<const double*>(params.x) + row * params.x_stride;
    const double* grad = static_cast<const double*>(params.grad_out) + row * params.grad_out_stride;
    const double rstd = rstd_of(x, params.cols, params.eps);
    double mean = 0.0;
    for (std::int64_t i = 0; i < params.cols; ++i) {
      mean += grad[i] * factor(params.weight, i, params.offset) * (x[i] * rstd);
    }
    mean /= static_cast<double>(params.cols);
    if (params.grad_x != nullptr) {
      double* grad_x = static_cast<double*>(params.grad_x) + row * params.grad_x_stride;
      for (std::int64_t i = 0; i < params.cols; ++i) {
        const double scaled = grad[i] * factor(params.weight, i, params.offset);
        grad_x[i] = rstd * (scaled - x[i] * rstd * mean);
      }
    }
    if (totals == nullptr) continue;
    for (std::int64_t i = 0; i < params.cols; ++i) totals[i] += grad[i] * (x[i] * rstd);
  }
}

void differentiate(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  differentiate_rows(params, begin, end, nullptr);
}

void differentiate_chunk(const BackwardParams& params, const primitives::ColumnChunks& chunks,
                         std::int64_t chunk) {
  double* totals = static_cast<double*>(params.workspace) + chunk * params.cols;
  for (std::int64_t i = 0; i < params.cols; ++i) totals[i] = 0.0;
  differentiate_rows(params, chunks.begin(chunk), chunks.end(chunk), totals);
}

void add_up(const BackwardParams& params, const primitives::ColumnChunks& chunks,
            std::int64_t begin, std::int64_t end) {
  const double* totals = static_cast<const double*>(params.workspace);
  for (std::int64_t col = begin; col < end; ++col) {
    double sum = 0.0;
    for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
      sum += totals[chunk * params.cols + col];
    }
    static_cast<double*>(params.grad_weight)[col] = sum;
  }
}

void differentiate_one(const BackwardParams& params) {
  double* totals = static_cast<double*>(params.grad_weight);
  for (std::int64_t i = 0; i < params.cols; ++i) totals[i] = 0.0;
  differentiate_rows(params, 0, 1, totals);
}

}  // namespace

const Isa kFloat64{normalize, differentiate, differentiate_chunk, add_up, differentiate_one};

}  // namespace kernelhub::rmsnorm::cpu
