// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

namespace kernelhub::flash_attention::cuda {

/// Starts a one-dimensional grid. Returns the launch's own status: the last error of the thread may
/// be somebody else's.
template <class... Parameters, class... Arguments>
cudaError_t launch_grid(void (*kernel)(Parameters...), unsigned blocks, unsigned threads,
                        std::size_t shared_bytes, cudaStream_t stream,
                        const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace kernelhub::flash_attention::cuda
