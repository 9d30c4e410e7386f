// SPDX-License-Identifier: Apache-2.0
// Rows cut into stretches, each with the place whose memory should be fetched meanwhile. A CPU's
// own prefetcher stops at the end of a page and follows few streams: element-wise ops over two or
// three tensors waited for memory half of the time without this.
#pragma once

#include <cstdint>

namespace kernelhub::primitives {
namespace {  // internal to each translation unit: they are compiled with different flags

constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kStretchBytes = 1024;
constexpr std::int64_t kAheadBytes = 2048;     // half of it is slower, twice as much no faster
constexpr std::int64_t kFarAheadBytes = 3072;  // for lines that go to the second level first

/// Elements [begin, end) of `rows` rows of `cols` elements, counted row by row.
struct Range {
  std::int64_t rows, cols;
  std::int64_t begin, end;
};

/// `count` elements of one row from column `col`. What is used so many bytes of the row later as
/// was asked for is `ahead_rows` rows down, in column `col + ahead_cols`.
struct Stretch {
  std::int64_t row, col, count;
  std::int64_t ahead_rows, ahead_cols;

  /// Elements from the stretch's beginning to what is used later, in a tensor whose rows lie
  /// `stride` elements apart. It may lie outside of the tensor: only for prefetching.
  std::int64_t ahead(std::int64_t stride) const { return ahead_rows * stride + ahead_cols; }
};

/// A tensor's rows, `stride` elements apart.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;

  T* at(const Stretch& stretch) const { return data + stretch.row * stride + stretch.col; }
  std::int64_t ahead(const Stretch& stretch) const { return stretch.ahead(stride); }
};

/// Calls `visit(stretch)` for elements [begin, end) of rows of `cols` elements of T. Always inline:
/// see for_each_batch.
template <class T, std::int64_t ahead_bytes = kAheadBytes, class F>
[[gnu::always_inline]] inline void for_each_stretch(std::int64_t cols, std::int64_t begin,
                                                    std::int64_t end, const F& visit) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kStretch = kStretchBytes / kSize, kAhead = ahead_bytes / kSize;
  constexpr std::int64_t kLine = kLineBytes / kSize;
  const std::int64_t ahead_rows = kAhead / cols, ahead_cols = kAhead % cols;
  Stretch stretch{begin / cols, begin % cols, 0, 0, 0};
  while (begin < end) {
    const std::int64_t left = cols - stretch.col < end - begin ? cols - stretch.col : end - begin;
    const std::int64_t whole = kStretch - stretch.col % kLine;  // the next one starts at a line
    stretch.count = left < whole ? left : whole;
    const bool wraps = stretch.col + ahead_cols >= cols;
    stretch.ahead_rows = ahead_rows + (wraps ? 1 : 0);
    stretch.ahead_cols = ahead_cols - (wraps ? cols : 0);
    visit(stretch);
    begin += stretch.count;
    stretch.col += stretch.count;
    if (stretch.col == cols) {
      stretch.col = 0;
      ++stretch.row;
    }
  }
}

/// Fetches the line of `address`, to be read, or to be written. Always inline, as whatever only
/// fetches has to be: GCC 12 takes such a function for one without effects and drops its calls.
[[gnu::always_inline]] inline void fetch(const void* address) { __builtin_prefetch(address, 0); }
[[gnu::always_inline]] inline void fetch_to_second_level(const void* address) {
  __builtin_prefetch(address, 0, 2);
}
[[gnu::always_inline]] inline void fetch_to_write(const void* address) {
  __builtin_prefetch(address, 1);
}

}  // namespace
}  // namespace kernelhub::primitives
