// SPDX-License-Identifier: Apache-2.0
// Gradients of the elementwise activations, one pass over memory.
//   unary  grad_input[r, c] = T(g * act'(x))
//   gated  grad of x = T(g * act'(x) * y), grad of y = T(g * act(x)); mul_and_silu the other way
//   round
// dtypes fp32, fp16, bf16; arithmetic fp32, derivatives of the smooth formulas. grad_out is only
// read, and each element of the input is read before its gradient is written: the two may be one.
// Bytes per element of grad_out: read 2 (gated 3) x sizeof(T), write 1 (gated 2) x sizeof(T).
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX.
#include "activation_cuda/activation_cuda.h"
#include "activation_cuda/approx_math.cuh"
#include "activation_cuda/approx_units.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/elementwise.cuh"

namespace kernelhub::activation::cuda {
namespace {

using primitives::ElementwiseRows;
using primitives::Lanewise;
using primitives::narrow;
using primitives::widen;

/// act(x) and act'(x).
struct Activation {
  float value;
  float slope;
};

/// Of x * s(y), s the logistic function, y of the sign of x: s + x y' s (1 - s), rate = y'. Where
/// s (1 - s) is zero so is the whole term, also where x * rate overflows.
__device__ __forceinline__ Activation logistic(float x, float y, float rate) {
  const float power = expf(-fabsf(y));
  const float above = 1.0f / (1.0f + power);  // s(|y|)
  const float below = power * above;          // s(-|y|)
  const float s = y < 0.0f ? below : above;
  const float tail = above * below;
  return {x * s, tail == 0.0f ? s : fmaf(x * rate, tail, s)};
}

__device__ __forceinline__ Activation silu(float x) { return logistic(x, x, 1.0f); }

__device__ __forceinline__ Activation gelu_quick(float x) {
  return logistic(x, 1.702f * x, 1.702f);
}

/// y = 2 sqrt(2/pi) (x + 0.044715 x^3); gelu_fast and gelu_new are this function too.
__device__ __forceinline__ Activation gelu_tanh(float x) {
  constexpr float kLinear = 1.5957691216057308f;
  constexpr float kCubic = 0.07135481627159746f;
  const float square = x * x;
  return logistic(x, x * fmaf(square, kCubic, kLinear), fmaf(square, 3.0f * kCubic, kLinear));
}

/// Phi(x) + x phi(x), Phi the normal distribution and phi its density.
__device__ __forceinline__ Activation gelu(float x) {
  const auto [distribution, density] = normal<Units>(x);
  return {x * distribution, density == 0.0f ? distribution : fmaf(x, density, distribution)};
}

/// x <= threshold is false for NaN, whose gradient stays.
__device__ __forceinline__ Activation fatrelu(float x, float threshold) {
  return x <= threshold ? Activation{0.0f, 0.0f} : Activation{x, 1.0f};
}

template <Op op>
__device__ __forceinline__ Activation activation(float x, float threshold) {
  constexpr Op kAct = activation_of(op);
  if constexpr (kAct == Op::kSilu) return silu(x);
  if constexpr (kAct == Op::kGelu) return gelu(x);
  if constexpr (kAct == Op::kGeluTanh) return gelu_tanh(x);
  if constexpr (kAct == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (kAct == Op::kFatreluAndMul) return fatrelu(x, threshold);
}

/// The op whose kernel computes the gradient.
constexpr Op differentiated(Op op) {
  return op == Op::kGeluFast || op == Op::kGeluNew ? Op::kGeluTanh : op;
}

/// (grad_out, input) -> grad_input.
template <Op op, class T>
struct UnaryBackward : Lanewise<UnaryBackward<op, T>, T, 2, 1> {
  __device__ __forceinline__ void element(const T (&in)[2], T (&out)[1]) const {
    out[0] = narrow<T>(widen(in[0]) * activation<op>(widen(in[1]), 0.0f).slope);
  }
};

/// (grad_out, the half that is activated, the other half) -> the gradients of the halves.
template <Op op, class T>
struct GatedBackward : Lanewise<GatedBackward<op, T>, T, 3, 2> {
  float threshold;

  __device__ __forceinline__ void element(const T (&in)[3], T (&out)[2]) const {
    const float grad = widen(in[0]);
    const auto act = activation<op>(widen(in[1]), threshold);
    out[0] = narrow<T>(grad * act.slope * widen(in[2]));
    out[1] = narrow<T>(grad * act.value);
  }
};

template <Op op, class T>
cudaError_t launch_op(const BackwardParams& params, cudaStream_t stream) {
  constexpr int kHalves = is_gated(op) ? 2 : 1;
  ElementwiseRows<T, 1 + kHalves, kHalves> tensors{};
  tensors.in[0] = static_cast<const T*>(params.grad_out);
  tensors.in_stride[0] = params.grad_out_stride;
  for (int i = 0; i < kHalves; ++i) {
    const bool is_second = (op == Op::kMulAndSilu) != (i == 1);
    const std::int64_t begin = is_second ? params.cols : 0;
    tensors.in[1 + i] = static_cast<const T*>(params.input) + begin;
    tensors.in_stride[1 + i] = params.input_stride;
    tensors.out[i] = static_cast<T*>(params.grad_input) + begin;
    tensors.out_stride[i] = params.grad_input_stride;
  }
  tensors.rows = params.rows;
  tensors.cols = params.cols;
  if constexpr (is_gated(op)) {
    GatedBackward<op, T> function{};
    function.threshold = static_cast<float>(params.threshold);
    return primitives::launch_elementwise<1>(tensors, function, stream);
  } else {
    return primitives::launch_elementwise<2>(tensors, UnaryBackward<op, T>{}, stream);
  }
}

template <class T>
cudaError_t launch_dtype(const BackwardParams& params, cudaStream_t stream) {
  return with_op(params.op, [&](auto op) {
    return launch_op<differentiated(decltype(op)::value), T>(params, stream);
  });
}

}  // namespace

cudaError_t launch_backward(const BackwardParams& params, cudaStream_t stream) {
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return launch_dtype<decltype(type)>(params, stream); });
}

}  // namespace kernelhub::activation::cuda
