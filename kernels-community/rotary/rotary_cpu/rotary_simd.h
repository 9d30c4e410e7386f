// SPDX-License-Identifier: Apache-2.0
// Rotation on Highway lanes; the includer's flags choose the instruction set. out1 = x1 c - x2 s
// and out2 = x1 s + x2 c in fp32, rounded once to the dtype. Build with -ffp-contract=off: both
// products are rounded before they are added, so that fp32 results are those of the composed
// formula.
#pragma once

#include "primitives/simd_float.h"
#include "rotary/params.h"
#include "rotary_cpu/row_walk.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::rotary::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using cpu::Row;
using simd::F32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// fp32 cos and sin of bf16 tensors: a NaN loses its last bits, which BFloat16 asks for.
struct PlainNan {
  using Storage = float;
  static HWY_INLINE V load(const float* HWY_RESTRICT from) {
    const V value = hn::LoadU(F32(), from);
    // hn::NaN has all of its last bits set.
    const V nan = hn::BitCast(F32(), hn::Set(simd::U32(), 0x7fc00000u));
    return hn::IfThenElse(hn::IsNaN(value), nan, value);
  }
};

template <class Format, class Table>
using RowOf = Row<typename Format::Storage, typename Table::Storage>;

template <class Format>
HWY_INLINE V load_some(const typename Format::Storage* from, std::int64_t count) {
  if (count >= static_cast<std::int64_t>(hn::Lanes(F32()))) return Format::load(from);
  return simd::load_first<Format>(from, static_cast<std::size_t>(count < 0 ? 0 : count));
}

template <class Format>
HWY_INLINE void store_some(V value, typename Format::Storage* to, std::int64_t count) {
  if (count >= static_cast<std::int64_t>(hn::Lanes(F32()))) return Format::store(value, to);
  simd::store_first<Format>(value, to, static_cast<std::size_t>(count < 0 ? 0 : count));
}

/// Halves. `flip` is the sign bit in every lane for conj.
template <class Format, class Table>
HWY_INLINE void rotate_halves(const RowOf<Format, Table>& row, std::int64_t half, V flip) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  std::int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const V c = Table::load(row.cos + i);
    const V s = hn::Xor(Table::load(row.sin + i), flip);
    const V x1 = Format::load(row.x1 + i);
    const V x2 = Format::load(row.x2 + i);
    Format::store(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)), row.out1 + i);
    Format::store(hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), row.out2 + i);
  }
  if (i == half) return;
  const std::int64_t rest = half - i;
  const V c = load_some<Table>(row.cos + i, rest);
  const V s = hn::Xor(load_some<Table>(row.sin + i, rest), flip);
  const V x1 = load_some<Format>(row.x1 + i, rest);
  const V x2 = load_some<Format>(row.x2 + i, rest);
  store_some<Format>(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)), row.out1 + i, rest);
  store_some<Format>(hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), row.out2 + i, rest);
}

#if HWY_TARGET == HWY_SCALAR
/// Interleaved pairs.
template <class Format, class Table>
HWY_INLINE void rotate_interleaved(const RowOf<Format, Table>& row, std::int64_t half, V flip) {
  for (std::int64_t i = 0; i < half; ++i) {
    const V c = Table::load(row.cos + i);
    const V s = hn::Xor(Table::load(row.sin + i), flip);
    const V x1 = Format::load(row.x1 + 2 * i);
    const V x2 = Format::load(row.x2 + 2 * i);
    Format::store(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)), row.out1 + 2 * i);
    Format::store(hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), row.out2 + 2 * i);
  }
}
#else
/// Every value of a vector twice, in two vectors.
struct Doubled {
  V low, high;
};

HWY_INLINE Doubled doubled(V value) {
  constexpr std::size_t kMost = hn::MaxLanes(F32());
  HWY_ALIGN std::int32_t low[kMost];
  HWY_ALIGN std::int32_t high[kMost];
  const std::size_t lanes = hn::Lanes(F32());
  for (std::size_t i = 0; i < lanes; ++i) {
    low[i] = static_cast<std::int32_t>(i / 2);
    high[i] = static_cast<std::int32_t>((lanes + i) / 2);
  }
  return {hn::TableLookupLanes(value, hn::SetTableIndices(F32(), low)),
          hn::TableLookupLanes(value, hn::SetTableIndices(F32(), high))};
}

/// Pairs (x1, x2) times c, plus swapped pairs times (-s, s).
HWY_INLINE V rotate_pairs(V x, V c, V s) {
  return hn::Add(hn::Mul(x, c), hn::Mul(hn::Reverse2(F32(), x), s));
}

/// Interleaved pairs.
template <class Format, class Table>
HWY_INLINE void rotate_interleaved(const RowOf<Format, Table>& row, std::int64_t half, V flip) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
  const V signs = hn::Xor(flip, hn::OddEven(hn::Zero(F32()), hn::Set(F32(), -0.0f)));
  for (std::int64_t i = 0; i < half; i += lanes) {
    const std::int64_t rest = half - i;
    const Doubled c = doubled(load_some<Table>(row.cos + i, rest));
    const Doubled s = doubled(load_some<Table>(row.sin + i, rest));
    const auto* x = row.x1 + 2 * i;
    auto* out = row.out1 + 2 * i;
    const V low = load_some<Format>(x, 2 * rest);
    const V high = load_some<Format>(x + lanes, 2 * rest - lanes);
    store_some<Format>(rotate_pairs(low, c.low, hn::Xor(s.low, signs)), out, 2 * rest);
    store_some<Format>(rotate_pairs(high, c.high, hn::Xor(s.high, signs)), out + lanes,
                       2 * rest - lanes);
  }
}
#endif

template <class Format, class Table>
inline void apply_formats(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  using S = typename Table::Storage;
  const std::int64_t half = params.half;
  const V flip = params.conj ? hn::Set(F32(), -0.0f) : hn::Zero(F32());
  if (params.interleaved) {
    cpu::walk_rows<T, S>(params, begin, end, [half, flip](const Row<T, S>& row) {
      rotate_interleaved<Format, Table>(row, half, flip);
    });
  } else {
    cpu::walk_rows<T, S>(params, begin, end, [half, flip](const Row<T, S>& row) {
      rotate_halves<Format, Table>(row, half, flip);
    });
  }
}

/// dtype is fp32, fp16 or bf16.
inline void apply(const Params& params, std::int64_t begin, std::int64_t end) {
  const bool has_fp32_table = params.table_dtype == primitives::DType::kFloat32;
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      if (has_fp32_table) return apply_formats<simd::Float16, simd::Float32>(params, begin, end);
      return apply_formats<simd::Float16, simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      if (has_fp32_table) return apply_formats<simd::BFloat16, PlainNan>(params, begin, end);
      return apply_formats<simd::BFloat16, simd::BFloat16>(params, begin, end);
    default:
      return apply_formats<simd::Float32, simd::Float32>(params, begin, end);
  }
}

}  // namespace
}  // namespace kernelhub::rotary::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
