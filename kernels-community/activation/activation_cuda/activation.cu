// SPDX-License-Identifier: Apache-2.0
// Elementwise activations, one pass over memory.
//   unary  out[r, c] = act(input[r, c])
//   gated  out[r, c] = T(T(act(x)) * y), x = input[r, c], y = input[r, cols + c]
// dtypes fp32, fp16, bf16; arithmetic fp32. The formulas, their order and the compiler's default
// contraction are those of torch's CUDA kernels for silu and gelu, so that results are bit-equal;
// gelu_fast and gelu_new round after every step (rounded<T>), without contraction.
// Bytes per output element: read 1 (gated 2) x sizeof(T), write 1 x sizeof(T).
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "activation_cuda/activation_config.h"
#include "activation_cuda/activation_cuda.h"
#include "primitives/vec128.cuh"

namespace kernelhub::activation::cuda {
namespace {

using primitives::load_vec128;
using primitives::narrow;
using primitives::rounded;
using primitives::store_vec128;
using primitives::Vec128;
using primitives::widen;

constexpr float kSqrtHalf = 0.70710678118654752440f;
constexpr float kSqrtTwoOverPi = 0.79788456080286535588f;
constexpr float kCubic = 0.044715f;

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ __forceinline__ float gelu(float x) { return x * 0.5f * (1.0f + erff(x * kSqrtHalf)); }

__device__ __forceinline__ float gelu_tanh(float x) {
  const float cube = x * x * x;
  const float inner = kSqrtTwoOverPi * (x + kCubic * cube);
  return 0.5f * x * (1.0f + tanhf(inner));
}

__device__ __forceinline__ float gelu_quick(float x) { return x / (1.0f + expf(-1.702f * x)); }

template <class T>
__device__ __forceinline__ float half_gate(float x, float t) {
  return __fmul_rn(rounded<T>(__fmul_rn(0.5f, x)), rounded<T>(__fadd_rn(1.0f, t)));
}

template <class T>
__device__ __forceinline__ float gelu_fast(float x) {
  const float a = rounded<T>(__fmul_rn(x, 0.79788456f));
  const float cubic = rounded<T>(__fmul_rn(rounded<T>(__fmul_rn(kCubic, x)), x));
  const float b = rounded<T>(__fadd_rn(1.0f, cubic));
  return half_gate<T>(x, rounded<T>(tanhf(rounded<T>(__fmul_rn(a, b)))));
}

template <class T>
__device__ __forceinline__ float gelu_new(float x) {
  const float cube = rounded<T>(__fmul_rn(rounded<T>(__fmul_rn(x, x)), x));
  const float sum = rounded<T>(__fadd_rn(x, rounded<T>(__fmul_rn(kCubic, cube))));
  return half_gate<T>(x, rounded<T>(tanhf(rounded<T>(__fmul_rn(0.79788456f, sum)))));
}

/// x <= threshold is false for NaN, which stays.
__device__ __forceinline__ float fatrelu(float x, float threshold) {
  return x <= threshold ? 0.0f : x;
}

template <Op op, class T>
__device__ __forceinline__ T unary(T input) {
  const float x = widen(input);
  if constexpr (op == Op::kSilu) return narrow<T>(silu(x));
  if constexpr (op == Op::kGelu) return narrow<T>(gelu(x));
  if constexpr (op == Op::kGeluTanh) return narrow<T>(gelu_tanh(x));
  if constexpr (op == Op::kGeluQuick) return narrow<T>(gelu_quick(x));
  if constexpr (op == Op::kGeluFast) return narrow<T>(gelu_fast<T>(x));
  if constexpr (op == Op::kGeluNew) return narrow<T>(gelu_new<T>(x));
}

template <Op op, class T>
__device__ __forceinline__ T gated(T first, T second, float threshold) {
  const float x = widen(first);
  const float y = widen(second);
  if constexpr (op == Op::kSiluAndMul) return narrow<T>(rounded<T>(silu(x)) * y);
  if constexpr (op == Op::kMulAndSilu) return narrow<T>(x * rounded<T>(silu(y)));
  if constexpr (op == Op::kGeluAndMul) return narrow<T>(rounded<T>(gelu(x)) * y);
  if constexpr (op == Op::kGeluTanhAndMul) return narrow<T>(rounded<T>(gelu_tanh(x)) * y);
  if constexpr (op == Op::kFatreluAndMul) return narrow<T>(fatrelu(x, threshold) * y);
}

template <Op op, class T>
__device__ __forceinline__ T element(const T* row, std::int64_t col, std::int64_t cols,
                                     float threshold) {
  if constexpr (is_gated(op)) {
    return gated<op>(row[col], row[cols + col], threshold);
  } else {
    return unary<op>(row[col]);
  }
}

template <Op op, class T>
__device__ __forceinline__ Vec128<T> group(const T* row, std::int64_t col, std::int64_t cols,
                                           float threshold) {
  Vec128<T> result = load_vec128(row + col);
  if constexpr (is_gated(op)) {
    const Vec128<T> second = load_vec128(row + cols + col);
#pragma unroll
    for (int i = 0; i < Vec128<T>::kLanes; ++i) {
      result.lane[i] = gated<op>(result.lane[i], second.lane[i], threshold);
    }
  } else {
#pragma unroll
    for (int i = 0; i < Vec128<T>::kLanes; ++i) result.lane[i] = unary<op>(result.lane[i]);
  }
  return result;
}

template <Op op, class T>
__global__ void __launch_bounds__(kThreadsPerBlock)
    activation_kernel(T* out,          // [rows, cols], row pitch out_stride
                      const T* input,  // [rows, cols] or [rows, 2 * cols]; may be out
                      std::int64_t rows, std::int64_t cols, std::int64_t out_stride,
                      std::int64_t input_stride, RowCut cut, float threshold) {
  const std::int64_t first_unit = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y;
  const std::int64_t unit_step = std::int64_t{gridDim.x} * blockDim.x;
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y;
  const std::int64_t vector_cols = cut.vectors * Vec128<T>::kLanes;
  for (std::int64_t row = first_row; row < rows; row += row_step) {
    const T* in_row = input + row * input_stride;
    T* out_row = out + row * out_stride;
    for (std::int64_t unit = first_unit; unit < cut.units; unit += unit_step) {
      if (unit < cut.vectors) {
        const std::int64_t col = cut.head + unit * Vec128<T>::kLanes;
        store_vec128(group<op>(in_row, col, cols, threshold), out_row + col);
      } else {
        const std::int64_t single = unit - cut.vectors;
        const std::int64_t col = single < cut.head ? single : single + vector_cols;
        out_row[col] = element<op>(in_row, col, cols, threshold);
      }
    }
  }
}

template <Op op, class T>
cudaError_t launch_op(const Params& params, cudaStream_t stream) {
  const RowCut cut = cut_rows(params);
  const LaunchShape shape = launch_shape(params, cut);
  const dim3 grid(shape.blocks_x, shape.blocks_y);
  const dim3 block(shape.threads_x, shape.threads_y);
  activation_kernel<op, T><<<grid, block, 0, stream>>>(
      static_cast<T*>(params.out), static_cast<const T*>(params.input), params.rows, params.cols,
      params.out_stride, params.input_stride, cut, static_cast<float>(params.threshold));
  return cudaGetLastError();
}

template <class T>
cudaError_t launch_dtype(const Params& params, cudaStream_t stream) {
  switch (params.op) {
    case Op::kSilu:
      return launch_op<Op::kSilu, T>(params, stream);
    case Op::kGelu:
      return launch_op<Op::kGelu, T>(params, stream);
    case Op::kGeluTanh:
      return launch_op<Op::kGeluTanh, T>(params, stream);
    case Op::kGeluQuick:
      return launch_op<Op::kGeluQuick, T>(params, stream);
    case Op::kGeluFast:
      return launch_op<Op::kGeluFast, T>(params, stream);
    case Op::kGeluNew:
      return launch_op<Op::kGeluNew, T>(params, stream);
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

cudaError_t launch(const Params& params, cudaStream_t stream) {
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
