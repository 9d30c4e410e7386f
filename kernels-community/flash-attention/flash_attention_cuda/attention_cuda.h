// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "flash_attention/params.h"

namespace kernelhub::flash_attention::cuda {

/// Bytes of device memory, 16-byte aligned, that `launch` needs on the current device for partial
/// results of split keys; 0 where num_splits is 1 or the keys need no split.
std::int64_t workspace_bytes(const Params& params);

/// Attention on device memory of the current device, lengths and tables included. Writes all of out
/// and lse. dtype is fp16 or bf16. The number of blocks and splits follows from sizes that the host
/// knows (for varlen calls the sums, not the single lengths). Does not synchronise and allocates
/// nothing; may be captured into a graph; thread-safe. Returns the launches' status:
/// cudaErrorNoKernelImageForDevice below sm_80, cudaErrorInvalidValue for another dtype.
cudaError_t launch(const Params& params, void* workspace, cudaStream_t stream);

/// Writes the new rows, k rotated, behind those that the cache has; rows that it has no room for
/// are left out. dtype is fp32, fp16 or bf16. As `launch` otherwise.
cudaError_t launch_append(const AppendParams& params, cudaStream_t stream);

}  // namespace kernelhub::flash_attention::cuda
