// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

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
};

/// Where a row lies, in elements behind every operand's first; moves along dimensions.
struct Offsets {
  std::int64_t x1, x2, out1, out2, cos, sin, positions;

  void move(const Part& part, int dim, std::int64_t steps) {
    x1 += steps * part.x1.strides[dim];
    x2 += steps * part.x2.strides[dim];
    out1 += steps * part.out1.strides[dim];
    out2 += steps * part.out2.strides[dim];
    cos += steps * part.cos.strides[dim];
    sin += steps * part.sin.strides[dim];
    positions += steps * part.positions.strides[dim];
  }
};

inline std::int64_t position_at(const Params& params, const Part& part, std::int64_t offset) {
  if (params.has_wide_positions) {
    return static_cast<const std::int64_t*>(part.positions.data)[offset];
  }
  return static_cast<const std::int32_t*>(part.positions.data)[offset];
}

template <class T, class S>
inline Row<T, S> row_at(const Params& params, const Part& part, const Offsets& at) {
  std::int64_t cos = at.cos;
  std::int64_t sin = at.sin;
  if (part.positions.data != nullptr) {
    const std::int64_t position = position_at(params, part, at.positions);
    cos = position * params.cos_stride;
    sin = position * params.sin_stride;
  }
  return {static_cast<const T*>(part.x1.data) + at.x1, static_cast<const T*>(part.x2.data) + at.x2,
          static_cast<T*>(part.out1.data) + at.out1,   static_cast<T*>(part.out2.data) + at.out2,
          static_cast<const S*>(part.cos.data) + cos,  static_cast<const S*>(part.sin.data) + sin};
}

/// Calls `rotate(row)` for rows [begin, end) of one part, at least one, and copies their tails.
template <class T, class S, class Rotate>
inline void walk_part(const Params& params, const Part& part, std::int64_t begin, std::int64_t end,
                      const Rotate& rotate) {
  constexpr int kInner = kMaxDims - 1;
  std::int64_t index[kMaxDims] = {};
  Offsets at{};
  // Most calls begin at the first row: divisions would take longer than their rows.
  for (std::int64_t dim = kInner, left = begin; left > 0 && dim >= 0; --dim) {
    index[dim] = left % part.sizes[dim];
    left /= part.sizes[dim];
    at.move(part, static_cast<int>(dim), index[dim]);
  }
  const std::size_t tail_bytes = static_cast<std::size_t>(part.tail) * sizeof(T);
  for (std::int64_t r = begin;;) {
    const Row<T, S> row = row_at<T, S>(params, part, at);
    rotate(row);
    if (tail_bytes != 0) {
      std::memcpy(row.out1 + 2 * params.half, row.x1 + 2 * params.half, tail_bytes);
    }
    if (++r == end) return;
    int dim = kInner;
    at.move(part, dim, 1);
    while (++index[dim] == part.sizes[dim] && dim > 0) {
      at.move(part, dim, -index[dim]);
      index[dim--] = 0;
      at.move(part, dim, 1);
    }
  }
}

/// Rows [begin, end) of a call, whose parts follow one another.
template <class T, class S, class Rotate>
inline void walk_rows(const Params& params, std::int64_t begin, std::int64_t end,
                      const Rotate& rotate) {
  std::int64_t first = 0;
  for (int i = 0; i < params.count; ++i) {
    const Part& part = params.parts[i];
    const std::int64_t rows = part.rows();
    const std::int64_t from = begin > first ? begin - first : 0;
    const std::int64_t to = end - first < rows ? end - first : rows;
    if (from < to) walk_part<T, S>(params, part, from, to, rotate);
    first += rows;
  }
}

}  // namespace
}  // namespace kernelhub::rotary::cpu
