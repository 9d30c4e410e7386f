// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace kernelhub::primitives {

/// Host memory for the column sums of one call, not cleared and aligned to a cache line. It lies on
/// the stack where a call is so small that an allocation would show.
class ColumnWorkspace {
 public:
  /// `bytes` of it. Throws std::bad_alloc.
  explicit ColumnWorkspace(std::int64_t bytes) {
    if (bytes <= kSmallBytes) return;
    const std::int64_t whole = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    large_.reset(std::aligned_alloc(kCacheLine, static_cast<std::size_t>(whole)));
    if (large_ == nullptr) throw std::bad_alloc();
  }
  ColumnWorkspace(const ColumnWorkspace&) = delete;
  ColumnWorkspace& operator=(const ColumnWorkspace&) = delete;

  void* data() { return large_ == nullptr ? small_ : large_.get(); }

 private:
  static constexpr std::int64_t kCacheLine = 64;
  static constexpr std::int64_t kSmallBytes = 16 * 1024;

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  alignas(kCacheLine) char small_[kSmallBytes];
  std::unique_ptr<void, Free> large_;
};

}  // namespace kernelhub::primitives
