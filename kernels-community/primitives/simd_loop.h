// SPDX-License-Identifier: Apache-2.0
// The loop of element-wise ops on Highway lanes.
#pragma once

#include "primitives/batch_loop.h"
#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// A `rest` of for_each_batch that calls `few(from, to, i, count)` with a std::size_t count of at
/// most a vector's lanes.
template <class Few>
HWY_INLINE auto in_vectors(const Few& few) {
  return [&few](const auto& from, const auto& to, std::int64_t i, std::int64_t count) {
    constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
    for (const std::int64_t end = i + count; i < end; i += kLanes) {
      few(from, to, i, static_cast<std::size_t>(end - i < kLanes ? end - i : kLanes));
    }
  };
}

/// Batches that are stored one right after the other: those of a line, because nothing may come
/// between the parts of a line that goes past the caches.
template <class Format>
constexpr std::size_t kBatchesAtOnce =
    kLineBytes / static_cast<std::int64_t>(sizeof(typename Format::Storage)) / kBatch<Format>;

/// Two where a line is one vector, which would wait for its own chain of operations alone.
template <class Format>
constexpr std::int64_t kLinesTogether =
    kBatchesAtOnce<Format> == 1 && Format::kVectors == 1 ? 2 : 1;

/// As for_each_batch: `compute(from, i)` gives the results of a batch, a std::array of one for each
/// output, and `few` is for in_vectors. Without vectors nothing is written past the caches.
/// `kLooksUpFar`: `compute` reads a table several times as large as the first-level cache.
template <class Format, bool kLooksUpFar = false, std::size_t kIn, std::size_t kOut, class Compute,
          class Few>
HWY_INLINE void map_batches(const std::array<Rows<const typename Format::Storage>, kIn>& inputs,
                            const std::array<Rows<typename Format::Storage>, kOut>& outputs,
                            const Streaming& streaming, const Range& range, const Compute& compute,
                            const Few& few) {
  constexpr auto place = [](std::size_t b) {
    return static_cast<std::int64_t>(b) * kBatch<Format>;
  };
  const auto whole = [&](const auto& from, const auto& to, std::int64_t i,
                         [[maybe_unused]] auto streams, auto lines) __attribute__((always_inline)) {
    constexpr std::size_t kBatches = kBatchesAtOnce<Format> * lines;
#if HWY_TARGET == HWY_SCALAR
    // Plain enough for the compiler's own vectors. It cannot see that tensors are equal or
    // disjoint.
#pragma GCC ivdep
    for (std::size_t b = 0; b < kBatches; ++b) {
      const auto results = compute(from, i + place(b));
      for (std::size_t k = 0; k < kOut; ++k) Format::store_batch(results[k], to[k] + i + place(b));
    }
#else
    std::array<std::array<Batch<Format>, kOut>, kBatches> results;
    for (std::size_t b = 0; b < kBatches; ++b) results[b] = compute(from, i + place(b));
    for (std::size_t k = 0; k < kOut; ++k) {
      for (std::size_t b = 0; b < kBatches; ++b) {
        auto* out = to[k] + i + place(b);
        if constexpr (streams) {
          Format::stream_batch(results[b][k], out);
        } else {
          Format::store_batch(results[b][k], out);
        }
      }
    }
#endif
  };
  const auto rest = [&](const auto& from, const auto& to, std::int64_t i, std::int64_t count) {
    const std::int64_t last = i + count;
    for (; i + kBatch<Format> <= last; i += kBatch<Format>) {
      const auto results = compute(from, i);
      for (std::size_t k = 0; k < kOut; ++k) Format::store_batch(results[k], to[k] + i);
    }
    in_vectors(few)(from, to, i, last - i);
  };
  const Streaming off = Streaming::off();
  constexpr auto kFetchLevel = (kIn == 1 || kLooksUpFar) ? CacheLevel::kFirst : CacheLevel::kSecond;
  for_each_batch<typename Format::Storage, kLinesTogether<Format>, kFetchLevel>(
      inputs, outputs, HWY_TARGET == HWY_SCALAR ? off : streaming, range, whole, rest);
}

template <std::size_t count>
using Vectors = std::array<V, count>;

/// Calls `function(inputs, outputs)` with Vectors<kIn> and Vectors<kOut> for the elements that
/// for_each_batch walks over. Lanes are elements of the same places in all tensors, in no
/// particular order.
template <class Format, std::size_t kIn, std::size_t kOut, class Function>
HWY_INLINE void map_rows(const std::array<Rows<const typename Format::Storage>, kIn>& inputs,
                         const std::array<Rows<typename Format::Storage>, kOut>& outputs,
                         const Streaming& streaming, const Range& range, const Function& function) {
  const auto compute = [&function](const auto& from, std::int64_t i)
      __attribute__((always_inline)) {
    std::array<Batch<Format>, kIn> in;
    std::array<Batch<Format>, kOut> out;
    for (std::size_t k = 0; k < kIn; ++k) in[k] = Format::load_batch(from[k] + i);
    for (int v = 0; v < Format::kVectors; ++v) {
      Vectors<kIn> arguments;
      Vectors<kOut> results;
      for (std::size_t k = 0; k < kIn; ++k) arguments[k] = in[k].of[v];
      function(arguments, results);
      for (std::size_t k = 0; k < kOut; ++k) out[k].of[v] = results[k];
    }
    return out;
  };
  const auto few = [&function](const auto& from, const auto& to, std::int64_t i,
                               std::size_t count) {
    Vectors<kIn> arguments;
    Vectors<kOut> results;
    for (std::size_t k = 0; k < kIn; ++k) arguments[k] = load_first<Format>(from[k] + i, count);
    function(arguments, results);
    for (std::size_t k = 0; k < kOut; ++k) store_first<Format>(results[k], to[k] + i, count);
  };
  map_batches<Format>(inputs, outputs, streaming, range, compute, few);
}

}  // namespace
}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
