// SPDX-License-Identifier: Apache-2.0
// The ops in fp64, for gradient checks and the values of 16-bit ops: the plain formulas with libm,
// every step in fp64.
#include <cmath>

#include "activation_cpu/activation_cpu.h"
#include "primitives/stretches.h"

namespace kernelhub::activation::cpu {
namespace {

using primitives::Rows;
using primitives::Stretch;

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

template <Op op>
double activate(double x, double threshold) {
  if constexpr (op == Op::kSilu) return silu(x);
  if constexpr (op == Op::kGelu) return gelu(x);
  if constexpr (op == Op::kGeluTanh) return gelu_tanh(x);
  if constexpr (op == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (op == Op::kGeluFast) return gelu_fast(x);
  if constexpr (op == Op::kGeluNew) return gelu_new(x);
  if constexpr (op == Op::kFatreluAndMul) return x <= threshold ? 0.0 : x;
}

}  // namespace

void apply_fp64(const Params& params, std::int64_t begin, std::int64_t end) {
  const Rows<const double> input{static_cast<const double*>(params.input), params.input_stride};
  const Rows<double> out{static_cast<double*>(params.out), params.out_stride};
  with_op(params.op, [&](auto constant) {
    constexpr Op op = decltype(constant)::value;
    const std::int64_t gate = op == Op::kMulAndSilu ? params.cols : 0;
    const std::int64_t other = params.cols - gate;
    primitives::for_each_stretch<double>(params.cols, begin, end, [&](const Stretch& stretch) {
      const double* in = input.at(stretch);
      double* to = out.at(stretch);
      for (std::int64_t i = 0; i < stretch.count; ++i) {
        const double value = activate<activation_of(op)>(in[gate + i], params.threshold);
        to[i] = is_gated(op) ? value * in[other + i] : value;
      }
    });
  });
}

}  // namespace kernelhub::activation::cpu
