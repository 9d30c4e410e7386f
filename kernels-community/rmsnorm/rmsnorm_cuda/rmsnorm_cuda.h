// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "primitives/rows.h"
#include "rmsnorm/params.h"

namespace kernelhub::rmsnorm::cuda {

/// Launches one call on device memory of the current device. dtypes are fp32, fp16 or bf16.
/// Does not synchronise and allocates nothing; may be captured into a graph; thread-safe.
/// Returns the launch's status.
cudaError_t launch(const Params& params, cudaStream_t stream);

/// How one call of the backward is launched on the current device.
struct BackwardPlan {
  primitives::RowLaunch shape;
  bool is_aligned;               // all tensors are of one dtype and consist of aligned units
  std::int64_t partials;         // rows of partial sums of grad_weight
  std::int64_t workspace_bytes;  // for them
};

/// Looks at everything in `params` but the workspace, which follows from the plan.
cudaError_t plan_backward(const BackwardParams& params, BackwardPlan* plan);

/// Bytes of `workspace` that are enough for every backward that makes grad_weight of x [rows, cols]
/// of `dtype`, on the current device.
cudaError_t backward_workspace(primitives::DType dtype, std::int64_t rows, std::int64_t cols,
                               std::int64_t* size_bytes);

/// As `launch`, for the gradients that are asked for, with the plan of the call: the same bits
/// every time on one kind of device.
cudaError_t launch_backward(const BackwardParams& params, const BackwardPlan& plan,
                            cudaStream_t stream);

}  // namespace kernelhub::rmsnorm::cuda
