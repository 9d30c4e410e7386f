// SPDX-License-Identifier: Apache-2.0
// Large results are written past the caches.
#pragma once

#include <hwy/cache_control.h>

#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// Whether results are written past the caches. Caches would not hold on to results of this size,
/// and a line that is written whole need not be read from memory first: a quarter to a third less
/// traffic. Of 16-bit rows the arithmetic is the limit, and the half lines that come of a vector
/// cost more than the traffic (10 % of a forward).
class Streaming {
 public:
  /// Of `rows` rows of `cols` elements of Storage at `out`, `stride` elements apart, none of which
  /// was read shortly before; rows must start at whole vectors.
  template <class Storage>
  Streaming(const Storage* out, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    constexpr auto kSize = static_cast<std::int64_t>(sizeof(Storage));
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(F32()));
    is_on_ = kSize == sizeof(float) && rows * cols * kSize >= kLeastBytes && stride % lanes == 0 &&
             is_whole(out);
  }
  /// Other threads may read what was written.
  ~Streaming() {
    if (is_on_) hwy::FlushStream();
  }
  Streaming(const Streaming&) = delete;
  Streaming& operator=(const Streaming&) = delete;

  HWY_INLINE bool is_on() const { return is_on_; }
  /// For vectors from `to` on: a part of a row may start inside one.
  template <class Storage>
  HWY_INLINE bool is_on(const Storage* to) const {
    return is_on_ && is_whole(to);
  }

 private:
  static constexpr std::int64_t kLeastBytes = std::int64_t{16} << 20;

  template <class Storage>
  static HWY_INLINE bool is_whole(const Storage* to) {
    return reinterpret_cast<std::uintptr_t>(to) % (hn::Lanes(F32()) * sizeof(Storage)) == 0;
  }

  bool is_on_;
};

/// Past the caches where `streams`.
template <class Format>
HWY_INLINE void store(V value, typename Format::Storage* to, bool streams) {
  if constexpr (sizeof(typename Format::Storage) == sizeof(float)) {
    if (streams) return Format::stream(value, to);
  }
  Format::store(value, to);
}

}  // namespace
}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
