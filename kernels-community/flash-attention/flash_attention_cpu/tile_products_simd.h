// SPDX-License-Identifier: Apache-2.0
// Products of pairs on the tiles of AMX: 16 rows of a, 16 words of both, 16 columns of b at once.
#pragma once

#include "flash_attention_cpu/amx_tiles.h"
#include "flash_attention_cpu/pairs_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

constexpr std::int64_t kTileSide = 16;  // rows, and words of a row
static_assert(kTileSide == kStepWords);

/// See PairOperands. What is multiplied is rounded up to whole tiles in all three directions: rows
/// of a and words beyond the last ones may be read (the words of both are zero) and rows of c
/// without `scale` be written, up to the next multiple of kTileSide. `Tiles`: AmxTiles, or tests'
/// own.
template <class Tiles>
struct TileProducts {
  /// The tiles of the calling thread are configured: two by two of sums, two of a, two of b.
  class Setup {
   public:
    Setup() {
      TileConfig config{};
      config.palette = 1;
      for (int i = 0; i < 8; ++i) {
        config.row_bytes[i] = kTileSide * sizeof(float);
        config.rows[i] = kTileSide;
      }
      Tiles::configure(config);
    }
    ~Setup() { Tiles::release(); }
    Setup(const Setup&) = delete;
    Setup& operator=(const Setup&) = delete;
  };

  static HWY_INLINE void product(const Product& p, std::int64_t rows) {
    std::int64_t column = 0;
    for (; column + kTileSide < rows; column += 2 * kTileSide) panel<2>(p, column);
    if (column < rows) panel<1>(p, column);
  }

 private:
  static constexpr int kSums = 0;  // tile 2 * down + right
  static constexpr int kA = 4;
  static constexpr int kB = 6;
  static constexpr std::int64_t kPitch = kBlockRows * sizeof(float);

  /// kRight tiles of columns.
  template <int kRight>
  static HWY_NOINLINE void panel(const Product& p, std::int64_t column) {
    std::int64_t j = 0;
    for (; j + kTileSide < p.count; j += 2 * kTileSide) block<2, kRight>(p, j, column);
    if (j < p.count) block<1, kRight>(p, j, column);
  }

  template <int kDown, int kRight>
  static HWY_INLINE void block(const Product& p, std::int64_t j, std::int64_t column) {
    Tiles::template zero<kSums>();
    if constexpr (kRight == 2) Tiles::template zero<kSums + 1>();
    if constexpr (kDown == 2) Tiles::template zero<kSums + 2>();
    if constexpr (kDown == 2 && kRight == 2) Tiles::template zero<kSums + 3>();
    const float* a = p.a + j * p.a_row;
    const float* b = p.b + column;
    const std::int64_t a_pitch = p.a_row * static_cast<std::int64_t>(sizeof(float));
    for (std::int64_t t = 0; t < p.steps; t += kTileSide) {
      Tiles::template load<kA>(a, a_pitch);
      Tiles::template load<kB>(b, kPitch);
      Tiles::template add_product<kSums, kA, kB>();
      if constexpr (kRight == 2) {
        Tiles::template load<kB + 1>(b + kTileSide, kPitch);
        Tiles::template add_product<kSums + 1, kA, kB + 1>();
      }
      if constexpr (kDown == 2) {
        Tiles::template load<kA + 1>(a + kTileSide * p.a_row, a_pitch);
        Tiles::template add_product<kSums + 2, kA + 1, kB>();
      }
      if constexpr (kDown == 2 && kRight == 2) {
        Tiles::template add_product<kSums + 3, kA + 1, kB + 1>();
      }
      a += kTileSide;
      b += kTileSide * kBlockRows;
    }
    if (p.scale == nullptr) {
      store_sums<kDown, kRight>(p.c + j * kBlockRows + column, kBlockRows);
      return;
    }
    constexpr std::int64_t kWidth = 2 * kTileSide;
    alignas(64) float sums[2 * kTileSide * kWidth];
    store_sums<kDown, kRight>(sums, kWidth);
    const std::int64_t left = p.count - j;
    const std::int64_t down = left < kDown * kTileSide ? left : kDown * kTileSide;
    for (std::int64_t m = 0; m < down; ++m) {
#pragma GCC unroll 2
      for (int n = 0; n < kRight; ++n) {
        const std::int64_t at = column + n * kTileSide;
        float* const to = p.c + (j + m) * kBlockRows + at;
        const V sum = hn::Load(F32(), sums + m * kWidth + n * kTileSide);
        hn::Store(hn::MulAdd(hn::Load(F32(), to), hn::Load(F32(), p.scale + at), sum), F32(), to);
      }
    }
  }

  /// Rows of `to` are `pitch` floats apart.
  template <int kDown, int kRight>
  static HWY_INLINE void store_sums(float* to, std::int64_t pitch) {
    const std::int64_t bytes = pitch * static_cast<std::int64_t>(sizeof(float));
    Tiles::template store<kSums>(to, bytes);
    if constexpr (kRight == 2) Tiles::template store<kSums + 1>(to + kTileSide, bytes);
    if constexpr (kDown == 2) Tiles::template store<kSums + 2>(to + kTileSide * pitch, bytes);
    if constexpr (kDown == 2 && kRight == 2) {
      Tiles::template store<kSums + 3>(to + kTileSide * pitch + kTileSide, bytes);
    }
  }
};

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
