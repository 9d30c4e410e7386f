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
#include "primitives/row_launch.cuh"
#include "primitives/vec128.cuh"

namespace kernelhub::activation::cuda {
namespace {

using primitives::load_vec128;
using primitives::narrow;
using primitives::RowCut;
using primitives::store_vec128;
using primitives::Vec128;
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
  const float distribution = normcdff(x);
  const float phi = 0.3989422804014327f * expf(-0.5f * x * x);
  return {x * distribution, phi == 0.0f ? distribution : fmaf(x, phi, distribution)};
}

/// x <= threshold is false for NaN, whose gradient stays.
__device__ __forceinline__ Activation fatrelu(float x, float threshold) {
  return x <= threshold ? Activation{0.0f, 0.0f} : Activation{x, 1.0f};
}

template <Op op>
__device__ __forceinline__ Activation activation(float x, float threshold) {
  if constexpr (op == Op::kSilu || op == Op::kSiluAndMul || op == Op::kMulAndSilu) return silu(x);
  if constexpr (op == Op::kGelu || op == Op::kGeluAndMul) return gelu(x);
  if constexpr (op == Op::kGeluTanh || op == Op::kGeluFast || op == Op::kGeluNew ||
                op == Op::kGeluTanhAndMul) {
    return gelu_tanh(x);
  }
  if constexpr (op == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (op == Op::kFatreluAndMul) return fatrelu(x, threshold);
}

template <Op op, class T>
__device__ __forceinline__ T unary(T grad, T input) {
  return narrow<T>(widen(grad) * activation<op>(widen(input), 0.0f).slope);
}

/// Replaces `gate` (what the activation acts on) and `factor` by their gradients.
template <Op op, class T>
__device__ __forceinline__ void gated(T grad, T& gate, T& factor, float threshold) {
  const Activation act = activation<op>(widen(gate), threshold);
  const float g = widen(grad);
  gate = narrow<T>(g * act.slope * widen(factor));
  factor = narrow<T>(g * act.value);
}

/// Rows of the three tensors; strides count elements.
template <class T>
struct Tensors {
  T* grad_input;      // as input
  const T* grad_out;  // [rows, cols]
  const T* input;     // [rows, cols] or [rows, 2 * cols]; may be grad_input
  std::int64_t grad_input_stride;
  std::int64_t grad_out_stride;
  std::int64_t input_stride;
  std::int64_t gate;    // column where the half begins that the activation acts on
  std::int64_t factor;  // column where the other half begins
};

template <Op op, class T>
__global__ void __launch_bounds__(primitives::kRowThreads, 2)
    backward_kernel(Tensors<T> at, RowCut cut, float threshold) {
  primitives::for_each_unit<Vec128<T>::kLanes>(
      cut,
      [&](std::int64_t row, std::int64_t col) {
        const T* input = at.input + row * at.input_stride + col;
        T* grad_input = at.grad_input + row * at.grad_input_stride + col;
        const Vec128<T> grad = load_vec128(at.grad_out + row * at.grad_out_stride + col);
        Vec128<T> gate = load_vec128(input + at.gate);
        if constexpr (is_gated(op)) {
          Vec128<T> factor = load_vec128(input + at.factor);
#pragma unroll
          for (int i = 0; i < Vec128<T>::kLanes; ++i) {
            gated<op>(grad.lane[i], gate.lane[i], factor.lane[i], threshold);
          }
          store_vec128(factor, grad_input + at.factor);
        } else {
#pragma unroll
          for (int i = 0; i < Vec128<T>::kLanes; ++i) {
            gate.lane[i] = unary<op>(grad.lane[i], gate.lane[i]);
          }
        }
        store_vec128(gate, grad_input + at.gate);
      },
      [&](std::int64_t row, std::int64_t col) {
        const T* input = at.input + row * at.input_stride + col;
        T* grad_input = at.grad_input + row * at.grad_input_stride + col;
        const T grad = at.grad_out[row * at.grad_out_stride + col];
        T gate = input[at.gate];
        if constexpr (is_gated(op)) {
          T factor = input[at.factor];
          gated<op>(grad, gate, factor, threshold);
          grad_input[at.factor] = factor;
        } else {
          gate = unary<op>(grad, gate);
        }
        grad_input[at.gate] = gate;
      });
}

template <Op op, class T>
cudaError_t launch_op(const BackwardParams& params, cudaStream_t stream) {
  const RowCut cut = primitives::cut_rows(params.rows, params.cols, sizeof(T), is_gated(op),
                                          {{params.grad_input, params.grad_input_stride},
                                           {params.grad_out, params.grad_out_stride},
                                           {params.input, params.input_stride}});
  const primitives::RowLaunch shape = primitives::row_launch(cut);
  const bool acts_on_second = op == Op::kMulAndSilu;
  const Tensors<T> tensors{static_cast<T*>(params.grad_input),
                           static_cast<const T*>(params.grad_out),
                           static_cast<const T*>(params.input),
                           params.grad_input_stride,
                           params.grad_out_stride,
                           params.input_stride,
                           acts_on_second ? params.cols : 0,
                           acts_on_second ? 0 : params.cols};
  backward_kernel<op, T>
      <<<shape.grid, shape.block, 0, stream>>>(tensors, cut, static_cast<float>(params.threshold));
  return cudaGetLastError();
}

template <class T>
cudaError_t launch_dtype(const BackwardParams& params, cudaStream_t stream) {
  switch (params.op) {
    case Op::kSilu:
      return launch_op<Op::kSilu, T>(params, stream);
    case Op::kGelu:
      return launch_op<Op::kGelu, T>(params, stream);
    case Op::kGeluQuick:
      return launch_op<Op::kGeluQuick, T>(params, stream);
    case Op::kGeluTanh:
    case Op::kGeluFast:
    case Op::kGeluNew:
      return launch_op<Op::kGeluTanh, T>(params, stream);
    case Op::kSiluAndMul:
      return launch_op<Op::kSiluAndMul, T>(params, stream);
    case Op::kMulAndSilu:
      return launch_op<Op::kMulAndSilu, T>(params, stream);
    case Op::kGeluAndMul:
      return launch_op<Op::kGeluAndMul, T>(params, stream);
    case Op::kGeluTanhAndMul:
      return launch_op<Op::kGeluTanhAndMul, T>(params, stream);
    case Op::kFatreluAndMul:
      return launch_op<Op::kFatreluAndMul, T>(params, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t launch_backward(const BackwardParams& params, cudaStream_t stream) {
  switch (params.dtype) {
    case primitives::DType::kFloat32:
      return launch_dtype<float>(params, stream);
    case primitives::DType::kFloat16:
      return launch_dtype<__half>(params, stream);
    case primitives::DType::kBFloat16:
      return launch_dtype<__nv_bfloat16>(params, stream);
    case primitives::DType::kFloat64:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace kernelhub::activation::cuda
