// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace kernelhub::primitives {

/// Shared memory of the size that the launch asked for, 16-byte aligned.
__device__ __forceinline__ float* dynamic_shared() {
  extern __shared__ float4 kernelhub_shared[];
  return reinterpret_cast<float*>(kernelhub_shared);
}

}  // namespace kernelhub::primitives
