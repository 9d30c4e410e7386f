// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

constexpr std::int64_t kLine = 32;  // 16-bit elements of a cache line

/// table[from[0]] to table[from[3]], in this order in memory.
inline std::uint64_t look_up_four(const std::uint16_t* from, const std::uint16_t* table) {
  return static_cast<std::uint64_t>(table[from[0]]) |
         static_cast<std::uint64_t>(table[from[1]]) << 16 |
         static_cast<std::uint64_t>(table[from[2]]) << 32 |
         static_cast<std::uint64_t>(table[from[3]]) << 48;
}

/// to[i] = table[from[i]] for kLine elements; `to` may be `from`. Four results to a store: stores
/// are what a narrow loop waits for.
inline void look_up_line(const std::uint16_t* from, std::uint16_t* to, const std::uint16_t* table) {
#pragma GCC unroll 8
  for (std::int64_t i = 0; i < kLine; i += 4) {
    const std::uint64_t four = look_up_four(from + i, table);
    std::memcpy(to + i, &four, sizeof four);
  }
}

}  // namespace
}  // namespace kernelhub::activation::cpu
