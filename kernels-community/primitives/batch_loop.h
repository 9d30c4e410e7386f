// SPDX-License-Identifier: Apache-2.0
// The loop of element-wise ops over rows of several tensors, whatever the vectors.
#pragma once

#include <array>
#include <cstddef>

#include "primitives/streaming.h"
#include "primitives/stretches.h"

namespace kernelhub::primitives {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Walks over all elements [begin, end) of rows of `cols` elements of T, equal or disjoint tensors.
/// Calls `whole(from, to, i, streams)` for `batch` elements from the i-th one behind the pointers
/// `from` and `to`; they may be written past the caches where `streams`. Calls
/// `rest(from, to, i, count)` for fewer elements than a batch.
template <class T, std::int64_t batch, std::size_t kIn, std::size_t kOut, class Whole, class Rest>
inline void for_each_batch(const std::array<Rows<const T>, kIn>& inputs,
                           const std::array<Rows<T>, kOut>& outputs, const Streaming& streaming,
                           std::int64_t cols, std::int64_t begin, std::int64_t end,
                           const Whole& whole, const Rest& rest) {
  constexpr auto kElements = kLineBytes / static_cast<std::int64_t>(sizeof(T));
  // Several tensors, or halves of a row, fetched straight into the first level take up the few
  // misses that it can wait for: on Zen 4 gated rows passed at half of a copy's speed.
  constexpr bool kIsSingle = kIn == 1;
  constexpr std::int64_t kAhead = kIsSingle ? kAheadBytes : kFarAheadBytes;
  for_each_stretch<T, kAhead>(cols, begin, end, [&](const Stretch& stretch) {
    std::array<const T*, kIn> from;
    std::array<T*, kOut> to;
    bool streams = true;
    for (std::size_t k = 0; k < kIn; ++k) from[k] = inputs[k].at(stretch);
    for (std::size_t k = 0; k < kOut; ++k) {
      to[k] = outputs[k].at(stretch);
      streams = streams && streaming.is_on(to[k]);
    }
    std::int64_t i = 0;
    for (; i + kElements <= stretch.count; i += kElements) {
      for (std::size_t k = 0; k < kIn; ++k) {
        const T* line = from[k] + inputs[k].ahead(stretch) + i;
        kIsSingle ? fetch(line) : fetch_to_second_level(line);
      }
      for (std::size_t k = 0; k < kOut; ++k) {
        if (!streams) fetch_to_write(to[k] + outputs[k].ahead(stretch) + i);
      }
      for (std::int64_t j = i; j < i + kElements; j += batch) whole(from, to, j, streams);
    }
    for (; i + batch <= stretch.count; i += batch) whole(from, to, i, false);
    if (i < stretch.count) rest(from, to, i, stretch.count - i);
  });
}

}  // namespace
}  // namespace kernelhub::primitives
