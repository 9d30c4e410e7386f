// SPDX-License-Identifier: Apache-2.0
// Sequences of a few rows (decoding) read each key once from memory: lanes are dimensions.
#pragma once

#include <type_traits>

#include "flash_attention_cpu/scores_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

constexpr std::int64_t kLanes = hn::MaxLanes(F32());

/// Bytes of keys, and of values, that are fetched ahead of those in use: rows may lie in as many
/// pages, each of which has to be found first. As many rows as are used together are the least:
/// fetched any later, the last of them are not there in time.
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

/// Where the row lies that is to be fetched while `key` is in use; the last known row again where
/// there is none.
template <class T>
HWY_INLINE const T* row_ahead(const RowStream<T>& stream, std::int64_t key, std::int64_t head) {
  const std::int64_t ahead = key + stream.ahead;
  const std::int64_t row = ahead < stream.known ? ahead : stream.known - 1;
  return stream.rows[row] + head * stream.head_stride;
}

/// Fetches a line into the second-level cache, where whole pages have room.
template <class T>
HWY_INLINE void fetch(const T* line) {
  __builtin_prefetch(line, 0, 2);
}

/// What is loaded at once: as many elements as 64 bytes of a wide CPU's vectors hold, so that a
/// step is a cache line there. Those of bf16 take two instructions for two vectors where they are
/// told apart by their place, even or odd.
template <class Format>
struct Step {
  static constexpr int kVectors = 4 / sizeof(typename Format::Storage);
  static constexpr bool kIsInterleaved = false;
  static HWY_INLINE void load(const typename Format::Storage* from, V* to) {
    for (int i = 0; i < kVectors; ++i) to[i] = Format::load(from + i * kLanes);
  }
};

#if HWY_TARGET != HWY_SCALAR
template <>
struct Step<simd::BFloat16> {
  static constexpr int kVectors = 2;
  static constexpr bool kIsInterleaved = true;
  static HWY_INLINE void load(const std::uint16_t* from, V* to) {
    const simd::U32 d;
    const hn::Repartition<std::uint16_t, simd::U32> d16;
    const auto pairs = hn::BitCast(d, hn::LoadU(d16, from));
    to[0] = hn::BitCast(F32(), hn::ShiftLeft<16>(pairs));
    to[1] = hn::BitCast(F32(), hn::And(pairs, hn::Set(d, 0xffff0000u)));
  }
};
#endif

/// Brings a row of fp32 into the order in which steps have the elements, in place.
template <class Format>
inline void order_by_steps(float* row, std::int64_t dim) {
  if (!Step<Format>::kIsInterleaved) return;
  const F32 d;
  constexpr std::int64_t kStep = Step<Format>::kVectors * kLanes;
  for (std::int64_t i = 0; i + kStep <= dim; i += kStep) {
    V even, odd;
    hn::LoadInterleaved2(d, row + i, even, odd);
    hn::Store(even, d, row + i);
    hn::Store(odd, d, row + i + kLanes);
  }
}

/// The inverse of order_by_steps, from one row to another.
template <class Format>
inline void order_by_dimension(const float* from, std::int64_t dim, float* to) {
  const F32 d;
  constexpr std::int64_t kStep = Step<Format>::kVectors * kLanes;
  std::int64_t i = 0;
  for (; Step<Format>::kIsInterleaved && i + kStep <= dim; i += kStep) {
    hn::StoreInterleaved2(hn::Load(d, from + i), hn::Load(d, from + i + kLanes), d, to + i);
  }
  for (; i < dim; ++i) to[i] = from[i];
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

/// Vectors of values that add_values_few takes at once, whole steps.
template <class Format, int kRows>
constexpr int value_width() {
  constexpr int kMost = kDotSums / kRows > 4 ? 4 : kDotSums / kRows;
  return kMost < Step<Format>::kVectors ? Step<Format>::kVectors : kMost;
}

/// Calls `work(i, width, load)` over a row of `dim` elements; `load(from + i, vectors)` gives
/// `width` vectors, kMost of them as far as the row goes and no fewer than a step, then one.
template <class Format, int kMost = Step<Format>::kVectors, class Work>
HWY_INLINE void for_steps(std::int64_t dim, const Work& work) {
  using T = typename Format::Storage;
  constexpr int kStep = Step<Format>::kVectors;
  std::int64_t i = 0;
  for (; i + kMost * kLanes <= dim; i += kMost * kLanes) {
    work(i, std::integral_constant<int, kMost>(), [](const T* from, V* to) {
#pragma GCC unroll 4
      for (int w = 0; w < kMost; w += kStep) Step<Format>::load(from + w * kLanes, to + w);
    });
  }
  for (; kStep < kMost && i + kStep * kLanes <= dim; i += kStep * kLanes) {
    work(i, std::integral_constant<int, kStep>(), &Step<Format>::load);
  }
  const std::integral_constant<int, 1> single;
  for (; i + kLanes <= dim; i += kLanes) {
    work(i, single, [](const T* from, V* to) { *to = Format::load(from); });
  }
  if (i == dim) return;
  const auto rest = static_cast<std::size_t>(dim - i);
  work(i, single, [rest](const T* from, V* to) { *to = simd::load_first<Format>(from, rest); });
}

/// scores[r][j] = q[r] . k[j] for the kRows rows of a head and dot_keys keys from `first` on.
template <class Format, int kRows>
HWY_INLINE void score_keys(const RowStream<typename Format::Storage>& k, std::int64_t first,
                           std::int64_t head, const float* q, float* scores) {
  using T = typename Format::Storage;
  const F32 d;
  constexpr int kKeys = dot_keys<kRows>();
  const std::int64_t pitch = padded(k.dim);
  const T* keys[kKeys];
  const T* ahead[kKeys];
#pragma GCC unroll 8
  for (int w = 0; w < kKeys; ++w) {
    keys[w] = k.rows[first + w] + head * k.head_stride;
    ahead[w] = row_ahead(k, first + w, head);
  }
  V sums[kRows * kKeys];
#pragma GCC unroll 16
  for (int n = 0; n < kRows * kKeys; ++n) sums[n] = hn::Zero(d);
  for_steps<Format>(k.dim, [&](std::int64_t i, auto width, const auto& load) {
    constexpr int kWidth = decltype(width)::value;
#pragma GCC unroll 8
    for (int w = 0; w < kKeys; ++w) {
      V key[kWidth];
      load(keys[w] + i, key);
      fetch(ahead[w] + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
        for (int n = 0; n < kWidth; ++n) {
          V& sum = sums[r * kKeys + w];
          sum = hn::MulAdd(hn::Load(d, q + r * pitch + i + n * kLanes), key[n], sum);
        }
      }
    }
  });
  float dots[kRows * kKeys];
#pragma GCC unroll 4
  for (int n = 0; n < kRows * kKeys; n += 4) {
    float* const to =
        kKeys % 4 == 0 ? scores + n / kKeys * kTileKeys + first + n % kKeys : dots + n;
    sum_four(sums[n], sums[n + 1], sums[n + 2], sums[n + 3], to);
  }
  if (kKeys % 4 == 0) return;
#pragma GCC unroll 16
  for (int n = 0; n < kRows * kKeys; ++n) {
    scores[n / kKeys * kTileKeys + first + n % kKeys] = dots[n];
  }
}

/// scores[row][j] = q[row] . k[j] for the kRows rows of each head; `q` has the order of steps and
/// is padded with zeros. Rows of k are known up to a multiple of dot_keys.
template <class Format, int kRows>
HWY_NOINLINE void score_few(const RowStream<typename Format::Storage>& k, const float* q,
                            float* scores) {
  const std::int64_t pitch = padded(k.dim);
  for (std::int64_t j = 0; j < k.keys; j += dot_keys<kRows>()) {
    for (std::int64_t head = 0; head < k.heads; ++head) {
      score_keys<Format, kRows>(k, j, head, q + head * kRows * pitch,
                                scores + head * kRows * kTileKeys);
    }
  }
}

/// sums[r] = (sums[r], but for the first key) + sum_j weights[r][j] * v[j] for the kRows rows of a
/// head, keys [first, end) and kWidth vectors of columns.
template <class Format, int kRows, int kWidth, class Load>
HWY_INLINE void add_strip(const RowStream<typename Format::Storage>& v, std::int64_t first,
                          std::int64_t end, std::int64_t offset, const Load& load,
                          const float* weights, float* to) {
  const F32 d;
  const std::int64_t pitch = padded(v.dim);
  V sums[kRows][kWidth];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int w = 0; w < kWidth; ++w) {
      sums[r][w] = first == 0 ? hn::Zero(d) : hn::Load(d, to + r * pitch + w * kLanes);
    }
  }
  for (std::int64_t j = first; j < end; ++j) {
    V value[kWidth];
    load(v.rows[j] + offset, value);
    const auto* const ahead = row_ahead(v, j, 0) + offset;
#pragma GCC unroll 8
    for (int w = 0; w < kWidth; w += Step<Format>::kVectors) fetch(ahead + w * kLanes);
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
    for (int w = 0; w < kWidth; ++w) hn::Store(sums[r][w], d, to + r * pitch + w * kLanes);
  }
}

/// sums[row] = sum_j weights[row][j] * v[j] for the kRows rows of each head, in the order of steps.
template <class Format, int kRows>
HWY_NOINLINE void add_values_few(const RowStream<typename Format::Storage>& v, const float* weights,
                                 float* sums) {
  const std::int64_t pitch = padded(v.dim);
  // One head's sums stay in registers: its rows are in memory's order anyway.
  const std::int64_t step = v.heads == 1 ? v.keys : kValueKeys;
  for (std::int64_t first = 0; first < v.keys; first += step) {
    const std::int64_t end = first + step < v.keys ? first + step : v.keys;
    for (std::int64_t head = 0; head < v.heads; ++head) {
      for_steps<Format, value_width<Format, kRows>()>(
          v.dim, [&](std::int64_t i, auto width, const auto& load) {
            add_strip<Format, kRows, decltype(width)::value>(
                v, first, end, head * v.head_stride + i, load, weights + head * kRows * kTileKeys,
                sums + head * kRows * pitch + i);
          });
    }
  }
}

/// Row `row` of the scores, the r-th of its head, becomes weights; kTileKeys is a multiple of every
/// lane count.
HWY_NOINLINE void weigh_few(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                            std::int64_t keys, const Scratch& s, std::int64_t row, std::int64_t r) {
  const F32 d;
  float* const scores = s.scores + row * kTileKeys;
  for (std::int64_t j = keys; j % kLanes != 0; ++j) scores[j] = kMinusInfinity;
  V largest = set(s.largest[row]);
  for (std::int64_t j = 0; j < keys; j += kLanes) {
    V score = hn::Load(d, scores + j);
    const V key = hn::Iota(d, static_cast<float>(first_key + j));
    if (rule.has_softcap) score = hn::Mul(simd::tanh(score), set(rule.softcap));
    if (rule.has_alibi) {
      score = hn::MulAdd(set(s.slope[row]), hn::Abs(hn::Sub(set(s.diagonal[r]), key)), score);
    }
    const auto is_seen = hn::And(hn::Ge(key, set(s.begin[r])), hn::Lt(key, set(s.end[r])));
    if (is_masked || j + kLanes > keys) {
      score = hn::IfThenElse(is_seen, score, set(kMinusInfinity));
    }
    hn::Store(score, d, scores + j);
    largest = max_of(largest, score);
  }
  const float before = s.largest[row];
  const float now = hn::GetLane(hn::MaxOfLanes(d, largest));
  const float offset = now == kMinusInfinity ? 0.0f : now;
  V sum = hn::Zero(d);
  for (std::int64_t j = 0; j < keys; j += kLanes) {
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
    while (first < end) {
      const T* const k_row = all_k + key_element(params, piece, params.k_strides, first);
      const T* const v_row = all_v + key_element(params, piece, params.v_strides, first);
      const std::int64_t adjacent = adjacent_keys(params, piece, first, end);
      for (std::int64_t n = 0; n < adjacent; ++n, ++known) {
        k[known] = k_row + n * params.k_strides.row;
        v[known] = v_row + n * params.v_strides.row;
      }
      first += adjacent;
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
    add_values_few<Format, kRows>({rows, v.keys, v.keys, 0, 1, 0, v.dim}, weights, sums);
    for (std::int64_t n = 0; n < list.count; ++n) {
      const auto key = static_cast<float>(tile + list.key[n]);
      widen<Format>(odd[n], v.dim, value);
      order_by_steps<Format>(value, v.dim);
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
      order_by_steps<Format>(s.q + row * pitch, params.head_dim);
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
    for (std::int64_t i = 0; i < dim_v; i += kLanes) {
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
    std::int64_t ahead = ceil_div(kAheadBytes, bytes);
    if (ahead < kValueKeys) ahead = kValueKeys;
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
    order_by_dimension<Format>(s.values + row * padded(dim_v), dim_v, result.values + n * dim_v);
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
