// SPDX-License-Identifier: Apache-2.0
// Look-ups of 16-bit values on Highway lanes; the includer's flags choose the instruction set.
#pragma once

#include <type_traits>

#include "activation_cpu/look_up.h"
#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::activation::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using simd::F32;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

template <class Format>
struct DerivativeBatch {
  simd::Batch<Format> slopes, values;
};

struct DerivativeLanes {
  V slopes, values;
};

#if HWY_TARGET == HWY_SCALAR

/// The numbers of the first `count` elements in their order; the other lanes are any of the table.
HWY_INLINE V look_up_first(const std::uint16_t* from, std::size_t, const float* table) {
  return hn::Set(F32(), table[*from]);
}
HWY_INLINE DerivativeLanes look_up_first(const std::uint16_t* from, std::size_t,
                                         const cpu::Derivative* table) {
  return {hn::Set(F32(), table[*from].slope), hn::Set(F32(), table[*from].value)};
}

/// A batch is one element here.
struct Loads {
  template <class Format>
  static HWY_INLINE simd::Batch<Format> batch(const std::uint16_t* from,
                                              const std::uint16_t* table) {
    return {{Format::load(table + *from)}};
  }
  template <class Format>
  static HWY_INLINE simd::Batch<Format> batch(const std::uint16_t* from, const float* table) {
    return {{hn::Set(F32(), table[*from])}};
  }
  template <class Format>
  static HWY_INLINE DerivativeBatch<Format> batch(const std::uint16_t* from,
                                                  const cpu::Derivative* table) {
    const cpu::Derivative found = table[*from];
    return {{{hn::Set(F32(), found.slope)}}, {{hn::Set(F32(), found.value)}}};
  }
  static HWY_INLINE void line(const std::uint16_t* from, std::uint16_t* to,
                              const std::uint16_t* table, bool streams) {
    cpu::look_up_line(from, to, table, streams);
  }
};

#else

/// fp32 lanes from the lowest on, four each.
HWY_INLINE V lanes_of(const __m128* four) {
  const __m256 lower = _mm256_set_m128(four[1], four[0]);
#if HWY_TARGET == HWY_AVX3
  const __m256 upper = _mm256_set_m128(four[3], four[2]);
  return V{_mm512_insertf32x8(_mm512_castps256_ps512(lower), upper, 1)};
#else
  return V{lower};
#endif
}

/// look_up_four of elements from the i-th one on, of which only the first `count` may be read; what
/// stands for the others is any of the table.
template <class Table>
HWY_INLINE auto look_up_some(const std::uint16_t* from, std::size_t count, std::size_t i,
                             const Table* table) {
  if (i + 4 <= count) return cpu::look_up_four<1, 0>(from + i, table);
  const auto index = [&](std::size_t k) -> std::uint64_t { return k < count ? from[k] : 0; };
  return cpu::numbers_at(index(i), index(i + 1), index(i + 2), index(i + 3), table);
}

constexpr int kFours = static_cast<int>(hn::MaxLanes(F32())) / 4;

/// The numbers of the first `count` elements in their order; the other lanes are any of the table.
/// They go from register to register: a vector could not be loaded from where they were just stored
/// one by one before all of these stores are done, which took rows of a few columns twice as long.
HWY_INLINE V look_up_first(const std::uint16_t* from, std::size_t count, const float* table) {
  __m128 four[kFours];
#pragma GCC unroll 4
  for (int i = 0; i < kFours; ++i) four[i] = look_up_some(from, count, 4 * i, table);
  return lanes_of(four);
}
HWY_INLINE DerivativeLanes look_up_first(const std::uint16_t* from, std::size_t count,
                                         const cpu::Derivative* table) {
  __m128 slopes[kFours], values[kFours];
#pragma GCC unroll 4
  for (int i = 0; i < kFours; ++i) {
    const auto four = look_up_some(from, count, 4 * i, table);
    slopes[i] = four.slopes;
    values[i] = four.values;
  }
  return {lanes_of(slopes), lanes_of(values)};
}

/// table[from[i]] for the elements of a batch, one load after the other.
struct Loads {
  template <class Format>
  static HWY_INLINE simd::Batch<Format> batch(const std::uint16_t* from,
                                              const std::uint16_t* table) {
    const auto lower = half(from, table), upper = half(from + hn::MaxLanes(F32()), table);
    if constexpr (std::is_same_v<Format, simd::Float16>) {
      return {{Format::widen(lower), Format::widen(upper)}};
    } else {
      return Format::unpacked(hn::Combine(simd::Packed16(), upper, lower));
    }
  }
  template <class Format>
  static HWY_INLINE simd::Batch<Format> batch(const std::uint16_t* from, const float* table) {
    __m128 four[2][kFours];
#pragma GCC unroll 4
    for (int i = 0; i < kFours; ++i) {
      four[0][i] = cpu::look_up_four<step<Format>, 0>(from + place<Format>(0, i), table);
      four[1][i] = cpu::look_up_four<step<Format>, 1>(from + place<Format>(1, i), table);
    }
    return {{lanes_of(four[0]), lanes_of(four[1])}};
  }
  template <class Format>
  static HWY_INLINE DerivativeBatch<Format> batch(const std::uint16_t* from,
                                                  const cpu::Derivative* table) {
    __m128 slopes[2][kFours], values[2][kFours];
#pragma GCC unroll 4
    for (int i = 0; i < kFours; ++i) {
      const auto first = cpu::look_up_four<step<Format>, 0>(from + place<Format>(0, i), table);
      const auto second = cpu::look_up_four<step<Format>, 1>(from + place<Format>(1, i), table);
      slopes[0][i] = first.slopes;
      values[0][i] = first.values;
      slopes[1][i] = second.slopes;
      values[1][i] = second.values;
    }
    return {{{lanes_of(slopes[0]), lanes_of(slopes[1])}},
            {{lanes_of(values[0]), lanes_of(values[1])}}};
  }
  static HWY_INLINE void line(const std::uint16_t* from, std::uint16_t* to,
                              const std::uint16_t* table, bool streams) {
    cpu::look_up_line(from, to, table, streams);
  }

 private:
  /// As many values as there are fp32 lanes.
  static HWY_INLINE hn::Vec<simd::U16> half(const std::uint16_t* from, const std::uint16_t* table) {
    const __m128i eight = cpu::look_up_eight(from, table);
#if HWY_TARGET == HWY_AVX3
    return hn::Vec<simd::U16>{_mm256_set_m128i(cpu::look_up_eight(from + 8, table), eight)};
#else
    return hn::Vec<simd::U16>{eight};
#endif
  }

  /// The lanes of a vector are elements so far apart: those of bf16 are all even or all odd ones.
  template <class Format>
  static constexpr int step = std::is_same_v<Format, simd::BFloat16> ? 2 : 1;

  /// Where the elements of the `i`-th four lanes of vector `v` begin.
  template <class Format>
  static constexpr int place(int v, int i) {
    return step<Format> == 2 ? 8 * i : 4 * (kFours * v + i);
  }
};

/// The same with gathers of 32 bits; of a 16-bit value's, the upper half belongs to the next one.
struct Gathers {
  template <class Format>
  static HWY_INLINE simd::Batch<Format> batch(const std::uint16_t* from,
                                              const std::uint16_t* table) {
    return Format::unpacked(packed(from, table));
  }
  template <class Format>
  static HWY_INLINE simd::Batch<Format> batch(const std::uint16_t* from, const float* table) {
    simd::Batch<Format> found;
    for (int v = 0; v < Format::kVectors; ++v) {
      found.of[v] = hn::GatherIndex(F32(), table, numbers<Format>(from, v));
    }
    return found;
  }
  template <class Format>
  static HWY_INLINE DerivativeBatch<Format> batch(const std::uint16_t* from,
                                                  const cpu::Derivative* table) {
    DerivativeBatch<Format> found;
    for (int v = 0; v < Format::kVectors; ++v) {
      const auto first = hn::ShiftLeft<1>(numbers<Format>(from, v));
      found.slopes.of[v] = hn::GatherIndex(F32(), &table->slope, first);
      found.values.of[v] = hn::GatherIndex(F32(), &table->value, first);
    }
    return found;
  }
  static HWY_INLINE void line(const std::uint16_t* from, std::uint16_t* to,
                              const std::uint16_t* table, bool streams) {
    constexpr auto kStep = static_cast<std::int64_t>(hn::MaxLanes(simd::Packed16()));
    for (std::int64_t i = 0; i < cpu::kLine; i += kStep) {
      const auto values = packed(from + i, table);
      streams ? hn::Stream(values, simd::Packed16(), to + i)
              : hn::StoreU(values, simd::Packed16(), to + i);
    }
  }

 private:
  /// A vector of memory.
  static HWY_INLINE hn::Vec<simd::Packed16> packed(const std::uint16_t* from,
                                                   const std::uint16_t* table) {
    const simd::Packed16 d;
    const simd::I32 offsets;
    const auto* base = reinterpret_cast<const std::int32_t*>(table);
    const auto index = hn::BitCast(simd::U32(), hn::LoadU(d, from));
    // In bytes, of the even and of the odd elements.
    const auto even = hn::ShiftRight<15>(hn::ShiftLeft<16>(index));
    const auto odd = hn::And(hn::ShiftRight<15>(index), hn::Set(simd::U32(), 0x1fffe));
    const auto low = hn::GatherOffset(offsets, base, hn::BitCast(offsets, even));
    const auto high = hn::GatherOffset(offsets, base, hn::BitCast(offsets, odd));
    return hn::OddEven(hn::BitCast(d, hn::ShiftLeft<16>(high)), hn::BitCast(d, low));
  }

  /// The indices for vector `v` of a batch.
  template <class Format>
  static HWY_INLINE hn::Vec<simd::I32> numbers(const std::uint16_t* from, int v) {
    if constexpr (std::is_same_v<Format, simd::BFloat16>) {
      const auto pairs = hn::BitCast(simd::U32(), hn::LoadU(simd::Packed16(), from));
      const auto even = hn::And(pairs, hn::Set(simd::U32(), 0xffff));
      return hn::BitCast(simd::I32(), v == 0 ? even : hn::ShiftRight<16>(pairs));
    } else {
      const auto half = hn::LoadU(simd::U16(), from + v * static_cast<int>(hn::MaxLanes(F32())));
      return hn::BitCast(simd::I32(), hn::PromoteTo(simd::U32(), half));
    }
  }
};
#endif

}  // namespace
}  // namespace kernelhub::activation::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
