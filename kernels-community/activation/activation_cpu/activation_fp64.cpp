// SPDX-License-Identifier: Apache-2.0
// The ops in fp64, for gradient checks and the values of 16-bit ops: the plain formulas with libm,
// every step in fp64.
#include <cmath>

#include "activation_cpu/activation_cpu.h"
#include "activation_cpu/row_segments.h"

namespace kernelhub::activation::cpu {
namespace {

// expm1 instead of exp: 2 + expm1(-x) is 1 + e^-x, and expm1 keeps its symbol version since glibc
// 2.2.5 while exp got a new one in 2.29.
double logistic_gate(double x, double y) { return x / (2.0 + std::expm1(-y)); }

double silu(double x) { return logistic_gate(x, x); }

double gelu(double x) { return 0.5 * x * std::erfc(-x * 0.70710678118654752440); }

double gelu_quick(double x) { return logistic_gate(x, 1.702 * x); }

constexpr double kSqrtTwoOverPi = 0.79788456080286535588;

// 0.5 (1 + tanh(u)) = 1 / (1 + e^(-2u)), without the cancellation of the sum.
double gelu_tanh(double x) {
  return logistic_gate(x, 2.0 * kSqrtTwoOverPi * (x + 0.044715 * x * x * x));
}

// gelu_fast and gelu_new name their constant with eight digits.
double gelu_fast(double x) {
  return 0.5 * x * (1.0 + std::tanh(x * 0.79788456 * (1.0 + 0.044715 * x * x)));
}

double gelu_new(double x) {
  return 0.5 * x * (1.0 + std::tanh(0.79788456 * (x + 0.044715 * (x * x * x))));
}

template <class F>
void unary(const Params& params, std::int64_t begin, std::int64_t end, const F& function) {
  for_each_row_segment<double>(params, begin, end, [&](const Segment<double>& segment) {
    for (std::int64_t i = 0; i < segment.count; ++i) segment.out[i] = function(segment.input[i]);
  });
}

template <class F>
void gated(const Params& params, std::int64_t begin, std::int64_t end, const F& function) {
  for_each_row_segment<double>(params, begin, end, [&](const Segment<double>& segment) {
    const double* y = segment.input + params.cols;
    for (std::int64_t i = 0; i < segment.count; ++i) {
      segment.out[i] = function(segment.input[i], y[i]);
    }
  });
}

}  // namespace

void apply_fp64(const Params& params, std::int64_t begin, std::int64_t end) {
  const double threshold = params.threshold;
  switch (params.op) {
    case Op::kSilu:
      return unary(params, begin, end, silu);
    case Op::kGelu:
      return unary(params, begin, end, gelu);
    case Op::kGeluTanh:
      return unary(params, begin, end, gelu_tanh);
    case Op::kGeluQuick:
      return unary(params, begin, end, gelu_quick);
    case Op::kGeluFast:
      return unary(params, begin, end, gelu_fast);
    case Op::kGeluNew:
      return unary(params, begin, end, gelu_new);
    case Op::kSiluAndMul:
      return gated(params, begin, end, [](double x, double y) { return silu(x) * y; });
    case Op::kMulAndSilu:
      return gated(params, begin, end, [](double x, double y) { return x * silu(y); });
    case Op::kGeluAndMul:
      return gated(params, begin, end, [](double x, double y) { return gelu(x) * y; });
    case Op::kGeluTanhAndMul:
      return gated(params, begin, end, [](double x, double y) { return gelu_tanh(x) * y; });
    case Op::kFatreluAndMul:
      return gated(params, begin, end,
                   [threshold](double x, double y) { return (x <= threshold ? 0.0 : x) * y; });
  }
}

}  // namespace kernelhub::activation::cpu
