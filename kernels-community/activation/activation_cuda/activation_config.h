// SPDX-License-Identifier: Apache-2.0
// Launch shape of the activation kernels: pure arithmetic, testable on any host.
#pragma once

#include <cstdint>

#include "activation/params.h"

namespace kernelhub::activation::cuda {

/// How a row is cut: `head` single elements, then `vectors` 16-byte groups, then the rest single.
/// Without common alignment of all rows every element is single (head == cols).
struct RowCut {
  std::int64_t head;
  std::int64_t vectors;
  std::int64_t units;  // vectors + single elements: work items of one row
};

struct LaunchShape {
  unsigned threads_x, threads_y;  // along the units of a row, along rows
  unsigned blocks_x, blocks_y;    // the kernel strides by the grid: limits cost nothing
};

constexpr std::int64_t kVectorBytes = 16;
// 30 to 42 registers a thread on sm_90 (nvcc 13.0): 5 to 8 blocks of this size fill a
// multiprocessor.
constexpr std::int64_t kThreadsPerBlock = 256;
constexpr std::int64_t kWarp = 32;
constexpr std::int64_t kMaxBlocksX = 1 << 20;
constexpr std::int64_t kMaxBlocksY = 65535;  // hardware limit of gridDim.y

inline RowCut cut_rows(const Params& params) {
  const std::int64_t size = primitives::size_of(params.dtype);
  const std::int64_t lanes = kVectorBytes / size;
  const auto out = reinterpret_cast<std::intptr_t>(params.out);
  const auto input = reinterpret_cast<std::intptr_t>(params.input);
  const bool has_one_phase =
      (out - input) % kVectorBytes == 0 &&
      (params.rows == 1 || (params.out_stride % lanes == 0 && params.input_stride % lanes == 0)) &&
      (!is_gated(params.op) || params.cols % lanes == 0);
  const std::int64_t to_boundary = (kVectorBytes - out % kVectorBytes) % kVectorBytes / size;
  if (!has_one_phase || to_boundary >= params.cols) return {params.cols, 0, params.cols};
  const std::int64_t vectors = (params.cols - to_boundary) / lanes;
  return {to_boundary, vectors, params.cols - vectors * (lanes - 1)};
}

inline LaunchShape launch_shape(const Params& params, const RowCut& cut) {
  std::int64_t threads_x = kWarp;
  while (threads_x < kThreadsPerBlock && threads_x < cut.units) threads_x *= 2;
  const std::int64_t threads_y = kThreadsPerBlock / threads_x;
  const auto blocks = [](std::int64_t items, std::int64_t threads, std::int64_t limit) {
    const std::int64_t wanted = (items + threads - 1) / threads;
    return static_cast<unsigned>(wanted < limit ? wanted : limit);
  };
  return {static_cast<unsigned>(threads_x), static_cast<unsigned>(threads_y),
          blocks(cut.units, threads_x, kMaxBlocksX), blocks(params.rows, threads_y, kMaxBlocksY)};
}

}  // namespace kernelhub::activation::cuda
