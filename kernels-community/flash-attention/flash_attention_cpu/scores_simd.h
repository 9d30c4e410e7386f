// SPDX-License-Identifier: Apache-2.0
// Queries and scores, whichever way round the lanes are.
#pragma once

#include "flash_attention_cpu/rows_simd.h"
#include "flash_attention_cpu/scratch.h"
#include "primitives/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

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

/// The larger one; `b` where either is NaN. A NaN that a later score hides here stays in the sum.
HWY_INLINE V max_of(V a, V b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }

HWY_INLINE float exp2_of_negative(float x) { return hn::GetLane(exp2_of_negative(set(x))); }

/// What turns a product into a score in base 2.
struct ScoreRule {
  bool has_softcap;
  bool has_alibi;
  float softcap;  // times log2(e)
  float factor;   // 1 where q already holds query_factor
};

HWY_INLINE ScoreRule score_rule(const Params& params) {
  return {params.softcap > 0.0, params.alibi_slopes != nullptr,
          static_cast<float>(params.softcap * kLog2E), 1.0f};
}

HWY_INLINE double query_factor(const Params& params) {
  return params.softcap > 0.0 ? params.scale / params.softcap : params.scale * kLog2E;
}

/// False where one of `count` elements is NaN or infinite: a weight of zero would not silence it.
template <class Format>
HWY_INLINE bool is_finite(const typename Format::Storage* row, std::int64_t count) {
  const std::int64_t lanes = lane_count();
  V sum = hn::Zero(F32());
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    sum = hn::MulAdd(Format::load(row + i), hn::Zero(F32()), sum);
  }
  if (i < count) {
    const V rest = simd::load_first<Format>(row + i, static_cast<std::size_t>(count - i));
    sum = hn::MulAdd(rest, hn::Zero(F32()), sum);
  }
  return hn::GetLane(hn::SumOfLanes(F32(), sum)) == 0.0f;
}

/// Keys of a tile.
struct KeyList {
  std::int64_t key[kTileKeys];
  std::int64_t count;
};

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
  // In fp64: a factor rounded to fp32 would err alike in all scores. Eight at a time become
  // vectors.
  const double factor = query_factor(params);
  const auto scale = [factor](float& value) {
    value = static_cast<float>(static_cast<double>(value) * factor);
  };
  std::int64_t d = 0;
  for (; d + 8 <= params.head_dim; d += 8) {
    for (int i = 0; i < 8; ++i) scale(to[d + i]);
  }
  for (; d < params.head_dim; ++d) scale(to[d]);
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
