// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "activation/params.h"

namespace kernelhub::activation::cuda {

/// Launches `params.op` on device memory of the current device. dtype is fp32, fp16 or bf16.
/// Does not synchronise and allocates nothing; may be captured into a graph; thread-safe.
/// Returns the launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);

/// As `launch`, for the backward of `params.op`.
cudaError_t launch_backward(const BackwardParams& params, cudaStream_t stream);

}  // namespace kernelhub::activation::cuda
