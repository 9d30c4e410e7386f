// SPDX-License-Identifier: Apache-2.0
// Attention of bf16 by dot products of pairs (AVX512_BF16, AMX): a 32-bit word holds two
// consecutive steps of a product, the earlier one in its lower half. q takes the power of two of
// its factor, which rounds nothing; weights are rounded to bf16 before they meet v; sums are fp32,
// and so is all between. The instructions take subnormal numbers for zero, and make zero of
// products and sums that are.
//
//   s.k       [kTileKeys, key_words], words of two dimensions      s.q  [key_words, kBlockRows]
//   s.v       [head_dim_v, kTileKeys / 2], words of two keys   weights  [kTileKeys / 2, kBlockRows]
//
// Rows of words are padded with zeros to whole kStepWords, so that tiles need no rest: AMX's rows
// of a are rows of s.k and s.v, its pairs of b are rows of s.q and of the weights.
#pragma once

#include <cmath>
#include <cstring>

#include "flash_attention_cpu/blocks_simd.h"

#if HWY_TARGET != HWY_AVX3 || !defined(__AVX512BF16__)
#error "compile this file with the flags of build.toml"
#endif

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

using Words = hn::ScalableTag<std::uint32_t>;
using Halves = hn::ScalableTag<std::uint16_t>;
using Doubles = hn::ScalableTag<std::uint64_t>;

/// Words that a tile multiplication takes at once: 64 bytes of a row of a.
constexpr std::int64_t kStepWords = 16;
/// bf16 numbers in them.
constexpr std::int64_t kStepHalves = 2 * kStepWords;

inline std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return ceil_div(value, to) * to;
}

/// Words of a row of s.k.
inline std::int64_t key_words(const Params& params) {
  return round_up(params.head_dim, kStepHalves) / 2;
}

/// Elements are words of two bf16 numbers.
struct PairArithmetic {
  static HWY_INLINE V add_product(V a, V b, V sum) {
    return V{_mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw),
                              reinterpret_cast<__m512bh>(b.raw))};
  }
};

/// Copies `count` numbers, and zeros up to a multiple of kStepHalves; `to` is aligned to 64 bytes.
HWY_INLINE void copy_row(const std::uint16_t* from, std::int64_t count, std::uint16_t* to) {
  const Halves d;
  std::int64_t i = 0;
  for (; i + kStepHalves <= count; i += kStepHalves) hn::Store(hn::LoadU(d, from + i), d, to + i);
  if (i == count) return;
  const auto rest = hn::FirstN(d, static_cast<std::size_t>(count - i));
  hn::Store(hn::MaskedLoad(rest, d, from + i), d, to + i);
}

HWY_INLINE void clear_row(std::int64_t count, std::uint16_t* to) {
  const Halves d;
  for (std::int64_t i = 0; i < count; i += kStepHalves) hn::Store(hn::Zero(d), d, to + i);
}

/// The power of two in query_factor. Without it products of q and k could overflow, or vanish,
/// where scores do not.
inline float query_power(const Params& params) {
  const double factor = std::fabs(query_factor(params));
  if (!(factor > 0.0 && factor < HUGE_VAL)) return 1.0f;
  const int exponent = std::ilogb(factor);
  return std::ldexp(1.0f, exponent < -126 ? -126 : exponent > 127 ? 127 : exponent);
}

/// Multiplies `count` numbers, and the zeros behind them up to a multiple of kStepHalves.
HWY_INLINE void multiply_row(std::int64_t count, V by, std::uint16_t* row) {
  using Format = simd::BFloat16;
  for (std::int64_t i = 0; i < count; i += kStepWords) {
    Format::store(hn::Mul(Format::load(row + i), by), row + i);
  }
}

/// Rows of kMaxHeadDim numbers on their way to columns.
using RowBuffer = std::uint16_t[kStepHalves][kMaxHeadDim];

/// 16 bytes each of the rows first, first + step, first + 2 * step and first + 3 * step.
HWY_INLINE hn::Vec<Halves> four_chunks(const RowBuffer& rows, std::int64_t first, std::int64_t step,
                                       std::int64_t at) {
  const hn::Full128<std::uint16_t> d;
  const hn::Full256<std::uint16_t> d2;
  const auto chunk = [&](std::int64_t n)
                         HWY_ATTR { return hn::Load(d, rows[first + n * step] + at); };
  return hn::Combine(Halves(), hn::Combine(d2, chunk(3), chunk(2)),
                     hn::Combine(d2, chunk(1), chunk(0)));
}

template <class D, class From>
HWY_INLINE hn::Vec<Halves> lower(D d, From a, From b) {
  return hn::BitCast(Halves(), hn::InterleaveLower(d, hn::BitCast(d, a), hn::BitCast(d, b)));
}
template <class D, class From>
HWY_INLINE hn::Vec<Halves> upper(D d, From a, From b) {
  return hn::BitCast(Halves(), hn::InterleaveUpper(d, hn::BitCast(d, a), hn::BitCast(d, b)));
}

/// to[i * pitch + row] = rows[row][column + i] for 32 rows and 8 columns.
HWY_INLINE void transpose_halves(const RowBuffer& rows, std::int64_t column, std::int64_t pitch,
                                 std::uint16_t* to) {
  hn::Vec<Halves> a[8];
  hn::Vec<Halves> b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = four_chunks(rows, i, 8, column);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    b[i] = lower(Halves(), a[i], a[i + 1]);
    b[i + 1] = upper(Halves(), a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int from = i / 2 * 4 + i % 2;
    a[2 * i] = lower(Words(), b[from], b[from + 2]);
    a[2 * i + 1] = upper(Words(), b[from], b[from + 2]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    hn::Store(lower(Doubles(), a[i], a[i + 4]), Halves(), to + 2 * i * pitch);
    hn::Store(upper(Doubles(), a[i], a[i + 4]), Halves(), to + (2 * i + 1) * pitch);
  }
}

/// The same for 16 rows and 4 columns of words; `pitch` in words.
HWY_INLINE void transpose_words(const RowBuffer& rows, std::int64_t column, std::int64_t pitch,
                                float* to) {
  hn::Vec<Halves> a[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) a[i] = four_chunks(rows, i, 4, 2 * column);
  const auto store = [&](hn::Vec<Halves> row, int i)
                         HWY_ATTR { hn::Store(hn::BitCast(F32(), row), F32(), to + i * pitch); };
  const auto low01 = lower(Words(), a[0], a[1]);
  const auto low23 = lower(Words(), a[2], a[3]);
  const auto high01 = upper(Words(), a[0], a[1]);
  const auto high23 = upper(Words(), a[2], a[3]);
  store(lower(Doubles(), low01, low23), 0);
  store(upper(Doubles(), low01, low23), 1);
  store(lower(Doubles(), high01, high23), 2);
  store(upper(Doubles(), high01, high23), 3);
}

/// Words of two keys' weights, in place of the first half of the scores.
struct PairWeights {
  static HWY_INLINE V score(V product, V factor) { return hn::Mul(product, factor); }
  /// Rounded once, unlike the largest score: the weight of that one may exceed 1 by a rounding.
  static HWY_INLINE V below(V product, V factor, V offset) {
    return hn::MulSub(product, factor, offset);
  }

  /// The scores of both keys and of all before them have been read.
  static HWY_INLINE void store(V first, V second, std::int64_t key, float* column) {
    alignas(64) static constexpr std::uint16_t kInterleaved[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.raw, first.raw));
    const __m512i words = _mm512_permutexvar_epi16(_mm512_load_si512(kInterleaved), both);
    hn::Store(V{_mm512_castsi512_ps(words)}, F32(), column + key / 2 * kBlockRows);
  }

  static float at(const Scratch& s, std::int64_t key, std::int64_t row) {
    std::uint32_t word;
    std::memcpy(&word, s.scores + key / 2 * kBlockRows + row, sizeof word);
    word = key % 2 == 0 ? word << 16 : word & 0xffff0000u;
    float weight;
    std::memcpy(&weight, &word, sizeof weight);
    return weight;
  }
};

/// See blocks_simd.h. `Multiply::product(Product, rows)` multiplies pairs.
template <class Multiply>
struct PairOperands {
  using Format = simd::BFloat16;
  using Weights = PairWeights;

  static ScoreRule rule(const Params& params) {
    ScoreRule rule = score_rule(params);
    rule.factor = static_cast<float>(query_factor(params) / query_power(params));
    return rule;
  }

  static void load_queries(const Params& params, const Piece& rows, const Scratch& s) {
    const auto* q = static_cast<const std::uint16_t*>(params.q);
    const std::int64_t words = key_words(params);
    const V power = set(query_power(params));
    alignas(64) RowBuffer buffer;
    for (std::int64_t begin = 0; begin < kBlockRows; begin += kStepWords) {
      for (std::int64_t n = 0; n < kStepWords; ++n) {
        const std::int64_t r = begin + n;
        if (s.end[r] == 0.0f) {  // sees nothing; may be no query at all
          clear_row(params.head_dim, buffer[n]);
          continue;
        }
        const RowOf row = row_of(params, rows, r);
        copy_row(q + element_of(params.q_strides, rows.sequence, row), params.head_dim, buffer[n]);
        multiply_row(params.head_dim, power, buffer[n]);
      }
      for (std::int64_t w = 0; w < words; w += 4) {
        transpose_words(buffer, w, kBlockRows, s.q + w * kBlockRows + begin);
      }
    }
  }

  static HWY_NOINLINE void load_tile(const Params& params, const Piece& piece, std::int64_t tile,
                                     std::int64_t keys, const Scratch& s) {
    const auto* k_rows = static_cast<const std::uint16_t*>(params.k);
    const std::int64_t pitch = 2 * key_words(params);
    auto* const k = reinterpret_cast<std::uint16_t*>(s.k);
    for (std::int64_t j = 0; j < keys; ++j) {
      copy_row(k_rows + key_element(params, piece, params.k_strides, tile + j), params.head_dim,
               k + j * pitch);
    }
    const auto* v_rows = static_cast<const std::uint16_t*>(params.v);
    auto* const v = reinterpret_cast<std::uint16_t*>(s.v);
    alignas(64) RowBuffer buffer;
    for (std::int64_t begin = 0; begin < keys; begin += kStepHalves) {
      for (std::int64_t n = 0; n < kStepHalves; ++n) {
        if (begin + n >= keys) {
          clear_row(params.head_dim_v, buffer[n]);
          continue;
        }
        copy_row(v_rows + key_element(params, piece, params.v_strides, tile + begin + n),
                 params.head_dim_v, buffer[n]);
      }
      for (std::int64_t i = 0; i < padded(params.head_dim_v); i += 8) {
        transpose_halves(buffer, i, kTileKeys, v + i * kTileKeys + begin);
      }
    }
  }

  static HWY_NOINLINE KeyList without_odd_values(const Params& params, const Piece& piece,
                                                 std::int64_t tile, std::int64_t keys,
                                                 const Scratch& s) {
    const auto* rows = static_cast<const std::uint16_t*>(params.v);
    auto* const v = reinterpret_cast<std::uint16_t*>(s.v);
    KeyList odd;
    odd.count = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      const auto* row = rows + key_element(params, piece, params.v_strides, tile + j);
      if (is_finite<Format>(row, params.head_dim_v)) continue;
      odd.key[odd.count++] = j;
      for (std::int64_t i = 0; i < params.head_dim_v; ++i) {
        std::memset(v + i * kTileKeys + j, 0, sizeof *v);
      }
    }
    return odd;
  }

  static void multiply_keys(const Params& params, std::int64_t keys, std::int64_t rows,
                            const Scratch& s) {
    Multiply::product(
        {s.k, key_words(params), 1, keys, ceil_div(params.head_dim, 2), s.q, s.scores, nullptr},
        rows);
  }

  static void multiply_values(const Params& params, std::int64_t keys, std::int64_t rows,
                              const Scratch& s) {
    const std::int64_t words = ceil_div(keys, 2);
    for (std::int64_t j = words; j < round_up(words, kStepWords); ++j) {
      for (std::int64_t r = 0; r < kBlockRows; ++r) s.scores[j * kBlockRows + r] = 0.0f;
    }
    Multiply::product(
        {s.v, kTileKeys / 2, 1, params.head_dim_v, words, s.scores, s.values, s.correction}, rows);
  }
};

/// Queries that are rotated here have more digits than bf16; few rows read their keys where they
/// are.
inline bool multiplies_pairs(const Params& params, const Piece& piece) {
  const std::int64_t rows = piece.sequence.q_allocated * (params.heads_q / params.heads_k);
  return params.dtype == primitives::DType::kBFloat16 && params.rotary.pairs == 0 &&
         rows > kFewRows;
}

/// Attends by pairs where that is possible, with the kernels of AVX-512 elsewhere. While a
/// Multiply::Setup lives, the calling thread can multiply.
template <class Multiply>
inline void attend_pairs(const Params& params, const Piece& piece, float* scratch,
                         const Partial& result) {
  if (!multiplies_pairs(params, piece)) {
    return kAvx512Kernels.attend(params, piece, scratch, result);
  }
  [[maybe_unused]] const typename Multiply::Setup setup;
  attend_blocks<PairOperands<Multiply>>(params, piece, scratch, result);
}

inline void finish_pairs(const Params& params, const Piece& piece, const Partial& result) {
  kAvx512Kernels.finish(params, piece, result);
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
