// SPDX-License-Identifier: Apache-2.0
// Tiled attention on Highway lanes; the includer's flags choose the instruction set.
//   out = softmax(q k' scale + bias) v, one pass over the keys with a running maximum and sum
//   (M. Milakov, N. Gimelshein, arXiv:1805.02867; T. Dao et al., arXiv:2205.14135)
// Scores are kept transposed, [key, row]: lanes are rows, so that neither the maximum nor the sum
// crosses lanes, and k and v enter both products as broadcast scalars in the order that memory has.
// Everything is fp32 after the load. bf16 products are exact in fp32, and the fused multiply-adds
// of fp32 beat VDPBF16PS where that runs at a quarter of their rate (measured: 57 GFLOP/s against
// 125 on Sapphire Rapids), so bf16 has no path of its own here.
// Sequences of a few rows have a file of their own, few_rows_simd.h.
#pragma once

#include "flash_attention_cpu/few_rows_simd.h"
#include "flash_attention_cpu/scores_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

// Register block of the products: kKeyStep broadcast scalars against kPanel vectors of rows.
#if HWY_TARGET == HWY_AVX3
constexpr int kPanel = 4;
constexpr int kKeyStep = 6;
#elif HWY_TARGET == HWY_AVX2
constexpr int kPanel = 2;
constexpr int kKeyStep = 6;
#else
constexpr int kPanel = 4;
constexpr int kKeyStep = 2;
#endif

// ------------------------------------------------------------------- products, lanes are rows

/// c[j][column] = c[j][column] * scale[column] + sum_t a[j * a_row + t * a_step] * b[t][column] for
/// kKeys values of j and kVectors vectors of columns; rows of b and c are kBlockRows apart. Without
/// `scale` c is only written.
template <int kKeys, int kVectors>
HWY_INLINE void product_block(const float* HWY_RESTRICT a, std::int64_t a_row, std::int64_t a_step,
                              std::int64_t steps, const float* HWY_RESTRICT b,
                              float* HWY_RESTRICT c, const float* HWY_RESTRICT scale) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  V sums[kKeys][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kKeys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) sums[j][i] = hn::Zero(d);
  }
  for (std::int64_t t = 0; t < steps; ++t) {
    V row[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) row[i] = hn::Load(d, b + t * kBlockRows + i * lanes);
#pragma GCC unroll 8
    for (int j = 0; j < kKeys; ++j) {
      const V factor = set(a[j * a_row + t * a_step]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) sums[j][i] = hn::MulAdd(factor, row[i], sums[j][i]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kKeys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      float* const to = c + j * kBlockRows + i * lanes;
      if (scale == nullptr) {
        hn::Store(sums[j][i], d, to);
      } else {
        hn::Store(hn::MulAdd(hn::Load(d, to), hn::Load(d, scale + i * lanes), sums[j][i]), d, to);
      }
    }
  }
}

struct Product {
  const float* a;
  std::int64_t a_row, a_step;
  std::int64_t count;  // values of j
  std::int64_t steps;
  const float* b;
  float* c;
  const float* scale;
};

template <int kVectors>
HWY_NOINLINE void product_panel(const Product& p, std::int64_t column) {
  const float* scale = p.scale == nullptr ? nullptr : p.scale + column;
  std::int64_t j = 0;
  const auto block = [&](auto keys) {
    constexpr int kKeys = decltype(keys)::value;
    product_block<kKeys, kVectors>(p.a + j * p.a_row, p.a_row, p.a_step, p.steps, p.b + column,
                                   p.c + j * kBlockRows + column, scale);
    j += kKeys;
  };
  while (j + kKeyStep <= p.count) block(std::integral_constant<int, kKeyStep>());
  while (j + 2 <= p.count) block(std::integral_constant<int, 2>());
  if (j < p.count) block(std::integral_constant<int, 1>());
}

/// All columns of the first `rows` rows (rounded up to whole vectors).
HWY_INLINE void product(const Product& p, std::int64_t rows) {
  const std::int64_t lanes = lane_count();
  std::int64_t column = 0;
  for (; column + (kPanel - 1) * lanes < rows; column += kPanel * lanes) {
    product_panel<kPanel>(p, column);
  }
  for (; column < rows; column += lanes) product_panel<1>(p, column);
}

/// Rows [begin, begin + count) of k or v as fp32, `pitch` apart.
template <class Format>
inline void load_keys(const Params& params, const Piece& piece, const void* base,
                      const Strides& strides, std::int64_t dim, std::int64_t begin,
                      std::int64_t count, std::int64_t pitch, float* to) {
  const auto* rows = static_cast<const typename Format::Storage*>(base);
  for (std::int64_t j = 0; j < count; ++j) {
    widen<Format>(rows + key_element(params, piece, strides, begin + j), dim, to + j * pitch);
  }
}

// ------------------------------------------------------------------- softmax, lanes are rows

/// Turns kVectors columns of products into weights 2^(score - largest), and brings largest, sum
/// and correction up to date.
template <int kVectors>
HWY_INLINE void weigh_panel(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                            std::int64_t keys, const Scratch& s, std::int64_t column) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  V largest[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) largest[i] = hn::Load(d, s.largest + column + i * lanes);
  const bool is_plain = !is_masked && !rule.has_softcap && !rule.has_alibi;
  for (std::int64_t j = 0; j < keys; ++j) {
    float* const row = s.scores + j * kBlockRows + column;
    const V key = set(static_cast<float>(first_key + j));
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      V score = hn::Load(d, row + i * lanes);
      if (!is_plain) {
        const std::int64_t at = column + i * lanes;
        if (rule.has_softcap) score = hn::Mul(simd::tanh(score), set(rule.softcap));
        if (rule.has_alibi) {
          const V distance = hn::Abs(hn::Sub(hn::Load(d, s.diagonal + at), key));
          score = hn::MulAdd(hn::Load(d, s.slope + at), distance, score);
        }
        if (is_masked) {
          const auto is_seen =
              hn::And(hn::Ge(key, hn::Load(d, s.begin + at)), hn::Lt(key, hn::Load(d, s.end + at)));
          score = hn::IfThenElse(is_seen, score, set(kMinusInfinity));
        }
        hn::Store(score, d, row + i * lanes);
      }
      largest[i] = max_of(largest[i], score);
    }
  }
  V offset[kVectors];
  V sum[kVectors];  // of this tile, four at a time: long chains would cost digits
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const std::int64_t at = column + i * lanes;
    // A row that has seen no key yet: any finite offset leaves its weights at zero.
    const auto is_empty = hn::Eq(largest[i], set(kMinusInfinity));
    offset[i] = hn::IfThenElse(is_empty, hn::Zero(d), largest[i]);
    const V correction = exp2_of_negative(hn::Sub(hn::Load(d, s.largest + at), offset[i]));
    hn::Store(largest[i], d, s.largest + at);
    hn::Store(correction, d, s.correction + at);
    sum[i] = hn::Zero(d);
  }
  const auto weight_at = [&](std::int64_t j, int i) HWY_ATTR {
    float* const at = s.scores + j * kBlockRows + column + i * lanes;
    const V weight = exp2_of_negative(hn::Sub(hn::Load(d, at), offset[i]));
    hn::Store(weight, d, at);
    return weight;
  };
  std::int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const V first = hn::Add(weight_at(j, i), weight_at(j + 1, i));
      const V second = hn::Add(weight_at(j + 2, i), weight_at(j + 3, i));
      sum[i] = hn::Add(sum[i], hn::Add(first, second));
    }
  }
  for (; j < keys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) sum[i] = hn::Add(sum[i], weight_at(j, i));
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const std::int64_t at = column + i * lanes;
    const V before = hn::Load(d, s.sum + at);
    hn::Store(hn::MulAdd(before, hn::Load(d, s.correction + at), sum[i]), d, s.sum + at);
  }
}

HWY_NOINLINE void weigh(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                        std::int64_t keys, const Scratch& s, std::int64_t rows) {
  const std::int64_t lanes = lane_count();
  std::int64_t column = 0;
  for (; column + (kPanel - 1) * lanes < rows; column += kPanel * lanes) {
    weigh_panel<kPanel>(rule, is_masked, first_key, keys, s, column);
  }
  for (; column < rows; column += lanes) {
    weigh_panel<1>(rule, is_masked, first_key, keys, s, column);
  }
}

/// Takes the keys whose values are not finite out of the tile in s.v, which not all rows see.
HWY_NOINLINE KeyList take_out_odd_values(std::int64_t keys, std::int64_t dim, const Scratch& s) {
  const std::int64_t pitch = value_pitch(dim);
  KeyList odd;
  odd.count = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    if (is_finite<simd::Float32>(s.v + j * pitch, dim)) continue;
    odd.key[odd.count++] = j;
    for (std::int64_t i = 0; i < dim; ++i) s.v[j * pitch + i] = 0.0f;
  }
  return odd;
}

/// Adds what was taken out to the rows that see it.
template <class Format>
HWY_NOINLINE void add_odd_values(const Params& params, const Piece& piece, std::int64_t tile,
                                 const KeyList& odd, const Scratch& s) {
  const std::int64_t dim = params.head_dim_v;
  alignas(64) float value[kMaxHeadDim];
  for (std::int64_t n = 0; n < odd.count; ++n) {
    const std::int64_t j = odd.key[n];
    load_keys<Format>(params, piece, params.v, params.v_strides, dim, tile + j, 1, dim, value);
    const auto key = static_cast<float>(tile + j);
    for (std::int64_t r = 0; r < piece.rows; ++r) {
      if (key < s.begin[r] || key >= s.end[r]) continue;
      const float weight = s.scores[j * kBlockRows + r];
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
template <class Format>
inline Block start_block(const Params& params, const Piece& piece, std::int64_t number,
                         float* scratch) {
  Block block{piece, scratch_of(params, scratch, number), {}};
  const std::int64_t begin = number * kBlockRows;
  block.piece.row_begin += begin;
  block.piece.rows = piece.rows - begin < kBlockRows ? piece.rows - begin : kBlockRows;
  const Scratch& s = block.s;
  block.visible = describe_rows(params, block.piece, s);
  for (std::int64_t i = 0; i < params.head_dim * kBlockRows; ++i) s.q[i] = 0.0f;
  for (std::int64_t r = 0; r < block.piece.rows; ++r) {
    if (s.end[r] == 0.0f) continue;  // sees nothing; may be no query at all
    load_query<Format>(params, block.piece, r, s.k);
    for (std::int64_t i = 0; i < params.head_dim; ++i) s.q[i * kBlockRows + r] = s.k[i];
  }
  for (std::int64_t i = 0; i < params.head_dim_v * kBlockRows; ++i) s.values[i] = 0.0f;
  return block;
}

/// Whether some row of the block does not see one of `keys` keys from `tile` on.
inline bool is_masked(const Visible& visible, std::int64_t tile, std::int64_t keys) {
  return tile < visible.all.begin || tile + keys > visible.all.end;
}

/// One tile of keys, which is in the scratch, for one block. `odd`: keys taken out of it.
template <class Format>
inline void attend_tile(const Params& params, const ScoreRule& rule, const Block& block,
                        std::int64_t tile, std::int64_t keys, const KeyList& odd) {
  const Scratch& s = block.s;
  const std::int64_t rows = block.piece.rows;
  const std::int64_t dim = params.head_dim;
  const std::int64_t dim_v = params.head_dim_v;
  product({s.k, dim, 1, keys, dim, s.q, s.scores, nullptr}, rows);
  weigh(rule, is_masked(block.visible, tile, keys), tile, keys, s, rows);
  product({s.v, 1, value_pitch(dim_v), dim_v, keys, s.scores, s.values, s.correction}, rows);
  if (odd.count > 0) add_odd_values<Format>(params, block.piece, tile, odd, s);
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

template <class Format>
inline void attend_blocks(const Params& params, const Piece& piece, float* scratch,
                          const Partial& result) {
  Block blocks[kPieceRows / kBlockRows];
  const std::int64_t count = ceil_div(piece.rows, kBlockRows);
  KeyRange some{piece.keys.end, 0};
  for (std::int64_t b = 0; b < count; ++b) {
    blocks[b] = start_block<Format>(params, piece, b, scratch);
    const KeyRange& own = blocks[b].visible.some;
    if (own.begin >= own.end) continue;
    if (own.begin < some.begin) some.begin = own.begin;
    if (own.end > some.end) some.end = own.end;
  }
  const ScoreRule rule = score_rule(params);
  const Scratch& s = blocks[0].s;
  const auto keys_of = [](const KeyRange& range, std::int64_t tile) {
    return range.end - tile < kTileKeys ? range.end - tile : kTileKeys;
  };
  const std::int64_t dim = params.head_dim;
  const std::int64_t dim_v = params.head_dim_v;
  for (std::int64_t tile = some.begin / kTileKeys * kTileKeys; tile < some.end; tile += kTileKeys) {
    const std::int64_t keys = keys_of(some, tile);
    load_keys<Format>(params, piece, params.k, params.k_strides, dim, tile, keys, dim, s.k);
    load_keys<Format>(params, piece, params.v, params.v_strides, dim_v, tile, keys,
                      value_pitch(dim_v), s.v);
    KeyList odd;
    odd.count = 0;
    bool has_mask = false;
    for (std::int64_t b = 0; b < count; ++b) {
      has_mask = has_mask || is_masked(blocks[b].visible, tile, keys);
    }
    if (has_mask) odd = take_out_odd_values(keys, dim_v, s);
    for (std::int64_t b = 0; b < count; ++b) {
      const KeyRange& own = blocks[b].visible.some;
      if (own.end <= tile || own.begin >= tile + kTileKeys) continue;
      attend_tile<Format>(params, rule, blocks[b], tile, keys_of(own, tile), odd);
    }
  }
  for (std::int64_t b = 0; b < count; ++b) {
    store_partial(params, blocks[b], result, b * kBlockRows);
  }
}

// ------------------------------------------------------------------- a piece, start to end

template <class Format>
inline void attend_format(const Params& params, const Piece& piece, float* scratch,
                          const Partial& result) {
  // By the rows of the sequence, not of the piece: a row's result depends on its sequence only.
  const std::int64_t rows = piece.sequence.q_allocated * (params.heads_q / params.heads_k);
  if (rows > kFewRows) return attend_blocks<Format>(params, piece, scratch, result);
  switch (padded_few(rows)) {
    case 1:
      return attend_few<Format, 1>(params, piece, scratch, result);
    case 2:
      return attend_few<Format, 2>(params, piece, scratch, result);
    case 4:
      return attend_few<Format, 4>(params, piece, scratch, result);
    default:
      return attend_few<Format, kFewRows>(params, piece, scratch, result);
  }
}

inline void attend(const Params& params, const Piece& piece, float* scratch,
                   const Partial& result) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return attend_format<simd::Float16>(params, piece, scratch, result);
    case primitives::DType::kBFloat16:
      return attend_format<simd::BFloat16>(params, piece, scratch, result);
    default:
      return attend_format<simd::Float32>(params, piece, scratch, result);
  }
}

template <class Format>
inline void finish_format(const Params& params, const Piece& piece, const Partial& result) {
  using T = typename Format::Storage;
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    const RowOf row = row_of(params, piece, r);
    T* const to = static_cast<T*>(params.out) + element_of(params.out_strides, piece.sequence, row);
    float* const lse = lse_of(params, piece.sequence, row);
    if (result.sum[r] == 0.0f) {  // not by the largest score: a NaN among them is none
      for (std::int64_t i = 0; i < params.head_dim_v; ++i) to[i] = T{};
      *lse = kMinusInfinity;
      continue;
    }
    float weight = 1.0f;  // of what was summed, next to the sink
    float sum = result.sum[r];
    float largest = result.largest[r];
    if (params.sinks != nullptr) {
      const float sink = params.sinks[row.head] * static_cast<float>(kLog2E);
      if (sink > largest) {
        weight = exp2_of_negative(largest - sink);
        largest = sink;
        sum = sum * weight + 1.0f;
      } else {
        sum += exp2_of_negative(sink - largest);
      }
    }
    store_row<Format>(result.values + r * params.head_dim_v, weight / sum, params.head_dim_v, to);
    *lse = static_cast<float>((static_cast<double>(largest) + std::log2(sum)) / kLog2E);
  }
}

inline void finish(const Params& params, const Piece& piece, const Partial& result) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return finish_format<simd::Float16>(params, piece, result);
    case primitives::DType::kBFloat16:
      return finish_format<simd::BFloat16>(params, piece, result);
    default:
      return finish_format<simd::Float32>(params, piece, result);
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
