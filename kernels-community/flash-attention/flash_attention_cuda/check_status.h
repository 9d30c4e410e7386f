// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "primitives/check_cuda.h"

namespace kernelhub::flash_attention::cuda {

/// As primitives::check_launch; a device without kernels is told the architectures that have some.
inline void check_status(const char* package, const char* op, std::int64_t rows, std::int64_t cols,
                         cudaError_t status) {
  if (status != cudaErrorNoKernelImageForDevice) {
    return primitives::check_launch(package, op, rows, cols, status);
  }
  int device = 0;
  int major = 0;
  int minor = 0;
  if (cudaGetDevice(&device) == cudaSuccess) {
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  }
  throw std::runtime_error(std::string(package) + "." + op +
                           ": device architecture: expected sm_80, sm_90 or a later one, got sm_" +
                           std::to_string(major * 10 + minor));
}

}  // namespace kernelhub::flash_attention::cuda
