// SPDX-License-Identifier: Apache-2.0
// Launch shape of element-wise kernels: pure arithmetic, testable on any host.
#pragma once

#include <cstdint>

namespace kernelhub::primitives {

/// One tensor of an element-wise launch: row r starts `r * stride` elements behind `data`.
struct RowSpan {
  std::uintptr_t data;
  std::int64_t stride;
};

/// How every row is cut into units of work, one unit a thread and turn.
struct GroupCut {
  bool is_vectorized;  // 16-byte groups; else groups of elements one warp apart
  bool has_edges;      // rows may begin or end inside a 16-byte group
  std::int64_t units;  // groups of a row; with edges an upper bound
};

struct GroupLaunch {
  unsigned threads_x, threads_y;  // along the units of a row, along rows
  unsigned blocks_x, blocks_y;    // the kernel strides by the grid: limits cost nothing
};

constexpr std::int64_t kVectorBytes = 16;
constexpr std::int64_t kElementwiseThreads = 256;
constexpr std::int64_t kWarp = 32;
constexpr std::int64_t kMaxBlocksX = 1 << 20;  // so that a group's first number has 32 bits
constexpr std::int64_t kMaxBlocksY = 65535;    // hardware limit of gridDim.y

/// Rows are cut into 16-byte groups where all tensors of a row cross 16-byte boundaries at the same
/// columns; the first column that does may differ from row to row.
inline GroupCut cut_groups(const RowSpan* spans, int count, std::int64_t rows, std::int64_t cols,
                           std::int64_t element_size) {
  const std::int64_t lanes = kVectorBytes / element_size;
  bool has_one_phase = true;
  bool has_edges = cols % lanes != 0;
  for (int i = 0; i < count; ++i) {
    has_one_phase = has_one_phase && spans[i].data % kVectorBytes == spans[0].data % kVectorBytes &&
                    (rows == 1 || (spans[i].stride - spans[0].stride) % lanes == 0);
    has_edges = has_edges || spans[i].data % kVectorBytes != 0 ||
                (rows > 1 && spans[i].stride % lanes != 0);
  }
  if (!has_one_phase || cols < lanes) {
    return {false, false, (cols + lanes * kWarp - 1) / (lanes * kWarp) * kWarp};
  }
  return {true, has_edges, cols / lanes};
}

/// `unroll` units per thread and turn. Narrow rows share a block.
inline GroupLaunch group_launch(const GroupCut& cut, std::int64_t rows, std::int64_t unroll) {
  std::int64_t threads_x = kWarp;
  while (threads_x < kElementwiseThreads && threads_x * unroll < cut.units) threads_x *= 2;
  const std::int64_t threads_y = kElementwiseThreads / threads_x;
  const auto blocks = [](std::int64_t items, std::int64_t threads, std::int64_t limit) {
    const std::int64_t wanted = (items + threads - 1) / threads;
    return static_cast<unsigned>(wanted < limit ? wanted : limit);
  };
  return {static_cast<unsigned>(threads_x), static_cast<unsigned>(threads_y),
          blocks(cut.units, threads_x * unroll, kMaxBlocksX), blocks(rows, threads_y, kMaxBlocksY)};
}

}  // namespace kernelhub::primitives
