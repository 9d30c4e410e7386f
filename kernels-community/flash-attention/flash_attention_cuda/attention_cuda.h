// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "flash_attention_cuda/forward_kernels.h"

namespace kernelhub::flash_attention::cuda {

/// Chooses kernels, blocks and splits of attention on the current device from sizes that the host
/// knows (for varlen calls the sums, not the single lengths). dtype is fp16 or bf16; a failure,
/// such as another dtype, is for `launch` to report. `workspace_bytes` of the result is 0 where the
/// keys are not split and no resident blocks share varlen sequences.
Forward plan(const Params& params);

/// Attention on device memory of the current device, lengths and tables included. Writes all of out
/// and lse. `workspace`: workspace_bytes(forward), 16-byte aligned, for partial results of split
/// keys, or for how far blocks have come; null only where keys are not split, when blocks share out
/// their works without it. Does not synchronise and allocates nothing; may be captured into a
/// graph; thread-safe. Returns the status of the plan and the launches:
/// cudaErrorNoKernelImageForDevice below sm_80, cudaErrorInvalidValue for another dtype.
cudaError_t launch(const Forward& forward, void* workspace, cudaStream_t stream);

/// Writes the new rows, k rotated, behind those that the cache has; rows that it has no room for
/// are left out. dtype is fp32, fp16 or bf16. As `launch` otherwise.
cudaError_t launch_append(const AppendParams& params, cudaStream_t stream);

}  // namespace kernelhub::flash_attention::cuda
