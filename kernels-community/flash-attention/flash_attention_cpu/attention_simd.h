// SPDX-License-Identifier: Apache-2.0
// Tiled attention on Highway lanes; the includer's flags choose the instruction set.
//   out = softmax(q k' scale + bias) v, one pass over the keys with a running maximum and sum
//   (M. Milakov, N. Gimelshein, arXiv:1805.02867; T. Dao et al., arXiv:2205.14135)
// Scores are kept transposed, [key, row]: lanes are rows, so that neither the maximum nor the sum
// crosses lanes, and k and v enter both products as broadcast scalars in the order that memory has.
// Everything is fp32 after the load. bf16 products are exact in fp32, and the fused multiply-adds
// of fp32 beat VDPBF16PS where that runs at a quarter of their rate (measured: 57 GFLOP/s against
// 125 on Sapphire Rapids), so bf16 has no path of its own here.
// Sequences of a few rows (decoding) read each key once from memory: lanes are dimensions there.
#pragma once

#include <cmath>

#include "flash_attention_cpu/attention_cpu.h"
#include "flash_attention_cpu/row_source.h"
#include "flash_attention_cpu/rows_simd.h"
#include "primitives/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using simd::F32;
using simd::I32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

constexpr double kLog2E = 1.4426950408889634;
constexpr float kMinusInfinity = -HUGE_VALF;
constexpr std::int64_t kFewRows = 8;

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

/// 2^x for x <= 0, zero where that is below 2^-126 (a masked score is -inf), NaN kept. Relative
/// error 2e-7 (own Remez fits).
HWY_INLINE V exp2_of_negative(V x) {
#if HWY_TARGET == HWY_AVX3
  const V r{_mm512_reduce_ps(x.raw, 1)};  // x - floor(x); zero for -inf
  V p = set(0.000217022549f);
  p = hn::MulAdd(p, r, set(0.00124396873f));
  p = hn::MulAdd(p, r, set(0.00967884064f));
  p = hn::MulAdd(p, r, set(0.0554833412f));
  p = hn::MulAdd(p, r, set(0.24022983f));
  p = hn::MulAdd(p, r, set(0.693147004f));
  p = hn::MulAdd(p, r, set(1.0f));
  return V{_mm512_scalef_ps(p.raw, x.raw)};
#else
  const V shifted = hn::Add(x, simd::constant(simd::kRounder));
  const V r = hn::Sub(x, hn::Sub(shifted, simd::constant(simd::kRounder)));
  V p = set(0.000153458124f);
  p = hn::MulAdd(p, r, set(0.00133999309f));
  p = hn::MulAdd(p, r, set(0.00961848907f));
  p = hn::MulAdd(p, r, set(0.0555032864f));
  p = hn::MulAdd(p, r, set(0.240226462f));
  p = hn::MulAdd(p, r, set(0.693147182f));
  p = hn::MulAdd(p, r, set(1.0f));
  const auto vanishes = hn::Lt(x, set(-126.0f));
  return hn::IfThenElse(vanishes, hn::Zero(F32()), hn::Mul(p, simd::power_of_two(shifted)));
#endif
}

/// The larger one; NaN where `b` is NaN.
HWY_INLINE V max_of(V a, V b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }

HWY_INLINE float exp2_of_negative(float x) { return hn::GetLane(exp2_of_negative(set(x))); }

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

// ------------------------------------------------------------------- what a row sees

/// Tile-aligned scratch of one piece.
struct Scratch {
  float* q;        // [head_dim, kBlockRows]; few rows: [kFewRows, padded head_dim]
  float* k;        // [kTileKeys, head_dim]
  float* v;        // [kTileKeys, head_dim_v]
  float* scores;   // [kTileKeys, kBlockRows]; few rows: [kFewRows, kTileKeys]
  float* values;   // [head_dim_v, kBlockRows]
  float* largest;  // the rest: [kBlockRows]
  float* sum;
  float* correction;
  float* slope;     // minus the alibi slope, base 2
  float* diagonal;  // key at distance zero
  float* begin;     // first and last visible key
  float* end;
};

constexpr std::int64_t kRowArrays = 7;

HWY_INLINE std::int64_t padded(std::int64_t dim) { return (dim + 15) / 16 * 16; }

HWY_INLINE Scratch scratch_of(const Params& params, float* memory) {
  Scratch s;
  const std::int64_t dim = padded(params.head_dim);
  const std::int64_t dim_v = padded(params.head_dim_v);
  const auto take = [&memory](std::int64_t floats) {
    float* const taken = memory;
    memory += floats;
    return taken;
  };
  s.q = take(dim * kBlockRows);
  s.k = take(kTileKeys * dim);
  s.v = take(kTileKeys * dim_v);
  s.scores = take(kTileKeys * kBlockRows);
  s.values = take(dim_v * kBlockRows);
  float** const arrays[kRowArrays] = {&s.largest,  &s.sum,   &s.correction, &s.slope,
                                      &s.diagonal, &s.begin, &s.end};
  for (float** array : arrays) *array = take(kBlockRows);
  return s;
}

/// Over the rows of a piece: keys that some see, and those that all see.
struct Visible {
  KeyRange some;
  KeyRange all;
};

/// Fills the row arrays; a key number below 2^24 is exact in fp32.
inline Visible describe_rows(const Params& params, const Piece& piece, const Scratch& s) {
  Visible visible{{piece.keys.end, piece.keys.begin}, piece.keys};
  for (std::int64_t r = 0; r < kBlockRows; ++r) {
    s.largest[r] = kMinusInfinity;
    s.sum[r] = 0.0f;
    s.begin[r] = s.end[r] = s.slope[r] = s.diagonal[r] = 0.0f;
    if (r >= piece.rows) continue;
    const RowOf row = row_of(params, piece, r);
    const KeyRange keys = visible_keys(params, piece.sequence, row.query);
    s.begin[r] = static_cast<float>(keys.begin);
    s.end[r] = static_cast<float>(keys.end);
    if (keys.begin < visible.some.begin) visible.some.begin = keys.begin;
    if (keys.end > visible.some.end) visible.some.end = keys.end;
    if (keys.begin > visible.all.begin) visible.all.begin = keys.begin;
    if (keys.end < visible.all.end) visible.all.end = keys.end;
    if (params.alibi_slopes == nullptr) continue;
    const float slope =
        params.alibi_slopes[piece.sequence.index * params.alibi_batch_stride + row.head];
    s.slope[r] = static_cast<float>(-kLog2E) * slope;
    s.diagonal[r] = static_cast<float>(row.query + piece.sequence.k_rows - piece.sequence.q_rows);
  }
  if (visible.some.begin < piece.keys.begin) visible.some.begin = piece.keys.begin;
  if (visible.some.end > piece.keys.end) visible.some.end = piece.keys.end;
  if (visible.some.begin >= visible.some.end) visible.some = {0, 0};
  return visible;
}

/// What turns a product into a score in base 2, apart from the factor that q already holds.
struct ScoreRule {
  bool has_softcap;
  bool has_alibi;
  float softcap;  // times log2(e)
};

HWY_INLINE ScoreRule score_rule(const Params& params) {
  return {params.softcap > 0.0, params.alibi_slopes != nullptr,
          static_cast<float>(params.softcap * kLog2E)};
}

HWY_INLINE double query_factor(const Params& params) {
  return params.softcap > 0.0 ? params.scale / params.softcap : params.scale * kLog2E;
}

// ------------------------------------------------------------------- loading rows

/// Row r of the piece's queries, rotated and times query_factor, into `to`.
template <class Format>
inline void load_query(const Params& params, const Piece& piece, std::int64_t r, float* to) {
  using T = typename Format::Storage;
  const RowOf row = row_of(params, piece, r);
  const T* from =
      static_cast<const T*>(params.q) + element_of(params.q_strides, piece.sequence, row);
  widen<Format>(from, params.head_dim, to);
  if (params.rotary.pairs > 0) {
    const std::int64_t first = params.rotary.first_positions[piece.sequence.index];
    rotate(params.rotary, params.rotary.advances ? first + row.query : first, to);
  }
  // In fp64: a factor rounded to fp32 would err alike in all scores.
  const double factor = query_factor(params);
  for (std::int64_t d = 0; d < params.head_dim; ++d) {
    to[d] = static_cast<float>(static_cast<double>(to[d]) * factor);
  }
}

/// Rows [begin, begin + count) of k or v as fp32, `dim` apart.
template <class Format>
inline void load_keys(const Params& params, const Piece& piece, const void* base,
                      const Strides& strides, std::int64_t dim, std::int64_t begin,
                      std::int64_t count, float* to) {
  const auto* rows = static_cast<const typename Format::Storage*>(base);
  for (std::int64_t j = 0; j < count; ++j) {
    widen<Format>(rows + key_element(params, piece, strides, begin + j), dim, to + j * dim);
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

template <class Format>
inline void attend_block(const Params& params, const Piece& piece, const Scratch& s,
                         const Partial& result) {
  const std::int64_t dim = params.head_dim;
  const std::int64_t dim_v = params.head_dim_v;
  const Visible visible = describe_rows(params, piece, s);
  for (std::int64_t i = 0; i < dim * kBlockRows; ++i) s.q[i] = 0.0f;
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    if (s.end[r] == 0.0f) continue;  // sees nothing; may be no query at all
    load_query<Format>(params, piece, r, s.k);
    for (std::int64_t i = 0; i < dim; ++i) s.q[i * kBlockRows + r] = s.k[i];
  }
  for (std::int64_t i = 0; i < dim_v * kBlockRows; ++i) s.values[i] = 0.0f;
  const ScoreRule rule = score_rule(params);
  for (std::int64_t tile = visible.some.begin / kTileKeys * kTileKeys; tile < visible.some.end;
       tile += kTileKeys) {
    const std::int64_t left = visible.some.end - tile;
    const std::int64_t keys = left < kTileKeys ? left : kTileKeys;
    load_keys<Format>(params, piece, params.k, params.k_strides, dim, tile, keys, s.k);
    product({s.k, dim, 1, keys, dim, s.q, s.scores, nullptr}, piece.rows);
    const bool is_masked = tile < visible.all.begin || tile + keys > visible.all.end;
    weigh(rule, is_masked, tile, keys, s, piece.rows);
    load_keys<Format>(params, piece, params.v, params.v_strides, dim_v, tile, keys, s.v);
    product({s.v, 1, dim_v, dim_v, keys, s.scores, s.values, s.correction}, piece.rows);
  }
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    result.largest[r] = s.largest[r];
    result.sum[r] = s.sum[r];
    for (std::int64_t i = 0; i < dim_v; ++i) {
      result.values[r * dim_v + i] = s.values[i * kBlockRows + r];
    }
  }
}

// ------------------------------------------------------------------- few rows, lanes are
// dimensions

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
#if HWY_TARGET == HWY_AVX3
constexpr int kDotSums = 16;
#elif HWY_TARGET == HWY_AVX2
constexpr int kDotSums = 8;
#else
constexpr int kDotSums = 8;
#endif

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
    add_values_few<Format, kRows>(rows.v, keys, dim_v, s.scores, s.correction, s.values);
  }
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    result.largest[r] = s.largest[r];
    result.sum[r] = s.sum[r];
    for (std::int64_t i = 0; i < dim_v; ++i) {
      result.values[r * dim_v + i] = s.values[r * padded(dim_v) + i];
    }
  }
}

// ------------------------------------------------------------------- a piece, start to end

template <class Format>
inline void attend_format(const Params& params, const Piece& piece, const Scratch& s,
                          const Partial& result) {
  // By the rows of the sequence, not of the piece: a row's result depends on its sequence only.
  const std::int64_t rows = piece.sequence.q_allocated * (params.heads_q / params.heads_k);
  if (rows > kFewRows) return attend_block<Format>(params, piece, s, result);
  if (rows == 1) return attend_few<Format, 1>(params, piece, s, result);
  if (rows == 2) return attend_few<Format, 2>(params, piece, s, result);
  if (rows <= 4) return attend_few<Format, 4>(params, piece, s, result);
  return attend_few<Format, 8>(params, piece, s, result);
}

inline void attend(const Params& params, const Piece& piece, float* scratch,
                   const Partial& result) {
  const Scratch s = scratch_of(params, scratch);
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return attend_format<simd::Float16>(params, piece, s, result);
    case primitives::DType::kBFloat16:
      return attend_format<simd::BFloat16>(params, piece, s, result);
    default:
      return attend_format<simd::Float32>(params, piece, s, result);
  }
}

template <class Format>
inline void finish_format(const Params& params, const Piece& piece, const Partial& result) {
  using T = typename Format::Storage;
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    const RowOf row = row_of(params, piece, r);
    T* const to = static_cast<T*>(params.out) + element_of(params.out_strides, piece.sequence, row);
    float* const lse = lse_of(params, piece.sequence, row);
    if (result.largest[r] == kMinusInfinity) {
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
