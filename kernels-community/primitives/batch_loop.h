// SPDX-License-Identifier: Apache-2.0
// The loop of element-wise ops over rows of several tensors, whatever the vectors.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "primitives/streaming.h"
#include "primitives/stretches.h"

namespace kernelhub::primitives {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Calls whose inputs and outputs, counted one by one, have fewer bytes fetch nothing: what was
/// used lately is near still, the CPU's own prefetcher is quick enough there, and a fetch takes the
/// place of a load.
constexpr std::int64_t kLeastFetchedBytes = std::int64_t{2} << 20;

/// Walks over the elements of `range` in equal or disjoint tensors of T.
/// Calls `whole(from, to, i, streams)` for `batch` elements from the i-th one behind the pointers
/// `from` and `to`; they may be written past the caches where `streams`, a std::bool_constant, is
/// true. Calls `rest(from, to, i, count)` for fewer elements than a batch.
template <class T, std::int64_t batch, std::size_t kIn, std::size_t kOut, class Whole, class Rest>
inline void for_each_batch(const std::array<Rows<const T>, kIn>& inputs,
                           const std::array<Rows<T>, kOut>& outputs, const Streaming& streaming,
                           const Range& range, const Whole& whole, const Rest& rest) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kElements = kLineBytes / kSize;
  // Several tensors, or halves of a row, fetched straight into the first level take up the few
  // misses that it can wait for: on Zen 4 gated rows passed at half of a copy's speed.
  constexpr bool kIsSingle = kIn == 1;
  constexpr std::int64_t kAhead = kIsSingle ? kAheadBytes : kFarAheadBytes;
  constexpr std::int64_t kTensors = kIn + kOut;
  const bool is_large = range.rows * range.cols >= kLeastFetchedBytes / (kTensors * kSize);
  for_each_stretch<T, kAhead>(range.cols, range.begin, range.end, [&](const Stretch& stretch) {
    std::array<const T*, kIn> from;
    std::array<T*, kOut> to;
    bool may_stream = true;
    for (std::size_t k = 0; k < kIn; ++k) from[k] = inputs[k].at(stretch);
    for (std::size_t k = 0; k < kOut; ++k) {
      to[k] = outputs[k].at(stretch);
      may_stream =
          may_stream && streaming.is_on(to[k]) && (k == 0 || !is_same_in_page(to[0], to[k]));
    }
    const auto lines = [&](auto streams, auto fetches) __attribute__((always_inline)) {
      std::int64_t i = 0;
      for (; i + kElements <= stretch.count; i += kElements) {
        for (std::size_t k = 0; fetches && k < kIn; ++k) {
          const T* line = from[k] + inputs[k].ahead(stretch) + i;
          kIsSingle ? fetch(line) : fetch_to_second_level(line);
        }
        for (std::size_t k = 0; fetches && !streams && k < kOut; ++k) {
          fetch_to_write(to[k] + outputs[k].ahead(stretch) + i);
        }
        for (std::int64_t j = 0; j < kElements; j += batch) whole(from, to, i + j, streams);
      }
      return i;
    };
    constexpr std::true_type kYes;
    constexpr std::false_type kNo;
    std::int64_t i = may_stream ? lines(kYes, kYes) : is_large ? lines(kNo, kYes) : lines(kNo, kNo);
    for (; i + batch <= stretch.count; i += batch) whole(from, to, i, kNo);
    if (i < stretch.count) rest(from, to, i, stretch.count - i);
  });
}

}  // namespace
}  // namespace kernelhub::primitives
