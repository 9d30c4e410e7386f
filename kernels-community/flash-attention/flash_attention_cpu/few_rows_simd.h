// SPDX-License-Identifier: Apache-2.0
// Sequences of a few rows (decoding) read each key once from memory: lanes are dimensions.
#pragma once

#include <type_traits>

#include "flash_attention_cpu/scores_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// Rows of a sequence, heads that share keys counted, that attend_few takes.
constexpr std::int64_t kFewRows = 8;

template <class T>
HWY_INLINE void prefetch_row(const T* row, std::int64_t count) {
  const char* const bytes = reinterpret_cast<const char*>(row);
  const std::int64_t size = count * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t at = 0; at < size; at += 64) __builtin_prefetch(bytes + at);
}

constexpr std::int64_t kPrefetchRows = 12;

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

/// Pointers to the rows of k and v of a tile. `k` goes on into the next tile, to prefetch it, and
/// repeats its last row up to a multiple of dot_keys.
template <class T>
struct RowPointers {
  const T* k[2 * kTileKeys];
  const T* v[kTileKeys];
  std::int64_t k_count;
};

/// scores[r][j] = q[r] . k[j] for kRows rows; `q` is padded with zeros. Fetches v for later.
template <class Format, int kRows>
HWY_NOINLINE void score_few(const RowPointers<typename Format::Storage>& rows, std::int64_t count,
                            std::int64_t dim, std::int64_t dim_v, const float* q, float* scores) {
  const F32 d;
  constexpr int kKeys = dot_keys<kRows>();
  const std::int64_t lanes = lane_count();
  const std::int64_t pitch = padded(dim);
  for (std::int64_t j = 0; j < count; j += kKeys) {
    for (int w = 0; w < kKeys; ++w) {
      const std::int64_t ahead = j + w + kPrefetchRows;
      if (ahead < rows.k_count) prefetch_row(rows.k[ahead], dim);
      if (j + w < count) prefetch_row(rows.v[j + w], dim_v);
    }
    V sums[kKeys * kRows];
#pragma GCC unroll 16
    for (int n = 0; n < kKeys * kRows; ++n) sums[n] = hn::Zero(d);
    const auto add = [&](std::int64_t i, const auto& load) {
      V row[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) row[r] = hn::Load(d, q + r * pitch + i);
#pragma GCC unroll 8
      for (int w = 0; w < kKeys; ++w) {
        const V key = load(rows.k[j + w] + i);
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
  }
}

/// values[r] = values[r] * correction[r] + sum_j weights[r][j] * v[j].
template <class Format, int kRows>
HWY_NOINLINE void add_values_few(const typename Format::Storage* const* rows, std::int64_t count,
                                 std::int64_t dim, const float* weights, const float* correction,
                                 float* values) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  const std::int64_t pitch = padded(dim);
  constexpr int kWide = kDotSums / kRows > 4 ? 4 : kDotSums / kRows;
  const auto strip = [&](std::int64_t i, auto width, const auto& load) {
    constexpr int kWidth = decltype(width)::value;
    V sums[kRows][kWidth];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int w = 0; w < kWidth; ++w) sums[r][w] = hn::Zero(d);
    }
    for (std::int64_t j = 0; j < count; ++j) {
      V v[kWidth];
#pragma GCC unroll 8
      for (int w = 0; w < kWidth; ++w) v[w] = load(rows[j] + i + w * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const V weight = set(weights[r * kTileKeys + j]);
#pragma GCC unroll 8
        for (int w = 0; w < kWidth; ++w) sums[r][w] = hn::MulAdd(weight, v[w], sums[r][w]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int w = 0; w < kWidth; ++w) {
        float* const to = values + r * pitch + i + w * lanes;
        hn::Store(hn::MulAdd(hn::Load(d, to), set(correction[r]), sums[r][w]), d, to);
      }
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
}

/// Row r of the scores becomes weights; kTileKeys is a multiple of every lane count.
HWY_NOINLINE void weigh_few(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                            std::int64_t keys, const Scratch& s, std::int64_t r) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  float* const scores = s.scores + r * kTileKeys;
  for (std::int64_t j = keys; j % lanes != 0; ++j) scores[j] = kMinusInfinity;
  V largest = set(s.largest[r]);
  for (std::int64_t j = 0; j < keys; j += lanes) {
    V score = hn::Load(d, scores + j);
    const V key = hn::Iota(d, static_cast<float>(first_key + j));
    if (rule.has_softcap) score = hn::Mul(simd::tanh(score), set(rule.softcap));
    if (rule.has_alibi) {
      score = hn::MulAdd(set(s.slope[r]), hn::Abs(hn::Sub(set(s.diagonal[r]), key)), score);
    }
    const auto is_seen = hn::And(hn::Ge(key, set(s.begin[r])), hn::Lt(key, set(s.end[r])));
    if (is_masked || j + lanes > keys) {
      score = hn::IfThenElse(is_seen, score, set(kMinusInfinity));
    }
    hn::Store(score, d, scores + j);
    largest = max_of(largest, score);
  }
  const float before = s.largest[r];
  const float now = hn::GetLane(hn::MaxOfLanes(d, largest));
  const float offset = now == kMinusInfinity ? 0.0f : now;
  V sum = hn::Zero(d);
  for (std::int64_t j = 0; j < keys; j += lanes) {
    const V weight = exp2_of_negative(hn::Sub(hn::Load(d, scores + j), set(offset)));
    hn::Store(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  s.largest[r] = now;
  s.correction[r] = exp2_of_negative(before - offset);
  s.sum[r] = s.sum[r] * s.correction[r] + hn::GetLane(hn::SumOfLanes(d, sum));
}

/// Fills the pointers for the tile at key `tile`, of which `left` keys and more are left.
template <class T>
inline void point_at_rows(const Params& params, const Piece& piece, std::int64_t tile,
                          std::int64_t left, RowPointers<T>& rows) {
  const T* const k = static_cast<const T*>(params.k);
  const T* const v = static_cast<const T*>(params.v);
  const std::int64_t keys = left < kTileKeys ? left : kTileKeys;
  rows.k_count = left < 2 * kTileKeys ? left : 2 * kTileKeys;
  for (std::int64_t j = 0; j < rows.k_count; ++j) {
    rows.k[j] = k + key_element(params, piece, params.k_strides, tile + j);
  }
  for (std::int64_t j = 0; j < keys; ++j) {
    rows.v[j] = v + key_element(params, piece, params.v_strides, tile + j);
  }
  for (std::int64_t j = rows.k_count; j < kTileKeys; ++j) rows.k[j] = rows.k[j - 1];
}

/// add_values_few for a tile that some rows do not see all of: values that are not finite reach the
/// rows that see them alone.
template <class Format, int kRows>
HWY_NOINLINE void add_masked_values_few(RowPointers<typename Format::Storage>& rows,
                                        std::int64_t tile, std::int64_t keys, std::int64_t dim,
                                        const Scratch& s) {
  static constexpr typename Format::Storage kZeros[kMaxHeadDim]{};
  const typename Format::Storage* odd[kTileKeys];
  KeyList list;
  list.count = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    if (is_finite<Format>(rows.v[j], dim)) continue;
    odd[list.count] = rows.v[j];
    list.key[list.count++] = j;
    rows.v[j] = kZeros;
  }
  add_values_few<Format, kRows>(rows.v, keys, dim, s.scores, s.correction, s.values);
  alignas(64) float value[kMaxHeadDim];
  for (std::int64_t n = 0; n < list.count; ++n) {
    const auto key = static_cast<float>(tile + list.key[n]);
    widen<Format>(odd[n], dim, value);
    for (std::int64_t r = 0; r < kRows; ++r) {
      if (key < s.begin[r] || key >= s.end[r]) continue;
      const float weight = s.scores[r * kTileKeys + list.key[n]];
      for (std::int64_t i = 0; i < dim; ++i) s.values[r * padded(dim) + i] += weight * value[i];
    }
  }
}

template <class Format, int kRows>
inline void attend_few(const Params& params, const Piece& piece, const Scratch& s,
                       const Partial& result) {
  using T = typename Format::Storage;
  const std::int64_t dim = params.head_dim;
  const std::int64_t dim_v = params.head_dim_v;
  const Visible visible = describe_rows(params, piece, s);
  for (std::int64_t i = 0; i < kRows * padded(dim); ++i) s.q[i] = 0.0f;
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    if (s.end[r] == 0.0f) continue;
    load_query<Format>(params, piece, r, s.q + r * padded(dim));
  }
  for (std::int64_t i = 0; i < kRows * padded(dim_v); ++i) s.values[i] = 0.0f;
  const ScoreRule rule = score_rule(params);
  RowPointers<T> rows;
  for (std::int64_t tile = visible.some.begin / kTileKeys * kTileKeys; tile < visible.some.end;
       tile += kTileKeys) {
    const std::int64_t left = visible.some.end - tile;
    const std::int64_t keys = left < kTileKeys ? left : kTileKeys;
    point_at_rows(params, piece, tile, left, rows);
    score_few<Format, kRows>(rows, keys, dim, dim_v, s.q, s.scores);
    const bool is_masked = tile < visible.all.begin || tile + keys > visible.all.end;
    for (std::int64_t r = 0; r < kRows; ++r) weigh_few(rule, is_masked, tile, keys, s, r);
    if (is_masked) {
      add_masked_values_few<Format, kRows>(rows, tile, keys, dim_v, s);
    } else {
      add_values_few<Format, kRows>(rows.v, keys, dim_v, s.scores, s.correction, s.values);
    }
  }
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    result.largest[r] = s.largest[r];
    result.sum[r] = s.sum[r];
    for (std::int64_t i = 0; i < dim_v; ++i) {
      result.values[r * dim_v + i] = s.values[r * padded(dim_v) + i];
    }
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
