// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "rmsnorm/params.h"

namespace kernelhub::rmsnorm::cuda {

/// Launches one call on device memory of the current device. dtypes are fp32, fp16 or bf16.
/// Does not synchronise and allocates nothing; may be captured into a graph; thread-safe.
/// Returns the launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);

/// Bytes of `workspace` for a backward that makes grad_weight of x [rows, cols] of `dtype`, on the
/// current device.
cudaError_t backward_workspace(primitives::DType dtype, std::int64_t rows, std::int64_t cols,
                               std::int64_t* size_bytes);

/// As `launch`, for the gradients that are asked for: the same bits every time on one kind of
/// device.
cudaError_t launch_backward(const BackwardParams& params, cudaStream_t stream);

}  // namespace kernelhub::rmsnorm::cuda
