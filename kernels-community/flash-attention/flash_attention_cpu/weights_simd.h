// SPDX-License-Identifier: Apache-2.0
// From products to weights, with a running maximum and sum; lanes are rows, so that neither of them
// crosses lanes.
#pragma once

#include "flash_attention_cpu/products_simd.h"
#include "flash_attention_cpu/scores_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// Turns kVectors columns of products into weights 2^(score - largest), and brings largest, sum
/// and correction up to date. `Weights` says what a product lacks to be a score, and how weights
/// are kept in place of the scores.
template <class Weights, int kVectors>
HWY_INLINE void weigh_panel(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                            std::int64_t keys, const Scratch& s, std::int64_t column) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  V largest[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) largest[i] = hn::Load(d, s.largest + column + i * lanes);
  const bool is_plain = !is_masked && !rule.has_softcap && !rule.has_alibi;
  const V factor = set(rule.factor);
  for (std::int64_t j = 0; j < keys; ++j) {
    float* const row = s.scores + j * kBlockRows + column;
    const V key = set(static_cast<float>(first_key + j));
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      V score = Weights::score(hn::Load(d, row + i * lanes), factor);
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
  const V rest = is_plain ? factor : set(1.0f);  // of the factor: scores that were stored have it
  const auto weight_at = [&](std::int64_t j, int i) HWY_ATTR {
    const V product = hn::Load(d, s.scores + j * kBlockRows + column + i * lanes);
    return exp2_of_negative(Weights::below(product, rest, offset[i]));
  };
  float* const to = s.scores + column;
  std::int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const V w[4] = {weight_at(j, i), weight_at(j + 1, i), weight_at(j + 2, i),
                      weight_at(j + 3, i)};
      sum[i] = hn::Add(sum[i], hn::Add(hn::Add(w[0], w[1]), hn::Add(w[2], w[3])));
      Weights::store(w[0], w[1], j, to + i * lanes);
      Weights::store(w[2], w[3], j + 2, to + i * lanes);
    }
  }
  for (; j < keys; j += 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const V first = weight_at(j, i);
      const V second = j + 1 < keys ? weight_at(j + 1, i) : hn::Zero(d);
      sum[i] = hn::Add(hn::Add(sum[i], first), second);
      Weights::store(first, second, j, to + i * lanes);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const std::int64_t at = column + i * lanes;
    const V before = hn::Load(d, s.sum + at);
    hn::Store(hn::MulAdd(before, hn::Load(d, s.correction + at), sum[i]), d, s.sum + at);
  }
}

template <class Weights>
HWY_NOINLINE void weigh(const ScoreRule& rule, bool is_masked, std::int64_t first_key,
                        std::int64_t keys, const Scratch& s, std::int64_t rows) {
  const std::int64_t lanes = lane_count();
  std::int64_t column = 0;
  for (; column + (kPanel - 1) * lanes < rows; column += kPanel * lanes) {
    weigh_panel<Weights, kPanel>(rule, is_masked, first_key, keys, s, column);
  }
  for (; column < rows; column += lanes) {
    weigh_panel<Weights, 1>(rule, is_masked, first_key, keys, s, column);
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
