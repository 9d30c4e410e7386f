// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "layer_norm/params.h"

namespace kernelhub::layer_norm::cuda {

/// Bytes of device memory that `launch` needs for the call on the current device, 16-byte aligned;
/// free once the launched work is done. What asks the device (wide rows, gradients) may throw
/// nothing: a failure of the query shows in the launch.
inline std::int64_t workspace_bytes(const Params&) { return 0; }
inline std::int64_t workspace_bytes(const FusedParams&) { return 0; }
std::int64_t workspace_bytes(const FusedBackwardParams& params);

/// The call on device memory of the current device. dtype is fp32, fp16 or bf16. Does not
/// synchronise and allocates nothing; may be captured into a graph; thread-safe. Numbers in subsets
/// are not read on the host: one outside [0, rows] makes its row of x NaN, and equal ones race.
/// Returns the launch's status.
cudaError_t launch(const Params& params, void* workspace, cudaStream_t stream);
cudaError_t launch(const FusedParams& params, void* workspace, cudaStream_t stream);
cudaError_t launch(const FusedBackwardParams& params, void* workspace, cudaStream_t stream);

/// Gradients of plain norms whose rows fit into registers: one pass. `is_plain` says where they
/// are; the general path takes every call.
bool is_plain(const FusedBackwardParams& params);
std::int64_t plain_workspace_bytes(const FusedBackwardParams& params);
cudaError_t launch_plain(const FusedBackwardParams& params, void* workspace, cudaStream_t stream);

}  // namespace kernelhub::layer_norm::cuda
