// SPDX-License-Identifier: Apache-2.0
// out[r, c] = input[r, c] <= 0 ? 0 : value[r, c], where value is the input, or the gradient of the
// result. dtypes fp32, fp16, bf16; nothing is rounded. NaN stays.
// Bytes per element: read 1 (backward 2) x sizeof(T), write 1 x sizeof(T).
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX.
#include "primitives/row_launch.cuh"
#include "primitives/vec128.cuh"
#include "relu_cuda/relu_cuda.h"

namespace kernelhub::relu::cuda {
namespace {

using primitives::load_vec128;
using primitives::RowCut;
using primitives::store_vec128;
using primitives::Vec128;
using primitives::widen;

template <class T>
__device__ __forceinline__ T select(T input, T value) {
  return widen(input) <= 0.0f ? T(0.0f) : value;
}

/// `value` is null where it is the input.
template <class T>
__global__ void __launch_bounds__(primitives::kRowThreads)
    relu_kernel(T* out, const T* value, const T* input, std::int64_t out_stride,
                std::int64_t value_stride, std::int64_t input_stride, RowCut cut) {
  primitives::for_each_unit<Vec128<T>::kLanes>(
      cut,
      [&](std::int64_t row, std::int64_t col) {
        const Vec128<T> given = load_vec128(input + row * input_stride + col);
        Vec128<T> kept = given;
        if (value != nullptr) kept = load_vec128(value + row * value_stride + col);
#pragma unroll
        for (int i = 0; i < Vec128<T>::kLanes; ++i) {
          kept.lane[i] = select(given.lane[i], kept.lane[i]);
        }
        store_vec128(kept, out + row * out_stride + col);
      },
      [&](std::int64_t row, std::int64_t col) {
        const T given = input[row * input_stride + col];
        const T kept = value != nullptr ? value[row * value_stride + col] : given;
        out[row * out_stride + col] = select(given, kept);
      });
}

template <class T>
cudaError_t launch_dtype(const Params& params, cudaStream_t stream) {
  const RowCut cut = primitives::cut_rows(params.rows, params.cols, sizeof(T), false,
                                          {{params.out, params.out_stride},
                                           {params.value, params.value_stride},
                                           {params.input, params.input_stride}});
  const primitives::RowLaunch shape = primitives::row_launch(cut);
  const bool is_input = params.value == params.input && params.value_stride == params.input_stride;
  const void* value = is_input ? nullptr : params.value;
  relu_kernel<T><<<shape.grid, shape.block, 0, stream>>>(
      static_cast<T*>(params.out), static_cast<const T*>(value),
      static_cast<const T*>(params.input), params.out_stride, params.value_stride,
      params.input_stride, cut);
  return cudaGetLastError();
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

}  // namespace kernelhub::relu::cuda
