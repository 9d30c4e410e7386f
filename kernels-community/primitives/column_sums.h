// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of a matrix in two deterministic stages: how many partial rows there are and
// what memory they take. Pure arithmetic, testable on any host.
//
// CUDA: the blocks (or clusters) of a row kernel add up the rows they meet, each into a partial row
// of fp32; a second kernel adds up the partial rows. No atomics.
// CPU: chunks of rows, whose number follows from the shape alone, so that the thread count changes
// no bit.
#pragma once

#include <cstdint>

#include "primitives/rows.h"

namespace kernelhub::primitives {

/// Rows that a thread adds in fp32 before it folds the sum into its partial row: more would cost
/// digits over a million rows, fewer traffic.
constexpr int kRowsPerFold = 64;

/// Turns of a block over rows that pay for its partial row, which is written and read once more.
constexpr std::int64_t kTurnsPerPartialRow = 16;

/// Blocks a multiprocessor that are worth a partial row each, however few turns they make.
constexpr std::int64_t kBusyBlocks = 4;

/// Bytes that the partial rows of one sum take at most, but for what a single row or the rounding
/// of rows needs: rows of half a million columns still keep 128 blocks busy.
constexpr std::int64_t kMaxPartialBytes = std::int64_t{256} << 20;

/// Partial rows of a launch, one a block or cluster, on a device of `multiprocessors` that holds
/// `resident` of them at once: a block more would wait for one to end.
constexpr std::int64_t partial_rows(const RowLaunch& launch, std::int64_t rows, std::int64_t cols,
                                    std::int64_t multiprocessors, std::int64_t resident) {
  const std::int64_t affordable =
      kMaxPartialBytes / (cols * static_cast<std::int64_t>(sizeof(float)));
  const std::int64_t turns = (rows + launch.rows_per_block - 1) / launch.rows_per_block;
  const std::int64_t busy = multiprocessors * kBusyBlocks / launch.cluster;
  std::int64_t partials = turns / kTurnsPerPartialRow;
  if (partials < busy) partials = busy;
  if (partials > resident) partials = resident;
  if (partials > affordable) partials = affordable;
  if (partials > turns) partials = turns;
  return partials < 1 ? 1 : partials;
}

/// Where partial rows keep their columns: lane by lane of the units that threads hold, so that
/// neighbouring threads load and store neighbouring elements.
struct PartialLayout {
  std::int64_t cols;
  int lanes;  // columns of a unit

  /// Elements from one lane to the next: whole 32-byte sectors.
  constexpr std::int64_t pitch() const { return ((cols + lanes - 1) / lanes + 7) / 8 * 8; }

  constexpr std::int64_t row_elements() const { return lanes * pitch(); }

  /// Column of an element of a row; `cols` or more: none lies there.
  constexpr std::int64_t column_at(std::int64_t element) const {
    return element % pitch() * lanes + element / pitch();
  }
};

/// Bytes of `count` matrices of partial rows, one behind the other.
constexpr std::int64_t partial_bytes(std::int64_t partials, const PartialLayout& layout,
                                     std::int64_t count) {
  return partials * layout.row_elements() * count * static_cast<std::int64_t>(sizeof(float));
}

/// Chunks of rows on a CPU, each with its own sums: a row of fp64 totals and one of fp32 sums.
struct ColumnChunks {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t count;

  /// Elements from one row of totals or sums to the next: whole cache lines.
  constexpr std::int64_t pitch() const { return (cols + 15) / 16 * 16; }

  constexpr std::int64_t begin(std::int64_t chunk) const { return rows * chunk / count; }
  constexpr std::int64_t end(std::int64_t chunk) const { return begin(chunk + 1); }
};

constexpr std::int64_t kMaxColumnChunks = 128;
// Elements of a chunk: so many at least, where there are as many; and where there are chunks enough
// for many threads more, as every chunk's sums are memory that is written and read.
constexpr std::int64_t kColumnChunkElements = 64 * 1024;
constexpr std::int64_t kManyColumnChunks = 16;
constexpr std::int64_t kLargeColumnChunkElements = 256 * 1024;
constexpr std::int64_t kWorkspaceAlignment = 64;
constexpr std::int64_t kMaxColumnWorkspaceBytes = std::int64_t{64} << 20;  // where rows are wide

/// `count` is how many column sums are made of one pass over the rows.
constexpr ColumnChunks column_chunks(std::int64_t rows, std::int64_t cols, std::int64_t count) {
  const std::int64_t row_bytes =
      count * cols * static_cast<std::int64_t>(sizeof(double) + sizeof(float));
  std::int64_t chunks = (rows * cols + kColumnChunkElements - 1) / kColumnChunkElements;
  if (chunks > kManyColumnChunks) {
    chunks = (rows * cols + kLargeColumnChunkElements - 1) / kLargeColumnChunkElements;
    if (chunks < kManyColumnChunks) chunks = kManyColumnChunks;
  }
  if (chunks > kMaxColumnChunks) chunks = kMaxColumnChunks;
  if (chunks > kMaxColumnWorkspaceBytes / row_bytes) chunks = kMaxColumnWorkspaceBytes / row_bytes;
  if (chunks > rows) chunks = rows;
  return {rows, cols, chunks < 1 ? 1 : chunks};
}

/// Memory for the sums of all chunks, wherever it starts: `column_totals` says where the totals do.
constexpr std::int64_t column_workspace_bytes(const ColumnChunks& chunks, std::int64_t count) {
  return kWorkspaceAlignment + chunks.count * count * chunks.pitch() *
                                   static_cast<std::int64_t>(sizeof(double) + sizeof(float));
}

namespace {  // internal to each translation unit: they are compiled with different flags

/// The first whole cache line of a workspace: vectors that lie across two take twice the time.
inline double* column_totals(void* workspace) {
  const auto address = reinterpret_cast<std::uintptr_t>(workspace);
  const auto missing = (0 - address) % kWorkspaceAlignment;
  return reinterpret_cast<double*>(static_cast<char*>(workspace) + missing);
}

}  // namespace

}  // namespace kernelhub::primitives
