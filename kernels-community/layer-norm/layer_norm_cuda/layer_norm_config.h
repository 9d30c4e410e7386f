// SPDX-License-Identifier: Apache-2.0
// Launch shape of the layer normalisation kernel: pure arithmetic, testable on any host.
#pragma once

#include <cstdint>

#include "layer_norm/params.h"

namespace kernelhub::layer_norm::cuda {

constexpr std::int64_t kVectorBytes = 16;
constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 512;
constexpr std::int64_t kMaxBlocks = 1 << 20;  // the kernel strides by the grid

struct LaunchShape {
  unsigned threads;
  unsigned blocks;
  bool is_vectorized;  // every row of every tensor may be read in 16-byte groups
};

/// The thread count, and with it the order of additions, depends on cols and dtype only: a row's
/// result is the same in every batch and at every alignment.
inline LaunchShape launch_shape(const Params& params) {
  const std::int64_t lanes = kVectorBytes / primitives::size_of(params.dtype);
  const std::int64_t groups = (params.cols + lanes - 1) / lanes;
  unsigned threads = kWarp;
  while (threads < kMaxThreads && threads < groups) threads *= 2;
  const auto is_aligned = [](const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) % kVectorBytes == 0;
  };
  const bool has_aligned_pitch =
      params.rows == 1 || (params.out_stride % lanes == 0 && params.x_stride % lanes == 0);
  const bool is_vectorized = has_aligned_pitch && is_aligned(params.out) && is_aligned(params.x) &&
                             is_aligned(params.weight) && is_aligned(params.bias);
  const std::int64_t blocks = params.rows < kMaxBlocks ? params.rows : kMaxBlocks;
  return {threads, static_cast<unsigned>(blocks), is_vectorized};
}

}  // namespace kernelhub::layer_norm::cuda
