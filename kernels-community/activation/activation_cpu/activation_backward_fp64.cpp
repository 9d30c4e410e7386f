// SPDX-License-Identifier: Apache-2.0
// The gradients in fp64, for gradient checks: derivatives of the formulas of activation_fp64.cpp.
#include <cmath>

#include "activation_cpu/activation_cpu.h"
#include "primitives/stretches.h"

namespace kernelhub::activation::cpu {
namespace {

using primitives::Rows;
using primitives::Stretch;

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

template <Op op>
Activation activate(double x, double threshold) {
  constexpr Op kAct = activation_of(op);
  if constexpr (kAct == Op::kSilu) return silu(x);
  if constexpr (kAct == Op::kGelu) return gelu(x);
  if constexpr (kAct == Op::kGeluTanh) return gelu_tanh(x);
  if constexpr (kAct == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (kAct == Op::kGeluFast || kAct == Op::kGeluNew) return gelu_short_root(x);
  if constexpr (kAct == Op::kFatreluAndMul) {
    return x <= threshold ? Activation{0.0, 0.0} : Activation{x, 1.0};
  }
}

}  // namespace

void apply_backward_fp64(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  const Rows<const double> grad_out{static_cast<const double*>(params.grad_out),
                                    params.grad_out_stride};
  const Rows<const double> input{static_cast<const double*>(params.input), params.input_stride};
  const Rows<double> grad_input{static_cast<double*>(params.grad_input), params.grad_input_stride};
  with_op(params.op, [&](auto constant) {
    constexpr Op op = decltype(constant)::value;
    const std::int64_t gate = op == Op::kMulAndSilu ? params.cols : 0;
    const std::int64_t other = params.cols - gate;
    primitives::for_each_stretch<double>(params.cols, begin, end, [&](const Stretch& stretch) {
      const double* from = grad_out.at(stretch);
      const double* in = input.at(stretch);
      double* to = grad_input.at(stretch);
      for (std::int64_t i = 0; i < stretch.count; ++i) {
        const double grad = from[i];
        const Activation act = activate<op>(in[gate + i], params.threshold);
        if constexpr (is_gated(op)) {
          const double factor = in[other + i];
          to[other + i] = grad * act.value;
          to[gate + i] = grad * act.slope * factor;
        } else {
          to[i] = grad * act.slope;
        }
      }
    });
  });
}

}  // namespace kernelhub::activation::cpu
