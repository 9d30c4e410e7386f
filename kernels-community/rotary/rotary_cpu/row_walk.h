// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "primitives/stretches.h"
#include "rotary/params.h"

namespace kernelhub::rotary::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

/// The pointers of one row: T of x and out, S of cos and sin.
template <class T, class S>
struct Row {
  const T* x1;
  const T* x2;
  T* out1;
  T* out2;
  const S* cos;
  const S* sin;
  std::int64_t position;        // where that of the row stands, if rows have any
  std::int64_t ahead1, ahead2;  // elements from x1 and x2 to what should be fetched meanwhile

  /// Along one dimension.
  void move(const Part& part, int dim, std::int64_t steps) {
    x1 += steps * part.x1.strides[dim];
    x2 += steps * part.x2.strides[dim];
    out1 += steps * part.out1.strides[dim];
    out2 += steps * part.out2.strides[dim];
    cos += steps * part.cos.strides[dim];
    sin += steps * part.sin.strides[dim];
    position += steps * part.positions.strides[dim];
  }
  /// Makes cos and sin the rows that the position picks, if rows have any.
  void gather(const Params& params, const Part& part) {
    if (part.positions.data == nullptr) return;
    const std::int64_t row = params.has_wide_positions
                                 ? static_cast<const std::int64_t*>(part.positions.data)[position]
                                 : static_cast<const std::int32_t*>(part.positions.data)[position];
    cos = static_cast<const S*>(part.cos.data) + row * params.cos_stride;
    sin = static_cast<const S*>(part.sin.data) + row * params.sin_stride;
  }
};

/// Tables are read again for every head and once from memory: these lines no prefetcher sees
/// coming.
template <class T, class S>
[[gnu::always_inline]] inline void fetch_tables(const Params& params, Row<T, S> row,
                                                const Part& part) {
  constexpr std::int64_t kLine = primitives::kLineBytes / static_cast<std::int64_t>(sizeof(S));
  row.gather(params, part);
  for (std::int64_t i = 0; i < params.half; i += kLine) {
    primitives::fetch(row.cos + i);
    primitives::fetch(row.sin + i);
  }
}

/// Calls `rotate(row)` for rows [begin, end) of one part, at least one, and copies their tails.
/// What a row should fetch comes `ahead` rows later; 0 for none.
template <class T, class S, class Rotate>
inline void walk_part(const Params& params, const Part& part, std::int64_t begin, std::int64_t end,
                      std::int64_t ahead, const Rotate& rotate) {
  constexpr int kInner = kMaxDims - 1;
  const std::int64_t run = part.sizes[kInner];
  std::int64_t index[kMaxDims] = {};
  Row<T, S> at{static_cast<const T*>(part.x1.data),
               static_cast<const T*>(part.x2.data),
               static_cast<T*>(part.out1.data),
               static_cast<T*>(part.out2.data),
               static_cast<const S*>(part.cos.data),
               static_cast<const S*>(part.sin.data),
               0,
               0,
               0};
  // Most calls begin at the first row: divisions would take longer than their rows.
  for (std::int64_t dim = kInner, left = begin; left > 0 && dim >= 0; --dim) {
    index[dim] = left % part.sizes[dim];
    left /= part.sizes[dim];
    at.move(part, static_cast<int>(dim), index[dim]);
  }
  if (ahead > run) ahead = run;
  const std::size_t tail_bytes = static_cast<std::size_t>(part.tail) * sizeof(T);
  for (std::int64_t left = end - begin, i = index[kInner];; i = 0) {
    const std::int64_t last = run - i < left ? run : i + left;
    left -= last - i;
    Row<T, S> row = at;
    // To what is fetched, in the same run of rows or in the next one.
    const std::int64_t within1 = ahead * part.x1.strides[kInner];
    const std::int64_t within2 = ahead * part.x2.strides[kInner];
    std::int64_t beyond1 = 0, beyond2 = 0;
    if (left > 0) {
      at.move(part, kInner, -i);
      const Row<T, S> first = at;
      for (int dim = kInner - 1;; --dim) {
        at.move(part, dim, 1);
        if (++index[dim] < part.sizes[dim]) break;
        at.move(part, dim, -index[dim]);
        index[dim] = 0;
      }
      beyond1 = at.x1 - first.x1 + (ahead - run) * part.x1.strides[kInner];
      beyond2 = at.x2 - first.x2 + (ahead - run) * part.x2.strides[kInner];
      fetch_tables(params, at, part);
    }
    for (; i < last; ++i) {
      row.gather(params, part);
      row.ahead1 = i + ahead < run ? within1 : beyond1;
      row.ahead2 = i + ahead < run ? within2 : beyond2;
      rotate(row);
      if (tail_bytes != 0) {
        std::memcpy(row.out1 + 2 * params.half, row.x1 + 2 * params.half, tail_bytes);
      }
      row.move(part, kInner, 1);
    }
    if (left == 0) return;
  }
}

/// Rows [begin, end) of a call, whose parts follow one another; `ahead` as for walk_part.
template <class T, class S, class Rotate>
inline void walk_rows(const Params& params, std::int64_t begin, std::int64_t end,
                      std::int64_t ahead, const Rotate& rotate) {
  std::int64_t first = 0;
  for (int i = 0; i < params.count; ++i) {
    const Part& part = params.parts[i];
    const std::int64_t rows = part.rows();
    const std::int64_t from = begin > first ? begin - first : 0;
    const std::int64_t to = end - first < rows ? end - first : rows;
    if (from < to) walk_part<T, S>(params, part, from, to, ahead, rotate);
    first += rows;
  }
}

}  // namespace
}  // namespace kernelhub::rotary::cpu
