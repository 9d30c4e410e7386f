// SPDX-License-Identifier: Apache-2.0
// The loop of element-wise ops over rows of several tensors, whatever the vectors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "primitives/streaming.h"
#include "primitives/stretches.h"

namespace kernelhub::primitives {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Calls whose inputs and outputs, counted one by one, have fewer bytes fetch nothing: what was
/// used lately is near still, the CPU's own prefetcher is quick enough there, and a fetch takes the
/// place of a load.
constexpr std::int64_t kLeastFetchedBytes = std::int64_t{2} << 20;

/// Where what is fetched goes. Several tensors, or halves of a row, take up the few misses that the
/// first level can wait for, if nothing else takes long: on Zen 4 gated rows passed at half of a
/// copy's speed. Beside look-ups in a table that only the second level holds it is the other way
/// round: there fp16 gradients of gated ops took a fifth longer.
enum class CacheLevel { kFirst, kSecond };

/// Walks over the elements of `range` in equal or disjoint tensors of T.
/// Calls `whole(from, to, i, streams, lines)` for as many lines of memory from the i-th elements on
/// behind the pointers `from` and `to`: `lines`, a std::integral_constant, is `together` while that
/// many are left, then 1. They may be written past the caches where `streams`, a
/// std::bool_constant, is true. Calls `rest(from, to, i, count)` for fewer elements than a line.
/// Always inline, as are map_batches and map_rows: a function of its own would load again for every
/// line what `whole` has captured, since the line before might have been written over it.
template <class T, std::int64_t together, CacheLevel fetch_level, std::size_t kIn, std::size_t kOut,
          class Whole, class Rest>
[[gnu::always_inline]] inline void for_each_batch(const std::array<Rows<const T>, kIn>& inputs,
                                                  const std::array<Rows<T>, kOut>& outputs,
                                                  const Streaming& streaming, const Range& range,
                                                  const Whole& whole, const Rest& rest) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kElements = kLineBytes / kSize;
  constexpr bool kIsNear = fetch_level == CacheLevel::kFirst;
  constexpr std::int64_t kAhead = kIsNear ? kAheadBytes : kFarAheadBytes;
  constexpr std::int64_t kTensors = kIn + kOut;
  const bool is_large = range.rows * range.cols >= kLeastFetchedBytes / (kTensors * kSize);
  const auto visit = [&](const Stretch& stretch) __attribute__((always_inline)) {
    std::array<const T*, kIn> from;
    std::array<T*, kOut> to;
    bool may_stream = true;
    for (std::size_t k = 0; k < kIn; ++k) from[k] = inputs[k].at(stretch);
    for (std::size_t k = 0; k < kOut; ++k) {
      to[k] = outputs[k].at(stretch);
      may_stream =
          may_stream && streaming.is_on(to[k]) && (k == 0 || !is_same_in_page(to[0], to[k]));
    }
    const auto walk = [&](auto streams, auto is_fetching) __attribute__((always_inline)) {
      std::int64_t i = 0;
      const auto by = [&](auto lines) __attribute__((always_inline)) {
        constexpr std::int64_t kStep = lines * kElements;
        for (; i + kStep <= stretch.count; i += kStep) {
          for (std::int64_t line = i; is_fetching && line < i + kStep; line += kElements) {
            for (std::size_t k = 0; k < kIn; ++k) {
              const T* address = from[k] + inputs[k].ahead(stretch) + line;
              kIsNear ? fetch(address) : fetch_to_second_level(address);
            }
            for (std::size_t k = 0; !streams && k < kOut; ++k) {
              fetch_to_write(to[k] + outputs[k].ahead(stretch) + line);
            }
          }
          whole(from, to, i, streams, lines);
        }
      };
      if constexpr (together > 1) by(std::integral_constant<std::int64_t, together>());
      by(std::integral_constant<std::int64_t, 1>());
      return i;
    };
    constexpr std::true_type kYes;
    constexpr std::false_type kNo;
    const std::int64_t i = may_stream ? walk(kYes, kYes)
                           : is_large ? walk(kNo, kYes)
                                      : walk(kNo, kNo);
    if (i < stretch.count) rest(from, to, i, stretch.count - i);
  };
  for_each_stretch<T, kAhead>(range.cols, range.begin, range.end, visit);
}

}  // namespace
}  // namespace kernelhub::primitives
