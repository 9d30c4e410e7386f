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

/// How every row is cut into units of work.
struct GroupCut {
  bool is_vectorized;  // 16-byte groups; else groups of elements one warp apart
  bool has_edges;      // rows may begin or end inside a 16-byte group
  std::int64_t units;  // groups of a row; with edges an upper bound
};

/// Warp w along a row begins at unit `w * 32 * units`, and each of its threads has `units` units,
/// 32 apart. The grid covers every row once.
struct GroupLaunch {
  unsigned units;
  unsigned full_warps;            // first warps of every row that end inside it; 0 where `units`
                                  // is not what was asked for
  unsigned threads_x, threads_y;  // along the units of a row, along rows
  unsigned blocks_x;              // along the units of a row
  unsigned blocks_y, blocks_z;    // along rows, y first
};

constexpr std::int64_t kVectorBytes = 16;
constexpr std::int64_t kElementwiseThreads = 256;
constexpr std::int64_t kWarp = 32;
// A call of so few units fits on a GPU of a hundred multiprocessors with one unit a thread; small
// blocks let more of them take part.
constexpr std::int64_t kFewUnits = 1 << 16;
constexpr std::int64_t kFewThreads = 64;
constexpr std::int64_t kMaxBlocksY = 65535;  // hardware limit of gridDim.y and gridDim.z

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

/// `unroll` units a thread, or one where the call has few. Narrow rows share a block, and a warp if
/// they have at most half of its units. No kernel needs a loop for the grid's limits: 2^31 - 1
/// blocks are 8 TiB of a row, and 65535^2 of them more rows than memory holds.
inline GroupLaunch group_launch(const GroupCut& cut, std::int64_t rows, std::int64_t unroll) {
  const auto quotient = [](std::int64_t items, std::int64_t size) {
    return static_cast<unsigned>((items + size - 1) / size);
  };
  const bool is_small = rows <= kFewUnits / cut.units;
  const std::int64_t threads = is_small ? kFewThreads : kElementwiseThreads;
  const std::int64_t units = is_small ? 1 : unroll;
  std::int64_t threads_x = 1;
  while (threads_x < threads && threads_x * (threads_x < kWarp ? 1 : units) < cut.units) {
    threads_x *= 2;
  }
  GroupLaunch launch{};
  launch.units = static_cast<unsigned>(units);
  if (units == unroll) {
    launch.full_warps =
        static_cast<unsigned>((cut.units - (cut.has_edges ? 1 : 0)) / (kWarp * unroll));
  }
  launch.threads_x = static_cast<unsigned>(threads_x);
  launch.threads_y = static_cast<unsigned>(threads / threads_x);
  launch.blocks_x = quotient(cut.units, threads_x * units);
  const std::int64_t row_blocks = (rows + launch.threads_y - 1) / launch.threads_y;
  launch.blocks_z = quotient(row_blocks, kMaxBlocksY);
  launch.blocks_y = quotient(row_blocks, launch.blocks_z);
  return launch;
}

}  // namespace kernelhub::primitives
