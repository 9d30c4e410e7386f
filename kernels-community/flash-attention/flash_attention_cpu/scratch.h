// SPDX-License-Identifier: Apache-2.0
// What a thread needs beside its results, and what the rows of a piece see: plain arithmetic that
// every instruction set shares.
#pragma once

#include <cmath>

#include "flash_attention_cpu/attention_cpu.h"
#include "flash_attention_cpu/row_source.h"

namespace kernelhub::flash_attention::cpu {

// No symbol of this file may reach the linker: a wide instruction set's copy might be taken for
// all.
namespace {

constexpr double kLog2E = 1.4426950408889634;
constexpr float kMinusInfinity = -HUGE_VALF;

/// Cache-line-aligned scratch of one block of a piece; k, v and scores serve all of them. Its size
/// does not depend on how many keys there are. What few rows have of it is in brackets.
struct Scratch {
  float* q;        // [head_dim, kBlockRows] ([rows, padded head_dim])
  float* k;        // [kTileKeys, head_dim] (null)
  float* v;        // [kTileKeys, value_pitch(head_dim_v)] (sums of a tile: as values)
  float* scores;   // [kTileKeys, kBlockRows] ([rows, kTileKeys])
  float* values;   // [head_dim_v, kBlockRows] ([rows, padded head_dim_v])
  float* largest;  // the rest: [kBlockRows] (rows, if those are more)
  float* sum;
  float* correction;
  float* slope;     // minus the alibi slope, base 2
  float* diagonal;  // key at distance zero
  float* begin;     // first and last visible key
  float* end;
};

constexpr std::int64_t kRowArrays = 7;

inline std::int64_t padded(std::int64_t dim) { return (dim + 15) / 16 * 16; }

/// Floats from one row of v to the next: an odd number of cache lines, so that the same few columns
/// of all rows lie in as many sets of the cache as there are.
inline std::int64_t value_pitch(std::int64_t dim) { return (padded(dim) / 16 | 1) * 16; }

/// Floats that the blocks of a piece share, and those that each of them has.
inline std::int64_t shared_floats(const Params& params) {
  return kTileKeys * (padded(params.head_dim) + value_pitch(params.head_dim_v) + kBlockRows);
}
inline std::int64_t block_floats(const Params& params) {
  return (padded(params.head_dim) + padded(params.head_dim_v) + kRowArrays) * kBlockRows;
}
/// Floats that each of few rows has.
inline std::int64_t few_row_floats(const Params& params) {
  return padded(params.head_dim) + 2 * padded(params.head_dim_v) + kTileKeys;
}
/// Floats of an array with one of each row.
inline std::int64_t row_array(std::int64_t rows) {
  return rows < kBlockRows ? kBlockRows : padded(rows);
}

/// Floats that every piece of a schedule finds enough.
inline std::int64_t scratch_floats(const Params& params, const Schedule& schedule) {
  std::int64_t floats = 0;
  if (schedule.has_many_rows()) {
    floats = shared_floats(params) + kPieceRows / kBlockRows * block_floats(params);
  }
  const std::int64_t rows = schedule.most_few_rows();
  const std::int64_t few = rows * few_row_floats(params) + kRowArrays * row_array(rows);
  return floats < few ? few : floats;
}

/// Takes `floats` off the memory's front.
inline float* take(float*& memory, std::int64_t floats) {
  float* const array = memory;
  memory += floats;
  return array;
}

inline void take_row_arrays(float*& memory, std::int64_t floats, Scratch& s) {
  for (float** array :
       {&s.largest, &s.sum, &s.correction, &s.slope, &s.diagonal, &s.begin, &s.end}) {
    *array = take(memory, floats);
  }
}

/// The scratch of block `block` in the memory of a piece.
inline Scratch scratch_of(const Params& params, float* memory, std::int64_t block) {
  Scratch s{};
  s.k = take(memory, kTileKeys * padded(params.head_dim));
  s.v = take(memory, kTileKeys * value_pitch(params.head_dim_v));
  s.scores = take(memory, kTileKeys * kBlockRows);
  memory += block * block_floats(params);
  s.q = take(memory, padded(params.head_dim) * kBlockRows);
  s.values = take(memory, padded(params.head_dim_v) * kBlockRows);
  take_row_arrays(memory, kBlockRows, s);
  return s;
}

/// The scratch of `rows` few rows.
inline Scratch few_rows_scratch(const Params& params, float* memory, std::int64_t rows) {
  Scratch s{};
  s.q = take(memory, rows * padded(params.head_dim));
  s.v = take(memory, rows * padded(params.head_dim_v));
  s.values = take(memory, rows * padded(params.head_dim_v));
  s.scores = take(memory, rows * kTileKeys);
  take_row_arrays(memory, row_array(rows), s);
  return s;
}

/// Over the rows of a piece: keys that some see, and those that all see.
struct Visible {
  KeyRange some;
  KeyRange all;
};

/// Minus the alibi slope of a query head, base 2.
inline float slope_of(const Params& params, const Piece& piece, std::int64_t head) {
  const float slope = params.alibi_slopes[piece.sequence.index * params.alibi_batch_stride + head];
  return static_cast<float>(-kLog2E) * slope;
}

/// Fills the row arrays; a key number below 2^24 is exact in fp32.
inline Visible describe_rows(const Params& params, const Piece& piece, const Scratch& s) {
  Visible visible{{piece.keys.end, piece.keys.begin}, piece.keys};
  for (std::int64_t r = 0; r < kBlockRows; ++r) {
    s.largest[r] = kMinusInfinity;
    s.sum[r] = 0.0f;
    s.begin[r] = s.end[r] = s.slope[r] = s.diagonal[r] = 0.0f;
    if (r >= piece.rows) continue;
    const RowOf row = row_of(params, piece, r);
    const KeyRange keys = visible_keys(params, piece.sequence, row.query);
    s.begin[r] = static_cast<float>(keys.begin);
    s.end[r] = static_cast<float>(keys.end);
    if (keys.begin < visible.some.begin) visible.some.begin = keys.begin;
    if (keys.end > visible.some.end) visible.some.end = keys.end;
    if (keys.begin > visible.all.begin) visible.all.begin = keys.begin;
    if (keys.end < visible.all.end) visible.all.end = keys.end;
    if (params.alibi_slopes == nullptr) continue;
    s.slope[r] = slope_of(params, piece, row.head);
    s.diagonal[r] = static_cast<float>(row.query + piece.sequence.k_rows - piece.sequence.q_rows);
  }
  if (visible.some.begin < piece.keys.begin) visible.some.begin = piece.keys.begin;
  if (visible.some.end > piece.keys.end) visible.some.end = piece.keys.end;
  if (visible.some.begin >= visible.some.end) visible.some = {0, 0};
  return visible;
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu
