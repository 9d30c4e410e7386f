// SPDX-License-Identifier: Apache-2.0
// The gradients in fp64, for gradient checks: derivatives of the formulas of activation_fp64.cpp.
#include <cmath>

#include "activation_cpu/activation_cpu.h"
#include "activation_cpu/backward_segments.h"

namespace kernelhub::activation::cpu {
namespace {

/// act(x) and act'(x).
struct Activation {
  double value;
  double slope;
};

/// e^-y for y >= 0. expm1 as in activation_fp64.cpp: exp would need a newer libm.
double exp_of_negative(double y) { return 1.0 / (1.0 + std::expm1(y)); }

/// Of x * s(y), s the logistic function, over y and its derivative.
Activation logistic(double x, double y, double rate) {
  const double power = exp_of_negative(std::abs(y));
  const double above = 1.0 / (1.0 + power);
  const double below = power * above;
  const double s = y < 0.0 ? below : above;
  const double tail = above * below;
  return {x * s, tail == 0.0 ? s : s + x * rate * tail};
}

Activation silu(double x) { return logistic(x, x, 1.0); }

Activation gelu_quick(double x) { return logistic(x, 1.702 * x, 1.702); }

Activation tanh_gelu(double x, double root) {
  const double square = x * x;
  return logistic(x, 2.0 * root * x * (1.0 + 0.044715 * square),
                  2.0 * root * (1.0 + 3.0 * 0.044715 * square));
}

Activation gelu_tanh(double x) { return tanh_gelu(x, 0.79788456080286535588); }

// gelu_fast and gelu_new name their constant with eight digits.
Activation gelu_short_root(double x) { return tanh_gelu(x, 0.79788456); }

Activation gelu(double x) {
  const double distribution = 0.5 * std::erfc(-x * 0.70710678118654752440);
  const double phi = 0.39894228040143267794 * exp_of_negative(0.5 * x * x);
  return {x * distribution, phi == 0.0 ? distribution : distribution + x * phi};
}

template <class F>
void unary(const BackwardParams& params, std::int64_t begin, std::int64_t end, const F& function) {
  for_each_backward_segment<double>(params, begin, end, [&](const auto& segment) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      segment.grad_input[i] = segment.grad_out[i] * function(segment.input[i]).slope;
    }
  });
}

template <class F>
void gated(const BackwardParams& params, std::int64_t begin, std::int64_t end, std::int64_t gate,
           std::int64_t factor, const F& function) {
  for_each_backward_segment<double>(params, begin, end, [&](const auto& segment) {
    for (std::int64_t i = 0; i < segment.count; ++i) {
      const double grad = segment.grad_out[i];
      const Activation act = function(segment.input[gate + i]);
      const double other = segment.input[factor + i];
      segment.grad_input[gate + i] = grad * act.slope * other;
      segment.grad_input[factor + i] = grad * act.value;
    }
  });
}

}  // namespace

void apply_backward_fp64(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  const double threshold = params.threshold;
  const std::int64_t cols = params.cols;
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
    case Op::kGeluNew:
      return unary(params, begin, end, gelu_short_root);
    case Op::kSiluAndMul:
      return gated(params, begin, end, 0, cols, silu);
    case Op::kMulAndSilu:
      return gated(params, begin, end, cols, 0, silu);
    case Op::kGeluAndMul:
      return gated(params, begin, end, 0, cols, gelu);
    case Op::kGeluTanhAndMul:
      return gated(params, begin, end, 0, cols, gelu_tanh);
    case Op::kFatreluAndMul:
      return gated(params, begin, end, 0, cols, [threshold](double x) {
        return x <= threshold ? Activation{0.0, 0.0} : Activation{x, 1.0};
      });
  }
}

}  // namespace kernelhub::activation::cpu
