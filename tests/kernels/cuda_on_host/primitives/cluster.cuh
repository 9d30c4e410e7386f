// SPDX-License-Identifier: Apache-2.0
// Stands in for primitives/cluster.cuh.
#pragma once

#include <cuda_runtime_api.h>

namespace kernelhub::primitives {

constexpr bool kHasClusters = true;

inline unsigned cluster_rank() { return cuda_on_host::block->rank; }
inline unsigned cluster_blocks() {
  return static_cast<unsigned>(cuda_on_host::block->cluster->anchors.size());
}

inline void cluster_arrive() {
  if (std::exchange(cuda_on_host::block->current->has_arrived, true)) {
    cuda_on_host::fail("a thread arrives twice at the cluster's barrier");
  }
}

inline void cluster_wait() {
  if (!std::exchange(cuda_on_host::block->current->has_arrived, false)) {
    cuda_on_host::fail("a thread waits at the cluster's barrier and has not arrived");
  }
  cuda_on_host::block_barrier();
  if (cuda_on_host::block->current->index == 0)
    cuda_on_host::block->cluster->barrier.arrive_and_wait();
  cuda_on_host::block_barrier();
}

inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

template <class T>
void store_at_rank(T* mine, unsigned rank, T value) {
  char* there = cuda_on_host::block->cluster->anchors[rank] +
                (reinterpret_cast<char*>(mine) - &cuda_on_host::anchor);
  std::memcpy(there, &value, sizeof(value));
}

}  // namespace kernelhub::primitives
