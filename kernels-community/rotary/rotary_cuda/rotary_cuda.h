// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "rotary/params.h"

namespace kernelhub::rotary::cuda {

/// Launches one kernel over all parts, in device memory of the current device. dtype is fp32, fp16
/// or bf16. Rows of positions outside the table become NaN; a build without NDEBUG stops at them
/// with a device-side assertion. Does not synchronise and allocates nothing; may be captured into a
/// graph; thread-safe. Returns the launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);

}  // namespace kernelhub::rotary::cuda
