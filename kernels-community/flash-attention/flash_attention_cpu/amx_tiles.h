// SPDX-License-Identifier: Apache-2.0
// The tile instructions of AMX-TILE and AMX-BF16 that attention uses (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 1, "Programming with Intel AMX", and volume 2).
#pragma once

#include <cstdint>

namespace kernelhub::flash_attention::cpu {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// What LDTILECFG reads. Tiles that are not used have no rows and no columns.
struct alignas(64) TileConfig {
  std::uint8_t palette;    // 1: eight tiles of up to 16 rows of 64 bytes
  std::uint8_t start_row;  // 0
  std::uint8_t reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

/// The state of the calling thread's tiles. The operands of the statements name the memory that is
/// read and written, which those of the compiler's own intrinsics do not (g++ 12).
struct AmxTiles {
  static inline void configure(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config));
  }

  static inline void release() { asm volatile("tilerelease" : : : "memory"); }

  template <int kTile>
  static inline void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }

  /// Rows that begin `pitch` bytes apart.
  template <int kTile>
  static inline void load(const void* rows, std::int64_t pitch) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(pitch), "i"(kTile) : "memory");
  }

  template <int kTile>
  static inline void store(void* rows, std::int64_t pitch) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(pitch), "i"(kTile) : "memory");
  }

  /// sum[m][n] += a[m][2 k] * b[k][2 n] + a[m][2 k + 1] * b[k][2 n + 1] over all k.
  template <int kSum, int kA, int kB>
  static inline void add_product() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
};

}  // namespace
}  // namespace kernelhub::flash_attention::cpu
