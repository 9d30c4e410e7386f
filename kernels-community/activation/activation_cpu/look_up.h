// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

/// to[i] = table[from[i]]; `to` may be `from`.
inline void look_up(const std::uint16_t* from, std::uint16_t* to, std::int64_t count,
                    const std::uint16_t* table) {
  constexpr std::int64_t kLine = 32;    // elements of a cache line
  constexpr std::int64_t kAhead = 512;  // lookups fill the window that would run ahead to a miss
  std::int64_t i = 0;
  for (; i + kLine <= count; i += kLine) {
    __builtin_prefetch(from + i + kAhead, 0);
    __builtin_prefetch(to + i + kAhead, 1);
    // Four results to a store: stores are what a narrow loop waits for.
#pragma GCC unroll 8
    for (std::int64_t j = i; j < i + kLine; j += 4) {
      const std::uint64_t four = static_cast<std::uint64_t>(table[from[j]]) |
                                 static_cast<std::uint64_t>(table[from[j + 1]]) << 16 |
                                 static_cast<std::uint64_t>(table[from[j + 2]]) << 32 |
                                 static_cast<std::uint64_t>(table[from[j + 3]]) << 48;
      std::memcpy(to + j, &four, sizeof four);
    }
  }
  for (; i < count; ++i) to[i] = table[from[i]];
}

}  // namespace
}  // namespace kernelhub::activation::cpu
