// SPDX-License-Identifier: Apache-2.0
// Launch shape of kernels that reduce rows: pure arithmetic, testable on any host.
//
// A row is cut into units of 16 bytes. The threads of a row take them in turn, so that which thread
// adds which columns, and in what order, follows from the columns and the dtype alone: a row's sum
// depends neither on its address nor on the other rows.
#pragma once

#include <cstdint>

namespace kernelhub::primitives {

/// What a kernel and a device allow.
struct RowLimits {
  int max_groups;   // 16-byte groups that a thread can hold in registers: 2, 4 or 8
  int max_cluster;  // blocks that can share a row: 1, or a power of two up to 16
};

struct RowLaunch {
  int threads_per_row;  // of one block; a power of two
  int rows_per_block;   // more than 1 only where a warp has room for whole rows
  int groups;           // held by a thread: 1, max_groups or 4 below it; 0: rows are read again
  int cluster;          // blocks that share a row
};

constexpr std::int64_t kRowUnitBytes = 16;
constexpr int kRowWarp = 32;
constexpr int kNarrowRowThreads = 128;  // of a block whose rows fit into warps
constexpr int kMaxRowThreads = 512;     // two such blocks share a multiprocessor at 64 registers
constexpr int kPortableCluster = 8;     // larger ones are launched by kernels that allow them
constexpr int kMaxCluster = 16;

// Turned into a grid of at most this many blocks; kernels stride by the grid. A multiple of
// kMaxCluster.
constexpr std::int64_t kMaxRowBlocks = 1 << 20;

constexpr std::int64_t row_units(std::int64_t cols, std::int64_t element_size) {
  return (cols * element_size + kRowUnitBytes - 1) / kRowUnitBytes;
}

/// Threads of one block.
constexpr int threads_of(const RowLaunch& launch) {
  return launch.threads_per_row * launch.rows_per_block;
}

/// `element_size` is that of the dtype whose rows are held. Up to four groups a thread (64 bytes in
/// flight) come before more threads, more threads before more groups, and those before more blocks.
constexpr RowLaunch row_launch(std::int64_t cols, std::int64_t element_size, RowLimits limits) {
  const std::int64_t units = row_units(cols, element_size);
  if (units <= kRowWarp) {
    int threads = 1;
    while (threads < units) threads *= 2;
    return {threads, kNarrowRowThreads / threads, 1, 1};
  }
  const int groups = limits.max_groups < 4 ? limits.max_groups : 4;
  int threads = kRowWarp;
  while (threads < kMaxRowThreads && std::int64_t{groups} * threads < units) threads *= 2;
  const int rows = threads == kRowWarp ? kNarrowRowThreads / kRowWarp : 1;
  const std::int64_t held = std::int64_t{limits.max_groups} * threads;
  if (std::int64_t{groups} * threads >= units) return {threads, rows, groups, 1};
  if (held >= units) return {threads, rows, limits.max_groups, 1};
  int cluster = 2;
  while (cluster <= limits.max_cluster && held * cluster < units) cluster *= 2;
  if (cluster <= limits.max_cluster) return {threads, rows, limits.max_groups, cluster};
  return {threads, rows, 0, 1};
}

/// Blocks of a launch over `rows` >= 1 rows, never more than `limit` (a multiple of the cluster).
constexpr unsigned row_blocks(const RowLaunch& launch, std::int64_t rows, std::int64_t limit) {
  const std::int64_t turns = (rows + launch.rows_per_block - 1) / launch.rows_per_block;
  const std::int64_t most = limit / launch.cluster;
  return static_cast<unsigned>((turns < most ? turns : most) * launch.cluster);
}

}  // namespace kernelhub::primitives
