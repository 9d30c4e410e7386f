// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace kernelhub::activation::cuda {

/// Approximate units of the multiprocessor.
struct Units {
  __device__ static __forceinline__ float ex2(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
  }
  __device__ static __forceinline__ float rcp(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
  }
};

}  // namespace kernelhub::activation::cuda
