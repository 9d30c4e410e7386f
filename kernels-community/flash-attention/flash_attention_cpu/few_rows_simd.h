// SPDX-License-Identifier: Apache-2.0
// Sequences of a few rows (decoding) read each key once from memory: lanes are dimensions.
#pragma once

#include <type_traits>

#include "flash_attention_cpu/scores_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// Bytes of keys, and of values, that are fetched ahead of those in use: pages are read in their
/// order, so that it takes more than one for the next to be found in time.
constexpr std::int64_t kAheadBytes = 16 * 1024;
/// Keys whose values are added to the sums in memory at once.
constexpr std::int64_t kValueKeys = 8;

/// The rows of k or v that a tile of keys has, one for each key, at the piece's first head.
template <class T>
struct RowStream {
  const T* const* rows;
  std::int64_t keys;   // of the tile
  std::int64_t known;  // rows from the tile's first one on that may be fetched
  std::int64_t ahead;  // how far
  std::int64_t heads;
  std::int64_t head_stride;
  std::int64_t dim;
};

/// Fetches into the second-level cache, where whole pages have room.
template <class T>
HWY_INLINE void fetch_ahead(const RowStream<T>& stream, std::int64_t key, std::int64_t head) {
  key += stream.ahead;
  if (key >= stream.known) return;
  const T* const row = stream.rows[key] + head * stream.head_stride;
  const char* const bytes = reinterpret_cast<const char*>(row);
  const std::int64_t size = stream.dim * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t at = 0; at < size; at += 64) __builtin_prefetch(bytes + at, 0, 2);
}

/// Sums over the lanes of four vectors, in the order of lanes 0, 1, 2, 3 of each 128-bit block.
HWY_INLINE void sum_four(V a, V b, V c, V e, float* sums) {
  const F32 d;
#if HWY_TARGET == HWY_SCALAR
  const V all[4] = {a, b, c, e};
  for (int i = 0; i < 4; ++i) sums[i] = hn::GetLane(all[i]);
  (void)d;
#else
  const V first = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const V second = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  const V blocks =
      hn::Add(hn::InterleaveLower(d, first, second), hn::InterleaveUpper(d, first, second));
  const hn::Half<F32> dh;
  const auto half = hn::Add(hn::LowerHalf(dh, blocks), hn::UpperHalf(dh, blocks));
#if HWY_TARGET == HWY_AVX3
  const hn::Half<hn::Half<F32> > dq;
  hn::StoreU(hn::Add(hn::LowerHalf(dq, half), hn::UpperHalf(dq, half)), dq, sums);
#else
  hn::StoreU(half, dh, sums);
#endif
#endif
}

// Sums that score_few keeps in registers.
constexpr int kDotSums = HWY_TARGET == HWY_AVX3 ? 16 : 8;

/// Keys that score_few takes at once; kTileKeys is a multiple.
template <int kRows>
constexpr int dot_keys() {
  return kDotSums / kRows > 8 ? 8 : kDotSums / kRows;
}

/// scores[row][j] = q[row] . k[j] for the kRows rows of each head; `q` is padded with zeros. Rows
/// of k are known up to a multiple of dot_keys.
template <class Format, int kRows>
HWY_NOINLINE void score_few(const RowStream<typename Format::Storage>& k, const float* all_q,
                            float* all_scores) {
  const F32 d;
  constexpr int kKeys = dot_keys<kRows>();
  const std::int64_t lanes = lane_count();
  const std::int64_t dim = k.dim;
  const std::int64_t pitch = padded(dim);
  const auto head_scores = [&](std::int64_t j, std::int64_t head) {
    const std::int64_t offset = head * k.head_stride;
    const float* const q = all_q + head * kRows * pitch;
    float* const scores = all_scores + head * kRows * kTileKeys;
    for (int w = 0; w < kKeys; ++w) fetch_ahead(k, j + w, head);
    V sums[kKeys * kRows];
#pragma GCC unroll 16
    for (int n = 0; n < kKeys * kRows; ++n) sums[n] = hn::Zero(d);
    const auto add = [&](std::int64_t i, const auto& load) {
      V row[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) row[r] = hn::Load(d, q + r * pitch + i);
#pragma GCC unroll 8
      for (int w = 0; w < kKeys; ++w) {
        const V key = load(k.rows[j + w] + offset + i);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          sums[w * kRows + r] = hn::MulAdd(row[r], key, sums[w * kRows + r]);
        }
      }
    };
    std::int64_t i = 0;
    for (; i + lanes <= dim; i += lanes) {
      add(i, [](const auto* from) { return Format::load(from); });
    }
    if (i < dim) {
      const auto rest = static_cast<std::size_t>(dim - i);
      add(i, [rest](const auto* from) { return simd::load_first<Format>(from, rest); });
    }
    float dots[kKeys * kRows];
#pragma GCC unroll 4
    for (int n = 0; n < kKeys * kRows; n += 4) {
      sum_four(sums[n], sums[n + 1], sums[n + 2], sums[n + 3], dots + n);
    }
#pragma GCC unroll 8
    for (int w = 0; w < kKeys; ++w) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) scores[r * kTileKeys + j + w] = dots[w * kRows + r];
    }
  };
  for (std::int64_t j = 0; j < k.keys; j += kKeys) {
    for (std::int64_t head = 0; head < k.heads; ++head) head_scores(j, head);
  }
}

/// sums[row] = sum_j weights[row][j] * v[j] for the kRows rows of each head.
template <class Format, int kRows>
HWY_NOINLINE void add_values_few(const RowStream<typename Format::Storage>& v,
                                 const float* all_weights, float* all_sums) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  const std::int64_t dim = v.dim;
  const std::int64_t pitch = padded(dim);
  constexpr int kWide = kDotSums / kRows > 4 ? 4 : kDotSums / kRows;
  const auto add_head = [&](std::int64_t first, std::int64_t end, std::int64_t head) {
    const std::int64_t offset = head * v.head_stride;
    const float* const weights = all_weights + head * kRows * kTileKeys;
    for (std::int64_t j = first; j < end; ++j) fetch_ahead(v, j, head);
    const auto strip = [&](std::int64_t i, auto width, const auto& load) {
      constexpr int kWidth = decltype(width)::value;
      float* const to = all_sums + head * kRows * pitch + i;
      V sums[kRows][kWidth];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int w = 0; w < kWidth; ++w) {
          sums[r][w] = first == 0 ? hn::Zero(d) : hn::Load(d, to + r * pitch + w * lanes);
        }
      }
      for (std::int64_t j = first; j < end; ++j) {
        V value[kWidth];
#pragma GCC unroll 8
        for (int w = 0; w < kWidth; ++w) value[w] = load(v.rows[j] + offset + i + w * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const V weight = set(weights[r * kTileKeys + j]);
#pragma GCC unroll 8
          for (int w = 0; w < kWidth; ++w) sums[r][w] = hn::MulAdd(weight, value[w], sums[r][w]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int w = 0; w < kWidth; ++w) hn::Store(sums[r][w], d, to + r * pitch + w * lanes);
      }
    };
    const auto whole = [](const auto* from) { return Format::load(from); };
    std::int64_t i = 0;
    for (; i + kWide * lanes <= dim; i += kWide * lanes) {
      strip(i, std::integral_constant<int, kWide>(), whole);
    }
    for (; i + lanes <= dim; i += lanes) strip(i, std::integral_constant<int, 1>(), whole);
    if (i == dim) return;
    const auto rest = static_cast<std::size_t>(dim - i);
    strip(i, std::integral_constant<int, 1>(),
          [rest](const auto* from) { return simd::load_first<Format>(from, rest); });
  };
  for (std::int64_t j = 0; j < v.keys; j += kValueKeys) {
    const std::int64_t end = j + kValueKeys < v.keys ? j + kValueKeys : v.keys;
    for (std::int64_t head = 0; head < v.heads; ++head) add_head(j, end, head);
  }
}

/// Row `row` of the scores, the r-th of its head, becomes weights; kTileKeys is a multiple of every
/// lane count.
HWY_NOINLINE void weigh_few(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                            std::int64_t keys, const Scratch& s, std::int64_t row, std::int64_t r) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  float* const scores = s.scores + row * kTileKeys;
  for (std::int64_t j = keys; j % lanes != 0; ++j) scores[j] = kMinusInfinity;
  V largest = set(s.largest[row]);
  for (std::int64_t j = 0; j < keys; j += lanes) {
    V score = hn::Load(d, scores + j);
    const V key = hn::Iota(d, static_cast<float>(first_key + j));
    if (rule.has_softcap) score = hn::Mul(simd::tanh(score), set(rule.softcap));
    if (rule.has_alibi) {
      score = hn::MulAdd(set(s.slope[row]), hn::Abs(hn::Sub(set(s.diagonal[r]), key)), score);
    }
    const auto is_seen = hn::And(hn::Ge(key, set(s.begin[r])), hn::Lt(key, set(s.end[r])));
    if (is_masked || j + lanes > keys) {
      score = hn::IfThenElse(is_seen, score, set(kMinusInfinity));
    }
    hn::Store(score, d, scores + j);
    largest = max_of(largest, score);
  }
  const float before = s.largest[row];
  const float now = hn::GetLane(hn::MaxOfLanes(d, largest));
  const float offset = now == kMinusInfinity ? 0.0f : now;
  V sum = hn::Zero(d);
  for (std::int64_t j = 0; j < keys; j += lanes) {
    const V weight = exp2_of_negative(hn::Sub(hn::Load(d, scores + j), set(offset)));
    hn::Store(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  s.largest[row] = now;
  s.correction[row] = exp2_of_negative(before - offset);
  s.sum[row] = s.sum[row] * s.correction[row] + hn::GetLane(hn::SumOfLanes(d, sum));
}

/// Where the rows of a tile of keys lie, and those of the next, which are fetched ahead.
template <class T>
struct TileRows {
  const T* k[2 * kTileKeys];
  const T* v[2 * kTileKeys];
  std::int64_t known = 0;

  /// Rows of keys [first, end) join those that are known.
  void add(const Params& params, const Piece& piece, std::int64_t first, std::int64_t end) {
    const T* const all_k = static_cast<const T*>(params.k);
    const T* const all_v = static_cast<const T*>(params.v);
    for (std::int64_t key = first; key < end; ++key, ++known) {
      k[known] = all_k + key_element(params, piece, params.k_strides, key);
      v[known] = all_v + key_element(params, piece, params.v_strides, key);
    }
  }

  /// Forgets a tile.
  void drop_tile() {
    for (std::int64_t j = kTileKeys; j < known; ++j) {
      k[j - kTileKeys] = k[j];
      v[j - kTileKeys] = v[j];
    }
    known -= kTileKeys;
  }

  /// Repeats the last row up to a whole tile.
  void fill() {
    for (std::int64_t j = known; j < kTileKeys; ++j) k[j] = k[j - 1];
  }
};

/// add_values_few for a tile that some rows do not see all of: values that are not finite reach the
/// rows that see them alone.
template <class Format, int kRows>
HWY_NOINLINE void add_masked_values_few(const RowStream<typename Format::Storage>& v,
                                        std::int64_t tile, const Scratch& s) {
  using T = typename Format::Storage;
  static constexpr T kZeros[kMaxHeadDim]{};
  const std::int64_t pitch = padded(v.dim);
  const T* rows[kTileKeys];
  const T* odd[kTileKeys];
  alignas(64) float value[kMaxHeadDim];
  for (std::int64_t head = 0; head < v.heads; ++head) {
    const float* const weights = s.scores + head * kRows * kTileKeys;
    float* const sums = s.v + head * kRows * pitch;
    KeyList list;
    list.count = 0;
    for (std::int64_t j = 0; j < v.keys; ++j) {
      rows[j] = v.rows[j] + head * v.head_stride;
      if (is_finite<Format>(rows[j], v.dim)) continue;
      odd[list.count] = rows[j];
      list.key[list.count++] = j;
      rows[j] = kZeros;
    }
    add_values_few<Format, kRows>({rows, v.keys, 0, 0, 1, 0, v.dim}, weights, sums);
    for (std::int64_t n = 0; n < list.count; ++n) {
      const auto key = static_cast<float>(tile + list.key[n]);
      widen<Format>(odd[n], v.dim, value);
      for (std::int64_t r = 0; r < kRows; ++r) {
        if (key < s.begin[r] || key >= s.end[r]) continue;
        const float weight = weights[r * kTileKeys + list.key[n]];
        for (std::int64_t i = 0; i < v.dim; ++i) sums[r * pitch + i] += weight * value[i];
      }
    }
  }
}

/// Queries, values and row arrays before the first tile; rows of a head are padded up to kRows.
template <class Format, int kRows>
inline Visible start_few(const Params& params, const Piece& piece, const Scratch& s) {
  const std::int64_t pitch = padded(params.head_dim);
  const std::int64_t all_rows = piece.heads * kRows;
  const Visible visible = describe_rows(params, head_of(piece, 0), s);
  for (std::int64_t i = 0; i < all_rows * pitch; ++i) s.q[i] = 0.0f;
  for (std::int64_t i = 0; i < all_rows * padded(params.head_dim_v); ++i) s.values[i] = 0.0f;
  for (std::int64_t row = 0; row < all_rows; ++row) {
    s.largest[row] = kMinusInfinity;
    s.sum[row] = s.slope[row] = 0.0f;
  }
  for (std::int64_t head = 0; head < piece.heads; ++head) {
    const Piece one = head_of(piece, head);
    for (std::int64_t r = 0; r < one.rows; ++r) {
      if (s.end[r] == 0.0f) continue;
      const std::int64_t row = head * kRows + r;
      load_query<Format>(params, one, r, s.q + row * pitch);
      if (params.alibi_slopes == nullptr) continue;
      s.slope[row] = slope_of(params, one, row_of(params, one, r).head);
    }
  }
  return visible;
}

/// values[row] = values[row] * correction[row] + what a tile adds.
inline void add_tile(const Scratch& s, std::int64_t rows, std::int64_t dim_v) {
  const F32 d;
  for (std::int64_t row = 0; row < rows; ++row) {
    const V correction = set(s.correction[row]);
    float* const values = s.values + row * padded(dim_v);
    const float* const added = s.v + row * padded(dim_v);
    for (std::int64_t i = 0; i < dim_v; i += lane_count()) {
      const V sum = hn::MulAdd(hn::Load(d, values + i), correction, hn::Load(d, added + i));
      hn::Store(sum, d, values + i);
    }
  }
}

template <class Format, int kRows>
inline void attend_few(const Params& params, const Piece& piece, float* scratch,
                       const Partial& result) {
  using T = typename Format::Storage;
  const std::int64_t dim_v = params.head_dim_v;
  const std::int64_t all_rows = piece.heads * kRows;
  const Scratch s = few_rows_scratch(params, scratch, all_rows);
  const Visible visible = start_few<Format, kRows>(params, piece, s);
  const ScoreRule rule = score_rule(params);
  TileRows<T> rows;
  const auto stream = [&](const T* const* from, std::int64_t keys, const Strides& strides,
                          std::int64_t dim) {
    const std::int64_t bytes = piece.heads * dim * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t ahead = ceil_div(kAheadBytes, bytes);
    return RowStream<T>{
        from,        keys,         rows.known, ahead < kTileKeys ? ahead : kTileKeys,
        piece.heads, strides.head, dim};
  };
  const std::int64_t end = visible.some.end;
  const auto end_of = [end](std::int64_t key) { return key < end ? key : end; };
  std::int64_t tile = visible.some.begin / kTileKeys * kTileKeys;
  rows.add(params, piece, tile, end_of(tile + kTileKeys));
  for (; tile < end; tile += kTileKeys, rows.drop_tile()) {
    rows.add(params, piece, end_of(tile + kTileKeys), end_of(tile + 2 * kTileKeys));
    rows.fill();
    const std::int64_t keys = end_of(tile + kTileKeys) - tile;
    const RowStream<T> v = stream(rows.v, keys, params.v_strides, dim_v);
    score_few<Format, kRows>(stream(rows.k, keys, params.k_strides, params.head_dim), s.q,
                             s.scores);
    const bool is_masked = tile < visible.all.begin || tile + keys > visible.all.end;
    for (std::int64_t row = 0; row < all_rows; ++row) {
      weigh_few(rule, is_masked, tile, keys, s, row, row % kRows);
    }
    if (is_masked) {
      add_masked_values_few<Format, kRows>(v, tile, s);
    } else {
      add_values_few<Format, kRows>(v, s.scores, s.v);
    }
    add_tile(s, all_rows, dim_v);
  }
  const std::int64_t head_rows = piece.rows / piece.heads;
  for (std::int64_t n = 0; n < piece.rows; ++n) {
    const std::int64_t row = n / head_rows * kRows + n % head_rows;
    result.largest[n] = s.largest[row];
    result.sum[n] = s.sum[row];
    for (std::int64_t i = 0; i < dim_v; ++i) {
      result.values[n * dim_v + i] = s.values[row * padded(dim_v) + i];
    }
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
