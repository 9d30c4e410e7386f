// SPDX-License-Identifier: Apache-2.0
// Which query, head and output a row of a piece is.
#pragma once

#include "flash_attention/schedule.h"

namespace kernelhub::flash_attention::cpu {

// No symbol of this file may reach the linker, as in scratch.h.
namespace {

/// Key head `head` of a piece alone.
inline Piece head_of(const Piece& piece, std::int64_t head) {
  Piece one = piece;
  one.head_k += head;
  one.heads = 1;
  one.rows = piece.rows / piece.heads;
  return one;
}

/// Row r of a key head is query `(row_begin + r) / group` of head `head_k * group + the rest`.
struct RowOf {
  std::int64_t query;
  std::int64_t head;
};

inline RowOf row_of(const Params& params, const Piece& piece, std::int64_t row) {
  const std::int64_t group = params.heads_q / params.heads_k;
  const std::int64_t rows = piece.rows / piece.heads;
  const std::int64_t number = piece.row_begin + row % rows;
  return {number / group, (piece.head_k + row / rows) * group + number % group};
}

inline std::int64_t element_of(const Strides& strides, const Sequence& sequence, RowOf row) {
  return sequence.q_batch * strides.batch + (sequence.q_begin + row.query) * strides.row +
         row.head * strides.head;
}

inline float* lse_of(const Params& params, const Sequence& sequence, RowOf row) {
  return params.lse + sequence.q_batch * params.lse_batch_stride +
         row.head * params.lse_head_stride + sequence.q_begin + row.query;
}

/// Start of key row `key` of the piece's first head in a tensor with `strides`.
inline std::int64_t key_element(const Params& params, const Piece& piece, const Strides& strides,
                                std::int64_t key) {
  const Sequence& sequence = piece.sequence;
  return cache_offset(pages_of(params, sequence), params.lengths.page_size, strides,
                      sequence.k_batch, sequence.k_begin + key) +
         piece.head_k * strides.head;
}

/// Keys up to `end` whose rows follow that of `key` a row stride apart, itself included: those of
/// its page, where keys lie in pages.
inline std::int64_t adjacent_keys(const Params& params, const Piece& piece, std::int64_t key,
                                  std::int64_t end) {
  const Lengths& lengths = params.lengths;
  if (lengths.block_table == nullptr) return end - key;
  const std::int64_t left = lengths.page_size - (piece.sequence.k_begin + key) % lengths.page_size;
  return left < end - key ? left : end - key;
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu
