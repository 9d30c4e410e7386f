// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "layer_norm/params.h"
#include "primitives/rows.h"

namespace kernelhub::layer_norm::cuda {

/// The call on device memory of the current device. dtype is fp32, fp16 or bf16. Does not
/// synchronise and allocates nothing; may be captured into a graph; thread-safe. Numbers in subsets
/// are not read on the host: one outside [0, rows] makes its row of x NaN, and equal ones race.
/// Returns the launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);
cudaError_t launch(const FusedParams& params, cudaStream_t stream);

/// How the gradients of one call are launched on the current device.
struct BackwardPlan {
  primitives::RowLaunch rows;    // of the kernel that walks rows
  bool is_plain;                 // it holds rows in registers and makes the sums over them, too
  unsigned column_blocks;        // else: side by side, of the kernel that walks columns
  std::int64_t terms_bytes;      // of what the one leaves behind for the other
  std::int64_t partials;         // partial rows of each sum over rows
  std::int64_t workspace_bytes;  // device memory that the launch needs, 16-byte aligned
};

/// The plan for at least one column; nothing of `params` may change until it is launched.
cudaError_t plan_backward(const FusedBackwardParams& params, BackwardPlan* plan);

/// As `launch`, with the plan of the call. `workspace` is free once the launched work is done.
cudaError_t launch_backward(const FusedBackwardParams& params, const BackwardPlan& plan,
                            void* workspace, cudaStream_t stream);

/// Gradients of plain norms whose rows fit into registers: one pass. The plan says whether they do
/// (`is_plain`); the general path takes every call.
cudaError_t plan_plain(const FusedBackwardParams& params, BackwardPlan* plan);
cudaError_t launch_plain(const FusedBackwardParams& params, const BackwardPlan& plan,
                         void* workspace, cudaStream_t stream);

}  // namespace kernelhub::layer_norm::cuda
