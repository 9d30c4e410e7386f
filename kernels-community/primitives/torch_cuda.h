// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>
#include <cuda_runtime_api.h>

#include "primitives/check_cuda.h"

namespace kernelhub::primitives {

/// torch's current stream on a device.
inline cudaStream_t current_stream(std::int32_t device_index) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_index, &stream));
  return static_cast<cudaStream_t>(stream);
}

/// The same on the tensor's device.
inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  return current_stream(tensor.get_device_index());
}

}  // namespace kernelhub::primitives
