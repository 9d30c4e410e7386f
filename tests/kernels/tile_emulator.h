// SPDX-License-Identifier: Apache-2.0
// The tile instructions of AMX-TILE and AMX-BF16 in software, after Intel's Software Developer's
// Manual (palette 1; operation sections of LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE
// and TDPBF16PS): what faults there throws here. A restart within an instruction (start_row) is
// left out, for nothing here interrupts one.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace kernelhub::emulation {

/// #GP or #UD, and its reason.
class TileFault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The tiles of one thread.
class TileState {
 public:
  static constexpr int kTiles = 8;
  static constexpr int kRows = 16;
  static constexpr int kRowBytes = 64;

  static TileState& of_this_thread() {
    static thread_local TileState state;
    return state;
  }

  /// `memory`: 64 bytes.
  void configure(const void* memory) {
    std::uint8_t bytes[64];
    std::memcpy(bytes, memory, sizeof bytes);
    if (bytes[0] > 1) throw TileFault("#GP: LDTILECFG of an unknown palette");
    if (bytes[0] == 0) return release();
    if (bytes[1] != 0) throw TileFault("start_row is not emulated");
    TileState next;
    next.is_configured_ = true;
    for (int at = 2; at < 64; ++at) {
      const bool is_row_bytes = at >= 16 && at < 16 + 2 * kTiles;
      const bool is_rows = at >= 48 && at < 48 + kTiles;
      if (!is_row_bytes && !is_rows && bytes[at] != 0) {
        throw TileFault("#GP: LDTILECFG with a reserved byte that is not zero");
      }
    }
    for (int n = 0; n < kTiles; ++n) {
      Tile& tile = next.tiles_[n];
      tile.rows = bytes[48 + n];
      tile.row_bytes = bytes[16 + 2 * n] | bytes[17 + 2 * n] << 8;
      if (tile.rows > kRows || tile.row_bytes > kRowBytes) {
        throw TileFault("#GP: LDTILECFG of a tile beyond the palette's size");
      }
      if ((tile.rows == 0) != (tile.row_bytes == 0)) {
        throw TileFault("#GP: LDTILECFG of rows without bytes or bytes without rows");
      }
    }
    *this = next;
  }

  void release() { *this = TileState(); }

  bool is_released() const { return !is_configured_; }

  void zero(int number) { std::memset(configured(number).bytes, 0, sizeof(Tile::bytes)); }

  void load(int number, const void* rows, std::int64_t pitch) {
    Tile& tile = configured(number);
    std::memset(tile.bytes, 0, sizeof tile.bytes);
    for (int r = 0; r < tile.rows; ++r) {
      std::memcpy(tile.bytes[r], static_cast<const char*>(rows) + r * pitch,
                  static_cast<std::size_t>(tile.row_bytes));
    }
  }

  void store(int number, void* rows, std::int64_t pitch) {
    const Tile& tile = configured(number);
    for (int r = 0; r < tile.rows; ++r) {
      std::memcpy(static_cast<char*>(rows) + r * pitch, tile.bytes[r],
                  static_cast<std::size_t>(tile.row_bytes));
    }
  }

  /// TDPBF16PS: the even and the odd steps have a sum each, which meet before the old value.
  void add_product(int sum_number, int a_number, int b_number) {
    if (sum_number == a_number || sum_number == b_number || a_number == b_number) {
      throw TileFault("#UD: TDPBF16PS of the same tile twice");
    }
    Tile& sum = configured(sum_number);
    const Tile& a = configured(a_number);
    const Tile& b = configured(b_number);
    if (sum.row_bytes % 4 != 0 || a.row_bytes % 4 != 0 || b.row_bytes % 4 != 0) {
      throw TileFault("#UD: TDPBF16PS of rows that hold no whole number of words");
    }
    if (sum.rows != a.rows || sum.row_bytes != b.row_bytes || a.row_bytes / 4 != b.rows) {
      throw TileFault("#UD: TDPBF16PS of tiles whose shapes do not match");
    }
    const int columns = sum.row_bytes / 4;
    float steps[2][kRows][kRowBytes / 4] = {};  // of b, even and odd ones apart
    for (int k = 0; k < b.rows; ++k) {
      for (int n = 0; n < 2 * columns; ++n) steps[n % 2][k][n / 2] = number_at(b, k, n);
    }
    for (int m = 0; m < sum.rows; ++m) {
      float sums[2][kRowBytes / 4] = {};
      for (int k = 0; k < 2 * b.rows; ++k) {
        const float factor = number_at(a, m, k);
        for (int n = 0; n < kRowBytes / 4; ++n) {
          sums[k % 2][n] = flushed(std::fma(factor, steps[k % 2][k / 2][n], sums[k % 2][n]));
        }
      }
      for (int n = 0; n < columns; ++n) {
        float value;
        std::memcpy(&value, sum.bytes[m] + 4 * n, sizeof value);
        value = flushed(flushed(value) + flushed(sums[0][n] + sums[1][n]));
        std::memcpy(sum.bytes[m] + 4 * n, &value, sizeof value);
      }
      std::memset(sum.bytes[m] + sum.row_bytes, 0, static_cast<std::size_t>(64 - sum.row_bytes));
    }
    for (int m = sum.rows; m < kRows; ++m) std::memset(sum.bytes[m], 0, kRowBytes);
  }

 private:
  struct Tile {
    int rows = 0;
    int row_bytes = 0;
    std::uint8_t bytes[kRows][kRowBytes] = {};
  };

  static float flushed(float value) {
    return std::fabs(value) < FLT_MIN ? std::copysign(0.0f, value) : value;
  }

  static float number_at(const Tile& tile, int row, int at) {
    std::uint16_t half;
    std::memcpy(&half, tile.bytes[row] + 2 * at, sizeof half);
    const std::uint32_t word = static_cast<std::uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return flushed(value);
  }

  Tile& configured(int number) {
    if (!is_configured_) throw TileFault("#UD: tiles are not configured");
    if (number < 0 || number >= kTiles || tiles_[number].rows == 0) {
      throw TileFault("#UD: tile " + std::to_string(number) + " is not configured");
    }
    return tiles_[number];
  }

  bool is_configured_ = false;
  Tile tiles_[kTiles];
};

}  // namespace kernelhub::emulation
