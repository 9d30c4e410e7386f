// SPDX-License-Identifier: Apache-2.0
// The rows of a piece against its keys, a tile of them after the other.
//   out = softmax(q k' scale + bias) v, one pass over the keys with a running maximum and sum
//   (M. Milakov, N. Gimelshein, arXiv:1805.02867; T. Dao et al., arXiv:2205.14135)
// Scores are kept transposed, [key, row]: lanes are rows, so that neither the maximum nor the sum
// crosses lanes, and k and v enter both products as the side that is not in lanes.
//
// `Operands` says how q, k, v and the weights lie in the scratch and multiplies them:
//   Format                                 the storage format of q, k and v
//   Weights                                see weigh_panel; at(s, key, row) reads one
//   rule(params)                           what turns its products into scores
//   load_queries(params, block rows, s)    s.q; rows that see nothing are zero
//   load_tile(params, piece, tile, keys, s)       s.k and s.v
//   without_odd_values(params, piece, tile, keys, s)   the list of keys whose values are not
//                                          finite, which are zero in s.v from then on
//   multiply_keys(params, keys, rows, s)   s.scores = products of s.k and s.q
//   multiply_values(params, keys, rows, s) s.values = s.values * correction + weights * s.v
#pragma once

#include "flash_attention_cpu/weights_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// Adds values that are not finite, which the tile in s.v lacks, to the rows that see them.
template <class Operands>
HWY_NOINLINE void add_odd_values(const Params& params, const Piece& piece, std::int64_t tile,
                                 const KeyList& odd, const Scratch& s) {
  using T = typename Operands::Format::Storage;
  const std::int64_t dim = params.head_dim_v;
  alignas(64) float value[kMaxHeadDim];
  for (std::int64_t n = 0; n < odd.count; ++n) {
    const std::int64_t j = odd.key[n];
    widen<typename Operands::Format>(
        static_cast<const T*>(params.v) + key_element(params, piece, params.v_strides, tile + j),
        dim, value);
    const auto key = static_cast<float>(tile + j);
    for (std::int64_t r = 0; r < piece.rows; ++r) {
      if (key < s.begin[r] || key >= s.end[r]) continue;
      const float weight = Operands::Weights::at(s, j, r);
      for (std::int64_t i = 0; i < dim; ++i) s.values[i * kBlockRows + r] += weight * value[i];
    }
  }
}

/// kBlockRows rows of a piece on their way.
struct Block {
  Piece piece;  // those rows alone
  Scratch s;
  Visible visible;
};

/// Queries, values and row arrays before the first tile.
template <class Operands>
inline Block start_block(const Params& params, const Piece& piece, std::int64_t number,
                         float* scratch) {
  Block block{piece, scratch_of(params, scratch, number), {}};
  const std::int64_t begin = number * kBlockRows;
  block.piece.row_begin += begin;
  block.piece.rows = piece.rows - begin < kBlockRows ? piece.rows - begin : kBlockRows;
  const Scratch& s = block.s;
  block.visible = describe_rows(params, block.piece, s);
  Operands::load_queries(params, block.piece, s);
  for (std::int64_t i = 0; i < params.head_dim_v * kBlockRows; ++i) s.values[i] = 0.0f;
  return block;
}

/// Whether some row of the block does not see one of `keys` keys from `tile` on.
inline bool is_masked(const Visible& visible, std::int64_t tile, std::int64_t keys) {
  return tile < visible.all.begin || tile + keys > visible.all.end;
}

/// One tile of keys, which is in the scratch, for one block. `odd`: keys taken out of it.
template <class Operands>
inline void attend_tile(const Params& params, const ScoreRule& rule, const Block& block,
                        std::int64_t tile, std::int64_t keys, const KeyList& odd) {
  const Scratch& s = block.s;
  const std::int64_t rows = block.piece.rows;
  Operands::multiply_keys(params, keys, rows, s);
  weigh<typename Operands::Weights>(rule, is_masked(block.visible, tile, keys), tile, keys, s,
                                    rows);
  Operands::multiply_values(params, keys, rows, s);
  if (odd.count > 0) add_odd_values<Operands>(params, block.piece, tile, odd, s);
}

inline void store_partial(const Params& params, const Block& block, const Partial& result,
                          std::int64_t begin) {
  for (std::int64_t r = 0; r < block.piece.rows; ++r) {
    result.largest[begin + r] = block.s.largest[r];
    result.sum[begin + r] = block.s.sum[r];
    float* const to = result.values + (begin + r) * params.head_dim_v;
    for (std::int64_t i = 0; i < params.head_dim_v; ++i) {
      to[i] = block.s.values[i * kBlockRows + r];
    }
  }
}

template <class Operands>
inline void attend_blocks(const Params& params, const Piece& piece, float* scratch,
                          const Partial& result) {
  Block blocks[kPieceRows / kBlockRows];
  const std::int64_t count = ceil_div(piece.rows, kBlockRows);
  KeyRange some{piece.keys.end, 0};
  for (std::int64_t b = 0; b < count; ++b) {
    blocks[b] = start_block<Operands>(params, piece, b, scratch);
    const KeyRange& own = blocks[b].visible.some;
    if (own.begin >= own.end) continue;
    if (own.begin < some.begin) some.begin = own.begin;
    if (own.end > some.end) some.end = own.end;
  }
  const ScoreRule rule = Operands::rule(params);
  const Scratch& s = blocks[0].s;
  const auto keys_of = [](const KeyRange& range, std::int64_t tile) {
    return range.end - tile < kTileKeys ? range.end - tile : kTileKeys;
  };
  for (std::int64_t tile = some.begin / kTileKeys * kTileKeys; tile < some.end; tile += kTileKeys) {
    const std::int64_t keys = keys_of(some, tile);
    Operands::load_tile(params, piece, tile, keys, s);
    KeyList odd;
    odd.count = 0;
    // Blocks that see all of the tile first, while it is whole: a block's bits do not depend on
    // what the others see.
    bool has_masked = false;
    for (int pass = 0; pass == 0 || (pass == 1 && has_masked); ++pass) {
      if (pass == 1) odd = Operands::without_odd_values(params, piece, tile, keys, s);
      for (std::int64_t b = 0; b < count; ++b) {
        const KeyRange& own = blocks[b].visible.some;
        if (own.end <= tile || own.begin >= tile + kTileKeys) continue;
        const std::int64_t own_keys = keys_of(own, tile);
        const bool is_later = is_masked(blocks[b].visible, tile, own_keys);
        has_masked = has_masked || is_later;
        if (is_later != (pass == 1)) continue;
        attend_tile<Operands>(params, rule, blocks[b], tile, own_keys, odd);
      }
    }
  }
  for (std::int64_t b = 0; b < count; ++b) {
    store_partial(params, blocks[b], result, b * kBlockRows);
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
