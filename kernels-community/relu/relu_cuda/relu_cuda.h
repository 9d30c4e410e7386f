// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "relu/params.h"

namespace kernelhub::relu::cuda {

/// Launches one call on device memory of the current device. dtype is fp32, fp16 or bf16. Does not
/// synchronise and allocates nothing; may be captured into a graph; thread-safe. Returns the
/// launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);

}  // namespace kernelhub::relu::cuda
