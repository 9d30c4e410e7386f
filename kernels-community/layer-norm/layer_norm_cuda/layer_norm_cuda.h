// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "layer_norm/params.h"

namespace kernelhub::layer_norm::cuda {

/// Normalises every row on device memory of the current device. dtype is fp32, fp16 or bf16.
/// Does not synchronise and allocates nothing; may be captured into a graph; thread-safe.
/// Returns the launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);

}  // namespace kernelhub::layer_norm::cuda
