// SPDX-License-Identifier: Apache-2.0
// Launches of attention on CUDA: the forward kernel that fits the call, the sum over the splits of
// its keys, and new rows of a cache. The forward kernels are in sm80_forward.cuh and, for prefill
// on compute capability 9.0, sm90_forward.cuh; sm90_plan.h chooses. Archs: sm_80, sm_90 and PTX for
// later ones.
#include <utility>

#include "flash_attention_cuda/append_rows.cuh"
#include "flash_attention_cuda/attention_cuda.h"
#include "flash_attention_cuda/combine.cuh"
#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/forward_tiles.h"
#include "flash_attention_cuda/launch_grid.cuh"
#include "flash_attention_cuda/sm80_instructions.cuh"
#include "flash_attention_cuda/sm90_plan.h"
#include "flash_attention_cuda/tensor_map.h"
#include "primitives/dtype_switch.cuh"

namespace kernelhub::flash_attention::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(const __grid_constant__ ForwardCall call) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t work = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
       work < combine_works(call); work += step) {
    combine_columns<T, Sm80Instructions>(call, work);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    append_kernel(const __grid_constant__ AppendParams params) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t work = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
       work < append_works(params); work += step) {
    append_element<T>(params, work);
  }
}

unsigned blocks_for(std::int64_t works) {
  return static_cast<unsigned>(std::min(ceil_div(works, kThreads), kMaxGrid));
}

/// By padded head dimension.
const ForwardKernels* fp16_kernels(int dim) {
  switch (dim) {
    case 32:
      return &kSm80Fp16Dim32;
    case 64:
      return &kSm80Fp16Dim64;
    case 96:
      return &kSm80Fp16Dim96;
    case 128:
      return &kSm80Fp16Dim128;
    case 192:
      return &kSm80Fp16Dim192;
    default:
      return &kSm80Fp16Dim256;
  }
}

const ForwardKernels* bf16_kernels(int dim) {
  switch (dim) {
    case 32:
      return &kSm80Bf16Dim32;
    case 64:
      return &kSm80Bf16Dim64;
    case 96:
      return &kSm80Bf16Dim96;
    case 128:
      return &kSm80Bf16Dim128;
    case 192:
      return &kSm80Bf16Dim192;
    default:
      return &kSm80Bf16Dim256;
  }
}

/// Null for a dtype without kernels.
const ForwardKernels* kernels_for(const Params& params) {
  const int dim = padded_dim(static_cast<int>(std::max(params.head_dim, params.head_dim_v)));
  if (params.dtype == primitives::DType::kFloat16) return fp16_kernels(dim);
  if (params.dtype == primitives::DType::kBFloat16) return bf16_kernels(dim);
  return nullptr;
}

/// Null for head dimensions without one.
const ForwardKernel* sm90_kernel_for(const Params& params) {
  const bool is_half = params.dtype == primitives::DType::kFloat16;
  switch (sm90_tile(params.head_dim, params.head_dim_v)) {
    case Sm90Tile::kDim64:
      return is_half ? &kSm90Fp16Dim64 : &kSm90Bf16Dim64;
    case Sm90Tile::kDim96:
      return is_half ? &kSm90Fp16Dim96 : &kSm90Bf16Dim96;
    case Sm90Tile::kDim128:
      return is_half ? &kSm90Fp16Dim128 : &kSm90Bf16Dim128;
    case Sm90Tile::kDim192V128:
      return is_half ? &kSm90Fp16Dim192V128 : &kSm90Bf16Dim192V128;
    case Sm90Tile::kDim192:
      return is_half ? &kSm90Fp16Dim192 : &kSm90Bf16Dim192;
    case Sm90Tile::kDim256:
      return is_half ? &kSm90Fp16Dim256 : &kSm90Bf16Dim256;
    case Sm90Tile::kNone:
      break;
  }
  return nullptr;
}

cudaError_t describe_current_device(Device& described) {
  int device = 0;
  int major = 0;
  int minor = 0;
  int processors = 0;
  cudaError_t status = cudaGetDevice(&device);
  for (const auto& [attribute, value] : {std::pair{cudaDevAttrComputeCapabilityMajor, &major},
                                         {cudaDevAttrComputeCapabilityMinor, &minor},
                                         {cudaDevAttrMultiProcessorCount, &processors}}) {
    if (status == cudaSuccess) status = cudaDeviceGetAttribute(value, attribute, device);
  }
  const int capability = major * 10 + minor;
  described = {capability, processors, capability == 90 && tensor_map_encoder() != nullptr};
  return status;
}

cudaError_t launch_combine(const ForwardCall& call, cudaStream_t stream) {
  const auto kernel = call.params.dtype == primitives::DType::kFloat16
                          ? &combine_kernel<__half>
                          : &combine_kernel<__nv_bfloat16>;
  return launch_grid(kernel, blocks_for(combine_works(call)), kThreads, 0, stream, call);
}

}  // namespace

Forward plan(const Params& params) {
  Forward failed;
  failed.status = cudaErrorInvalidValue;
  const ForwardKernels* kernels = kernels_for(params);
  if (kernels == nullptr) return failed;
  Device device{};
  failed.status = describe_current_device(device);
  if (failed.status != cudaSuccess) return failed;
  return planned_launches(*kernels, sm90_kernel_for(params), params, device);
}

cudaError_t launch(const Forward& forward, void* workspace, cudaStream_t stream) {
  cudaError_t status = forward.status;
  for (int i = 0; i < forward.count && status == cudaSuccess; ++i) {
    const ForwardLaunch& one = forward.launches[i];
    const ForwardCall call = with_workspace(one.call, workspace);
    if (call.works_taken != nullptr) {
      status = cudaMemsetAsync(call.works_taken, 0, sizeof(*call.works_taken), stream);
    }
    if (status == cudaSuccess) status = one.kernel.launch(call, stream);
  }
  if (status != cudaSuccess || forward.count == 0 || forward.launches[0].call.splits == 1) {
    return status;
  }
  return launch_combine(with_workspace(forward.launches[0].call, workspace), stream);
}

cudaError_t launch_append(const AppendParams& params, cudaStream_t stream) {
  const std::int64_t works = append_works(params);
  if (works == 0) return cudaSuccess;
  return primitives::with_device_type(params.dtype, [&](auto type) {
    return launch_grid(&append_kernel<decltype(type)>, blocks_for(works), kThreads, 0, stream,
                       params);
  });
}

}  // namespace kernelhub::flash_attention::cuda
