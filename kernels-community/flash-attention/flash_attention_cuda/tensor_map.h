// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "flash_attention_cuda/sm90_layout.h"

namespace kernelhub::flash_attention::cuda {

/// The driver's function; null where the driver lacks it. The package does not link libcuda.
inline PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  static const PFN_cuTensorMapEncodeTiled_v12000 kEncoder = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                                12000, cudaEnableDefault, &result);
    const bool is_found = status == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(is_found ? found : nullptr);
  }();
  return kEncoder;
}

/// `tensor` as the kernel's copies take it: 128-byte swizzle, zeros beyond the tensor.
inline cudaError_t encode(const BoxedTensor& tensor, bool is_half, CUtensorMap& map) {
  const auto encoder = tensor_map_encoder();
  if (encoder == nullptr) return cudaErrorNotSupported;
  constexpr cuuint32_t kElementSteps[kBoxDims] = {1, 1, 1, 1, 1};
  const CUresult result =
      encoder(&map, is_half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
              kBoxDims, const_cast<void*>(tensor.data), tensor.sizes, tensor.byte_strides,
              tensor.box, kElementSteps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace kernelhub::flash_attention::cuda
