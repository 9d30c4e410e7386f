// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <immintrin.h>

#include "activation_cpu/value_table.h"

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

constexpr std::int64_t kLine = 32;  // 16-bit elements of a cache line

/// Four indices with one load, from the lowest bits on.
inline std::uint64_t four_indices(const std::uint16_t* from) {
  std::uint64_t indices;
  std::memcpy(&indices, from, sizeof indices);
  return indices;
}

template <int number>
inline std::uint64_t index_of(std::uint64_t indices) {
#ifdef __BMI__
  // One instruction where a copy, a shift and an extension would be three.
  if constexpr (number == 1 || number == 2) return _bextr_u64(indices, 16 * number, 16);
#endif
  return indices >> (16 * number) & 0xffff;
}

/// table[from[0]] to table[from[7]]. Each value goes from memory into its lane: with the indices a
/// load and a quarter an element, where one load for each index and results put together in general
/// registers take two loads and twice the time.
inline __m128i look_up_eight(const std::uint16_t* from, const std::uint16_t* table) {
  const std::uint64_t low = four_indices(from), high = four_indices(from + 4);
  // Straight into the vector, with the entry behind it, which the next one replaces.
  std::int32_t first;
  std::memcpy(&first, table + index_of<0>(low), sizeof first);
  __m128i values = _mm_cvtsi32_si128(first);
  values = _mm_insert_epi16(values, table[index_of<1>(low)], 1);
  values = _mm_insert_epi16(values, table[index_of<2>(low)], 2);
  values = _mm_insert_epi16(values, table[index_of<3>(low)], 3);
  values = _mm_insert_epi16(values, table[index_of<0>(high)], 4);
  values = _mm_insert_epi16(values, table[index_of<1>(high)], 5);
  values = _mm_insert_epi16(values, table[index_of<2>(high)], 6);
  return _mm_insert_epi16(values, table[index_of<3>(high)], 7);
}

/// Four numbers of a table.
inline __m128 numbers_at(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d,
                         const float* table) {
  return _mm_setr_ps(table[a], table[b], table[c], table[d]);
}

struct FourDerivatives {
  __m128 slopes, values;
};

inline FourDerivatives numbers_at(std::uint64_t a, std::uint64_t b, std::uint64_t c,
                                  std::uint64_t d, const Derivative* table) {
  const auto* pairs = reinterpret_cast<const __m64*>(table);
  const __m128 none = _mm_setzero_ps();
  const __m128 low = _mm_loadh_pi(_mm_loadl_pi(none, pairs + a), pairs + b);
  const __m128 high = _mm_loadh_pi(_mm_loadl_pi(none, pairs + c), pairs + d);
  return {_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xdd)};
}

/// table[from[i]], with step 1 for i = 0 to 3, with step 2 for the even or odd i of 0 to 7, as
/// `first` says.
template <int step, int first, class Table>
inline auto look_up_four(const std::uint16_t* from, const Table* table) {
  const std::uint64_t low = four_indices(from);
  if constexpr (step == 1) {
    return numbers_at(index_of<0>(low), index_of<1>(low), index_of<2>(low), index_of<3>(low),
                      table);
  } else {
    const std::uint64_t high = four_indices(from + 4);
    return numbers_at(index_of<first>(low), index_of<first + 2>(low), index_of<first>(high),
                      index_of<first + 2>(high), table);
  }
}

/// to[i] = table[from[i]] for kLine elements; `to` may be `from`. `streams`: past the caches, where
/// `to` is a whole line.
inline void look_up_line(const std::uint16_t* from, std::uint16_t* to, const std::uint16_t* table,
                         bool streams) {
  __m128i values[kLine / 8];
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < kLine / 8; ++i) values[i] = look_up_eight(from + 8 * i, table);
  auto* out = reinterpret_cast<__m128i*>(to);
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < kLine / 8; ++i) {
    streams ? _mm_stream_si128(out + i, values[i]) : _mm_storeu_si128(out + i, values[i]);
  }
}

}  // namespace
}  // namespace kernelhub::activation::cpu
