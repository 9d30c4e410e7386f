// SPDX-License-Identifier: Apache-2.0
// out[r, c] = input[r, c] <= 0 ? 0 : value[r, c], where value is the input, or the gradient of the
// result. dtypes fp32, fp16, bf16; nothing is rounded. NaN stays.
// Bytes per element: read 1 (backward 2) x sizeof(T), write 1 x sizeof(T).
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX.
#include "primitives/dtype_switch.cuh"
#include "primitives/elementwise.cuh"
#include "relu_cuda/relu_cuda.h"

namespace kernelhub::relu::cuda {
namespace {

using primitives::ElementwiseRows;
using primitives::Lanewise;
using primitives::widen;

/// (input) -> out, or (input, grad_out) -> grad_input.
template <class T, int kInputs>
struct Select : Lanewise<Select<T, kInputs>, T, kInputs, 1> {
  __device__ __forceinline__ void element(const T (&in)[kInputs], T (&out)[1]) const {
    out[0] = widen(in[0]) <= 0.0f ? T(0.0f) : in[kInputs - 1];
  }
};

template <class T, int kInputs>
cudaError_t launch_select(const Params& params, cudaStream_t stream) {
  ElementwiseRows<T, kInputs, 1> tensors{};
  tensors.in[0] = static_cast<const T*>(params.input);
  tensors.in_stride[0] = params.input_stride;
  if constexpr (kInputs == 2) {
    tensors.in[1] = static_cast<const T*>(params.value);
    tensors.in_stride[1] = params.value_stride;
  }
  tensors.out[0] = static_cast<T*>(params.out);
  tensors.out_stride[0] = params.out_stride;
  tensors.rows = params.rows;
  tensors.cols = params.cols;
  return primitives::launch_elementwise<2>(tensors, Select<T, kInputs>{}, stream);
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  const bool is_forward =
      params.value == params.input && params.value_stride == params.input_stride;
  return primitives::with_device_type(params.dtype, [&](auto type) {
    using T = decltype(type);
    return is_forward ? launch_select<T, 1>(params, stream) : launch_select<T, 2>(params, stream);
  });
}

}  // namespace kernelhub::relu::cuda
