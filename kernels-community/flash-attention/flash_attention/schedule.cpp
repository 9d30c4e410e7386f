// SPDX-License-Identifier: Apache-2.0
#include "flash_attention/schedule.h"

#include <algorithm>

namespace kernelhub::flash_attention {
namespace {

std::int64_t sequence_before(const std::vector<std::int64_t>& before, std::int64_t number) {
  return std::upper_bound(before.begin(), before.end(), number) - before.begin() - 1;
}

std::int64_t rows_of_a_piece(const Params& params) {
  const std::int64_t group = params.heads_q / params.heads_k;
  std::int64_t blocks = 0;
  for (std::int64_t b = 0; b < params.batch; ++b) {
    const std::int64_t rows = sequence_of(params, b).q_allocated * group;
    blocks += params.heads_k * ceil_div(rows, kBlockRows);
  }
  return blocks >= kManyBlocks ? kPieceRows : kBlockRows;
}

std::int64_t whole_tiles(std::int64_t keys) { return ceil_div(keys, kTileKeys) * kTileKeys; }

}  // namespace

Schedule::Schedule(const Params& params)
    : params_(params),
      group_(params.heads_q / params.heads_k),
      piece_rows_(rows_of_a_piece(params)),
      piece_heads_(heads_of_a_piece()) {
  pieces_before_.reserve(static_cast<std::size_t>(params.batch) + 1);
  split_heads_before_.reserve(static_cast<std::size_t>(params.batch) + 1);
  workspace_before_.reserve(static_cast<std::size_t>(params.batch) + 1);
  pieces_before_.push_back(0);
  split_heads_before_.push_back(0);
  workspace_before_.push_back(0);
  for (std::int64_t b = 0; b < params.batch; ++b) {
    const Sequence sequence = sequence_of(params, b);
    const std::int64_t splits = splits_of(sequence);
    const std::int64_t rows = rows_of(sequence);
    const std::int64_t blocks = blocks_of(sequence);
    const bool is_split = splits > 1;
    pieces_before_.push_back(pieces_before_.back() + blocks * splits);
    const std::int64_t split_heads = has_few_rows(sequence) ? params.heads_k : blocks;
    split_heads_before_.push_back(split_heads_before_.back() + (is_split ? split_heads : 0));
    workspace_before_.push_back(workspace_before_.back() +
                                (is_split ? params.heads_k * rows * splits : 0));
    if (has_few_rows(sequence)) {
      most_rows_ = std::max(most_rows_, piece_heads_ * rows);
      most_few_rows_ = std::max(most_few_rows_, piece_heads_ * padded_few(rows));
    } else {
      most_rows_ = std::max(most_rows_, std::min(piece_rows_, rows));
      has_many_rows_ = true;
    }
  }
}

KeyRange Schedule::keys_of(const Sequence& sequence) const {
  const KeyRange seen = seen_keys(params_, sequence);
  return {seen.begin / kTileKeys * kTileKeys, seen.end};
}

std::int64_t Schedule::splits_of(const Sequence& sequence) const {
  // One row after the other, all keys of it.
  if (params_.dtype == primitives::DType::kFloat64 || rows_of(sequence) == 0) return 1;
  const KeyRange range = keys_of(sequence);
  const std::int64_t keys = range.end - range.begin;
  if (params_.num_splits > 0) {
    return std::clamp<std::int64_t>(ceil_div(keys, kTileKeys), 1, params_.num_splits);
  }
  if (rows_of(sequence) > kBlockRows) return 1;
  std::int64_t split_keys = kSplitKeys;
  if (has_few_rows(sequence)) {
    const std::int64_t key_elements = params_.heads_k * (params_.head_dim + params_.head_dim_v);
    split_keys = std::min(split_keys, whole_tiles(ceil_div(kSplitElements, key_elements)));
  }
  split_keys = std::max(split_keys, whole_tiles(ceil_div(keys, kMostSplits)));
  return std::max<std::int64_t>(1, ceil_div(keys, split_keys));
}

std::int64_t Schedule::heads_of_a_piece() const {
  const std::int64_t blocks = ceil_div(params_.heads_k, kPieceHeads);
  std::int64_t pieces = 0;
  std::int64_t keys = 0;  // of all sequences of few rows
  for (std::int64_t b = 0; b < params_.batch; ++b) {
    const Sequence sequence = sequence_of(params_, b);
    if (!has_few_rows(sequence) || rows_of(sequence) == 0) continue;
    const KeyRange range = keys_of(sequence);
    pieces += blocks * splits_of(sequence);
    keys += range.end - range.begin;
  }
  std::int64_t heads = ceil_div(params_.heads_k, blocks);
  if (pieces == 0 || pieces >= kFewPieces) return heads;
  const std::int64_t head_elements =
      keys * blocks * (params_.head_dim + params_.head_dim_v) / pieces;
  const std::int64_t least = ceil_div(kFewElements, std::max<std::int64_t>(1, head_elements));
  return std::min(heads, std::max(least, ceil_div(heads * pieces, kFewPieces)));
}

std::int64_t Schedule::blocks_of(const Sequence& sequence) const {
  const std::int64_t rows = rows_of(sequence);
  if (rows == 0) return 0;
  if (has_few_rows(sequence)) return ceil_div(params_.heads_k, piece_heads_);
  return params_.heads_k * ceil_div(rows, piece_rows_);
}

Piece Schedule::piece_of(std::int64_t index, std::int64_t number) const {
  Piece piece{};
  piece.sequence = sequence_of(params_, index);
  piece.splits = splits_of(piece.sequence);
  piece.split = number % piece.splits;
  const std::int64_t block = number / piece.splits;
  const std::int64_t rows = rows_of(piece.sequence);
  if (has_few_rows(piece.sequence)) {
    piece.head_k = block * piece_heads_;
    piece.heads = std::min(piece_heads_, params_.heads_k - piece.head_k);
    piece.rows = piece.heads * rows;
  } else {
    const std::int64_t blocks = ceil_div(rows, piece_rows_);
    piece.head_k = block / blocks;
    piece.heads = 1;
    // The last rows of a causal sequence see most keys: they come first.
    piece.row_begin = (blocks - 1 - block % blocks) * piece_rows_;
    piece.rows = std::min(piece_rows_, rows - piece.row_begin);
  }
  const KeyRange keys = keys_of(piece.sequence);
  const std::int64_t split_keys = whole_tiles(ceil_div(keys.end - keys.begin, piece.splits));
  const auto end_of = [&](std::int64_t splits) {
    return std::min(keys.begin + splits * split_keys, keys.end);
  };
  piece.keys = {end_of(piece.split), end_of(piece.split + 1)};
  piece.workspace = workspace_before_[static_cast<std::size_t>(index)] +
                    (piece.head_k * rows + piece.row_begin) * piece.splits +
                    piece.split * piece.rows;
  return piece;
}

Piece Schedule::piece(std::int64_t number) const {
  const std::int64_t index = sequence_before(pieces_before_, number);
  return piece_of(index, number - pieces_before_[static_cast<std::size_t>(index)]);
}

SplitHead Schedule::split_head(std::int64_t number) const {
  const std::int64_t index = sequence_before(split_heads_before_, number);
  const Sequence sequence = sequence_of(params_, index);
  const std::int64_t unit = number - split_heads_before_[static_cast<std::size_t>(index)];
  const std::int64_t heads = has_few_rows(sequence) ? piece_heads_ : 1;
  return {piece_of(index, unit / heads * splits_of(sequence)), unit % heads};
}

std::int64_t Schedule::work_per_piece() const {
  std::int64_t work = 0;
  for (std::int64_t b = 0; b < params_.batch; ++b) {
    const Sequence sequence = sequence_of(params_, b);
    const KeyRange range = keys_of(sequence);
    work += sequence.q_allocated * params_.heads_q * (range.end - range.begin);
  }
  work *= params_.head_dim + params_.head_dim_v;
  return pieces() == 0 ? 0 : work / pieces();
}

}  // namespace kernelhub::flash_attention
