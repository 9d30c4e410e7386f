// SPDX-License-Identifier: Apache-2.0
// Thread block clusters and their distributed shared memory, one instruction a function. On
// architectures without clusters a cluster is one block.
#pragma once

#include <cstdint>

namespace kernelhub::primitives {

// sm_90 and sm_100. A launch on sm_120 gets no cluster of ours: see cluster_limit in rows.cuh.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1200
constexpr bool kHasClusters = true;
#else
constexpr bool kHasClusters = false;
#endif

__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank = 0;
  if constexpr (kHasClusters) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ unsigned cluster_blocks() {
  unsigned blocks = 1;
  if constexpr (kHasClusters) asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
}

/// All threads of the cluster wait for all to have called cluster_arrive; one follows the other.
__device__ __forceinline__ void cluster_wait() {
  if constexpr (kHasClusters) {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  }
}

/// Without a fence: says that the block has started, and nothing of what it stored.
__device__ __forceinline__ void cluster_arrive() {
  if constexpr (kHasClusters) {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  }
}

/// All threads of the cluster; what was stored before, also to other blocks, is seen after.
__device__ __forceinline__ void cluster_sync() {
  if constexpr (kHasClusters) {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    cluster_wait();
  }
}

/// Stores to the variable that block `rank` has where this one has `*mine`.
__device__ __forceinline__ void store_at_rank(float* mine, unsigned rank, float value) {
  if constexpr (kHasClusters) {
    std::uint32_t there = 0;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(there)
                 : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(mine))), "r"(rank));
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(value) : "memory");
  }
}

__device__ __forceinline__ void store_at_rank(double* mine, unsigned rank, double value) {
  if constexpr (kHasClusters) {
    std::uint32_t there = 0;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(there)
                 : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(mine))), "r"(rank));
    asm volatile("st.shared::cluster.f64 [%0], %1;" ::"r"(there), "d"(value) : "memory");
  }
}

}  // namespace kernelhub::primitives
