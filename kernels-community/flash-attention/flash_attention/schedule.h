// SPDX-License-Identifier: Apache-2.0
// How the work of one call is cut into pieces. Pure arithmetic over lengths; nothing here depends
// on the number of threads, and nothing but the rows of a piece on the batch around a sequence. A
// block of rows gives the same bits in any piece, so that no result depends on either.
#pragma once

#include <cstdint>
#include <vector>

#include "flash_attention/sequence.h"

namespace kernelhub::flash_attention {

/// Rows that are computed together: the query heads that share a key-value head lie beside one
/// another, row `query * group + head`, so that each key is read once for all of them.
constexpr std::int64_t kBlockRows = 64;
/// Most rows of a piece: the blocks of one share the tiles of keys that were read for it.
constexpr std::int64_t kPieceRows = 4 * kBlockRows;
/// Blocks of a call from which on pieces have that many rows. Fewer keep too few threads busy:
/// there each block is a piece.
constexpr std::int64_t kManyBlocks = 256;
/// Keys that are scored together.
constexpr std::int64_t kTileKeys = 128;
/// Keys of a split where num_splits is 0; only sequences of one row block are split.
constexpr std::int64_t kSplitKeys = 1024;

/// Up to kPieceRows rows against one range of keys.
struct Piece {
  Sequence sequence;
  std::int64_t head_k;
  std::int64_t row_begin;
  std::int64_t rows;
  std::int64_t split;
  std::int64_t splits;  // of this block of rows
  KeyRange keys;
  std::int64_t workspace;  // of a block that is split: rows of partial results before its own
};

/// The pieces of a call, in any order.
class Schedule {
 public:
  explicit Schedule(const Params& params);

  std::int64_t pieces() const { return pieces_before_.back(); }
  /// Blocks of rows that are split.
  std::int64_t split_blocks() const { return split_blocks_before_.back(); }
  /// Rows of partial results of all splits: each split of a block has as many as the block.
  std::int64_t workspace_rows() const { return workspace_before_.back(); }
  Piece piece(std::int64_t number) const;
  /// The first piece of a block that is split.
  Piece split_block(std::int64_t number) const;
  /// Multiplications of an average piece, to judge whether threads pay.
  std::int64_t work_per_piece() const;

 private:
  std::int64_t splits_of(const Sequence& sequence) const;
  Piece piece_of(std::int64_t sequence, std::int64_t number) const;

  const Params& params_;
  std::int64_t group_;
  std::int64_t piece_rows_;
  std::vector<std::int64_t> pieces_before_;  // of each sequence
  std::vector<std::int64_t> split_blocks_before_;
  std::vector<std::int64_t> workspace_before_;
};

}  // namespace kernelhub::flash_attention
