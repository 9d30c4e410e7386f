// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "primitives/dtype.h"

namespace kernelhub::primitives {

/// `launch(T{})` for the device type T of `dtype`; cudaErrorInvalidValue for fp64, which has no
/// kernels on CUDA.
template <class Launch>
cudaError_t with_device_type(DType dtype, const Launch& launch) {
  switch (dtype) {
    case DType::kFloat32:
      return launch(float{});
    case DType::kFloat16:
      return launch(__half{});
    case DType::kBFloat16:
      return launch(__nv_bfloat16{});
    case DType::kFloat64:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace kernelhub::primitives
