// SPDX-License-Identifier: Apache-2.0
// How the work of one call is cut into pieces. Pure arithmetic over lengths; nothing here depends
// on the number of threads, and nothing but the rows and heads of a piece on the batch around a
// sequence. A block of rows of a head gives the same bits in any piece, so that no result depends
// on either.
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
/// Keys of a split where num_splits is 0, but for the most splits of a sequence: each leaves a
/// partial result to write and to read again. Only sequences of one row block are split.
constexpr std::int64_t kSplitKeys = 1024;
constexpr std::int64_t kMostSplits = 64;

/// Most rows of a sequence, per key head, that are bound by reading its keys and values (decoding).
/// Memory is read fastest in its own order, which is all heads of a key, then the next key: pieces
/// of such a sequence hold many key heads.
constexpr std::int64_t kFewRows = 8;
/// As many as the kernels of few rows compute for `rows`.
constexpr std::int64_t padded_few(std::int64_t rows) {
  return rows <= 2 ? rows : rows <= 4 ? 4 : kFewRows;
}
/// Most key heads of a piece of few rows.
constexpr std::int64_t kPieceHeads = kPieceRows / kFewRows;
/// Elements of keys and values from which on a split of few rows outweighs what it costs to merge.
constexpr std::int64_t kSplitElements = 1024 * 1024;
/// Pieces of few rows below which a call's heads are dealt out too, and the elements that a piece
/// keeps then.
constexpr std::int64_t kFewPieces = 8;
constexpr std::int64_t kFewElements = 64 * 1024;

/// Up to kPieceRows rows against one range of keys: those of one key head, or where they are few,
/// the same of adjacent key heads, one head after the other.
struct Piece {
  Sequence sequence;
  std::int64_t head_k;  // the first
  std::int64_t heads;
  std::int64_t row_begin;  // of each head
  std::int64_t rows;       // of all heads together
  std::int64_t split;
  std::int64_t splits;  // of this block of rows
  KeyRange keys;
  std::int64_t workspace;  // of a block that is split: rows of partial results before its own
};

/// A key head of a block that is split: what is merged at once.
struct SplitHead {
  Piece block;        // the first of its pieces
  std::int64_t head;  // of the block's
};

/// The pieces of a call, in any order.
class Schedule {
 public:
  explicit Schedule(const Params& params);

  std::int64_t pieces() const { return pieces_before_.back(); }
  /// Key heads of all blocks that are split.
  std::int64_t split_heads() const { return split_heads_before_.back(); }
  /// Rows of partial results of all splits: each split of a block has as many as the block.
  std::int64_t workspace_rows() const { return workspace_before_.back(); }
  Piece piece(std::int64_t number) const;
  SplitHead split_head(std::int64_t number) const;
  /// Most rows of a piece.
  std::int64_t most_rows() const { return most_rows_; }
  /// Whether a sequence has more than few rows.
  bool has_many_rows() const { return has_many_rows_; }
  /// Most padded rows of a piece of few rows, 0 where no sequence has few.
  std::int64_t most_few_rows() const { return most_few_rows_; }
  /// Multiplications of an average piece, to judge whether threads pay.
  std::int64_t work_per_piece() const;

 private:
  std::int64_t rows_of(const Sequence& sequence) const { return sequence.q_allocated * group_; }
  bool has_few_rows(const Sequence& sequence) const { return rows_of(sequence) <= kFewRows; }
  /// What the splits share: whole tiles.
  KeyRange keys_of(const Sequence& sequence) const;
  std::int64_t splits_of(const Sequence& sequence) const;
  std::int64_t heads_of_a_piece() const;
  /// Blocks of rows of a sequence: pieces, but for its splits.
  std::int64_t blocks_of(const Sequence& sequence) const;
  Piece piece_of(std::int64_t sequence, std::int64_t number) const;

  const Params& params_;
  std::int64_t group_;
  std::int64_t piece_rows_;
  std::int64_t piece_heads_;  // where rows are few
  std::int64_t most_rows_ = 0;
  std::int64_t most_few_rows_ = 0;
  bool has_many_rows_ = false;
  std::vector<std::int64_t> pieces_before_;  // of each sequence
  std::vector<std::int64_t> split_heads_before_;
  std::vector<std::int64_t> workspace_before_;
};

}  // namespace kernelhub::flash_attention
