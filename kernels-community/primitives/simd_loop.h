// SPDX-License-Identifier: Apache-2.0
// The loop of an element-wise op over one stretch of memory (stretches.h).
#pragma once

#include "primitives/simd_float.h"
#include "primitives/stretches.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

/// Calls `fetch(i)` for each cache line of T and `compute(i)` for each vector of fp32 lanes that
/// are whole in [0, count); how many elements that are.
template <class T, class Fetch, class Compute>
HWY_INLINE std::int64_t for_each_vector(std::int64_t count, const Fetch& fetch,
                                        const Compute& compute) {
  constexpr auto kElements = primitives::kLineBytes / static_cast<std::int64_t>(sizeof(T));
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
  std::int64_t i = 0;
  for (; i + kElements <= count; i += kElements) {
    fetch(i);
    for (std::int64_t j = i; j < i + kElements; j += kLanes) compute(j);
  }
  for (; i + kLanes <= count; i += kLanes) compute(i);
  return i;
}

}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
