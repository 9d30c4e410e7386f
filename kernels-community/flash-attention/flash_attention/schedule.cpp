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

}  // namespace

Schedule::Schedule(const Params& params)
    : params_(params),
      group_(params.heads_q / params.heads_k),
      piece_rows_(rows_of_a_piece(params)) {
  pieces_before_.reserve(static_cast<std::size_t>(params.batch) + 1);
  split_blocks_before_.reserve(static_cast<std::size_t>(params.batch) + 1);
  workspace_before_.reserve(static_cast<std::size_t>(params.batch) + 1);
  pieces_before_.push_back(0);
  split_blocks_before_.push_back(0);
  workspace_before_.push_back(0);
  for (std::int64_t b = 0; b < params.batch; ++b) {
    const Sequence sequence = sequence_of(params, b);
    const std::int64_t splits = splits_of(sequence);
    const std::int64_t rows = sequence.q_allocated * group_;
    const std::int64_t blocks = params.heads_k * ceil_div(rows, piece_rows_);
    const bool is_split = splits > 1;
    pieces_before_.push_back(pieces_before_.back() + blocks * splits);
    split_blocks_before_.push_back(split_blocks_before_.back() + (is_split ? blocks : 0));
    workspace_before_.push_back(workspace_before_.back() +
                                (is_split ? params.heads_k * rows * splits : 0));
  }
}

std::int64_t Schedule::splits_of(const Sequence& sequence) const {
  if (params_.num_splits > 0) {
    return std::clamp<std::int64_t>(ceil_div(sequence.k_rows, kTileKeys), 1, params_.num_splits);
  }
  if (sequence.q_allocated * group_ > kBlockRows) return 1;
  return std::max<std::int64_t>(1, ceil_div(sequence.k_rows, kSplitKeys));
}

Piece Schedule::piece_of(std::int64_t index, std::int64_t number) const {
  const Sequence sequence = sequence_of(params_, index);
  const std::int64_t splits = splits_of(sequence);
  const std::int64_t rows = sequence.q_allocated * group_;
  const std::int64_t blocks = ceil_div(rows, piece_rows_);
  const std::int64_t block = number / splits;
  const std::int64_t split = number % splits;
  // The last rows of a causal sequence see most keys: they come first.
  const std::int64_t row_begin = (blocks - 1 - block % blocks) * piece_rows_;
  const std::int64_t block_rows = std::min(piece_rows_, rows - row_begin);
  const std::int64_t split_keys =
      ceil_div(ceil_div(sequence.k_rows, splits), kTileKeys) * kTileKeys;
  const std::int64_t workspace = workspace_before_[static_cast<std::size_t>(index)] +
                                 (block / blocks * rows + row_begin) * splits + split * block_rows;
  return {sequence,
          block / blocks,
          row_begin,
          block_rows,
          split,
          splits,
          {std::min(split * split_keys, sequence.k_rows),
           std::min((split + 1) * split_keys, sequence.k_rows)},
          workspace};
}

Piece Schedule::piece(std::int64_t number) const {
  const std::int64_t index = sequence_before(pieces_before_, number);
  return piece_of(index, number - pieces_before_[static_cast<std::size_t>(index)]);
}

Piece Schedule::split_block(std::int64_t number) const {
  const std::int64_t index = sequence_before(split_blocks_before_, number);
  const std::int64_t block = number - split_blocks_before_[static_cast<std::size_t>(index)];
  return piece_of(index, block * splits_of(sequence_of(params_, index)));
}

std::int64_t Schedule::work_per_piece() const {
  std::int64_t work = 0;
  for (std::int64_t b = 0; b < params_.batch; ++b) {
    const Sequence sequence = sequence_of(params_, b);
    work += sequence.q_allocated * params_.heads_q * sequence.k_rows;
  }
  work *= params_.head_dim + params_.head_dim_v;
  return pieces() == 0 ? 0 : work / pieces();
}

}  // namespace kernelhub::flash_attention
