// SPDX-License-Identifier: Apache-2.0
// Large results are written past the caches.
#pragma once

#include <cstdint>
#include <immintrin.h>

#include "primitives/stretches.h"

namespace kernelhub::primitives {
namespace {  // internal to each translation unit: they are compiled with different flags

constexpr std::int64_t kPageBytes = 4096;

/// Whether both are the same place of their pages. Lines of two places that are written past the
/// caches by turns must not be: on Zen 3 gradients in halves of rows took twice as long as through
/// the caches.
inline bool is_same_in_page(const void* a, const void* b) {
  const auto apart = reinterpret_cast<std::uintptr_t>(a) - reinterpret_cast<std::uintptr_t>(b);
  return apart % kPageBytes == 0;
}

/// Whether results are written past the caches. Caches would not hold on to results of this size,
/// and a line that is written whole need not be read from memory first: a quarter to a third less
/// traffic.
class Streaming {
 public:
  /// Of `rows` rows of `cols` elements of T, none of which was read shortly before.
  template <class T>
  static Streaming of(std::int64_t rows, std::int64_t cols) {
    return Streaming(rows * cols >= kLeastBytes / static_cast<std::int64_t>(sizeof(T)));
  }
  static Streaming off() { return Streaming(false); }
  /// Other threads may read what was written.
  ~Streaming() {
    if (is_on_) _mm_sfence();
  }
  Streaming(const Streaming&) = delete;
  Streaming& operator=(const Streaming&) = delete;

  bool is_on() const { return is_on_; }
  /// Whether rows that lie so far apart may be written by turns.
  bool suits_turns(std::int64_t bytes_apart) const {
    return !is_on_ || bytes_apart % kPageBytes != 0;
  }
  /// For whole lines from `to` on.
  bool is_on(const void* to) const {
    return is_on_ && reinterpret_cast<std::uintptr_t>(to) % kLineBytes == 0;
  }

 private:
  static constexpr std::int64_t kLeastBytes = std::int64_t{16} << 20;

  explicit Streaming(bool is_on) : is_on_(is_on) {}

  bool is_on_;
};

}  // namespace
}  // namespace kernelhub::primitives
