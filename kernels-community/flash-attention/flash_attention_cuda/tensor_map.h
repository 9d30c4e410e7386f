// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "flash_attention_cuda/sm90_layout.h"

namespace kernelhub::flash_attention::cuda {

/// The driver's function; null where the driver lacks it, which is asked anew each time: a failure
/// may be one of the moment. The package does not link libcuda.
inline PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  static std::atomic<PFN_cuTensorMapEncodeTiled_v12000> known{nullptr};
  const PFN_cuTensorMapEncodeTiled_v12000 encoder = known.load(std::memory_order_relaxed);
  if (encoder != nullptr) return encoder;
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 13000
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                              12000, cudaEnableDefault, &result);
#else
  const cudaError_t status =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // nothing has failed for the caller
    return nullptr;
  }
  if (result != cudaDriverEntryPointSuccess) return nullptr;
  const auto fresh = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
  known.store(fresh, std::memory_order_relaxed);
  return fresh;
}

/// The runtime's word for what the driver says of a tensor map.
inline cudaError_t encoding_status(CUresult result) {
  switch (result) {
    case CUDA_SUCCESS:
      return cudaSuccess;
    case CUDA_ERROR_NOT_INITIALIZED:
      return cudaErrorInitializationError;
    case CUDA_ERROR_INVALID_CONTEXT:  // 201: none is bound to this thread
      return cudaErrorDeviceUninitialized;
    default:
      return cudaErrorInvalidValue;
  }
}

/// `tensor` as the kernel's copies take it: with the swizzle of a box's row, zeros beyond the
/// tensor.
inline cudaError_t encode(const BoxedTensor& tensor, bool is_half, CUtensorMap& map) {
  const auto encoder = tensor_map_encoder();
  if (encoder == nullptr) return cudaErrorNotSupported;
  constexpr cuuint32_t kElementSteps[kBoxDims] = {1, 1, 1, 1, 1};
  const CUtensorMapSwizzle swizzle =
      tensor.box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
  const CUresult result =
      encoder(&map, is_half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
              kBoxDims, const_cast<void*>(tensor.data), tensor.sizes, tensor.byte_strides,
              tensor.box, kElementSteps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return encoding_status(result);
}

}  // namespace kernelhub::flash_attention::cuda
