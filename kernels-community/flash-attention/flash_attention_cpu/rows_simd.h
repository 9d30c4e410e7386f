// SPDX-License-Identifier: Apache-2.0
// Rows of q, k, v and out between their dtype and fp32, and their rotation.
#pragma once

#include "flash_attention/params.h"
#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using simd::F32;
using simd::V;

namespace {

HWY_INLINE std::int64_t lane_count() { return static_cast<std::int64_t>(hn::Lanes(F32())); }

HWY_INLINE V set(float value) { return hn::Set(F32(), value); }

/// Rotates pairs of `row` in place by the angles of `position`.
template <class Format>
inline void rotate(const Rotary& rotary, std::int64_t position, float* row) {
  using T = typename Format::Storage;
  const T* cos = static_cast<const T*>(rotary.cos) + position * rotary.row_stride;
  const T* sin = static_cast<const T*>(rotary.sin) + position * rotary.row_stride;
  for (std::int64_t i = 0; i < rotary.pairs; ++i) {
    float& first = row[rotary.is_interleaved ? 2 * i : i];
    float& second = row[rotary.is_interleaved ? 2 * i + 1 : i + rotary.pairs];
    const float c = hn::GetLane(simd::load_first<Format>(cos + i, 1));
    const float s = hn::GetLane(simd::load_first<Format>(sin + i, 1));
    const float x = first;
    const float y = second;
    first = x * c - y * s;
    second = x * s + y * c;
  }
}

inline void rotate(const Rotary& rotary, std::int64_t position, float* row) {
  switch (rotary.dtype) {
    case primitives::DType::kFloat16:
      return rotate<simd::Float16>(rotary, position, row);
    case primitives::DType::kBFloat16:
      return rotate<simd::BFloat16>(rotary, position, row);
    default:
      return rotate<simd::Float32>(rotary, position, row);
  }
}

/// Widens `count` elements; to[count, padded(count)) is not touched.
template <class Format>
HWY_INLINE void widen(const typename Format::Storage* HWY_RESTRICT from, std::int64_t count,
                      float* HWY_RESTRICT to) {
  const std::int64_t lanes = lane_count();
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(Format::load(from + i), F32(), to + i);
  if (i == count) return;
  const auto rest = static_cast<std::size_t>(count - i);
  simd::store_first<simd::Float32>(simd::load_first<Format>(from + i, rest), to + i, rest);
}

/// Rounds `count` values times `factor`.
template <class Format>
inline void store_row(const float* values, float factor, std::int64_t count,
                      typename Format::Storage* to) {
  const std::int64_t lanes = lane_count();
  const V f = set(factor);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    Format::store(hn::Mul(hn::LoadU(F32(), values + i), f), to + i);
  }
  if (i == count) return;
  const auto rest = static_cast<std::size_t>(count - i);
  const V v = hn::Mul(simd::load_first<simd::Float32>(values + i, rest), f);
  simd::store_first<Format>(v, to + i, rest);
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
