// SPDX-License-Identifier: Apache-2.0
// Launch shape of the rotation kernels: pure arithmetic, testable on any host.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rotary/params.h"

namespace kernelhub::rotary::cuda {

constexpr std::int64_t kVectorBytes = 16;
constexpr std::int64_t kThreads = 128;
constexpr std::int64_t kMaxBlocksX = 1
                                     << 20;  // the kernel strides by the grid: limits cost nothing
constexpr std::int64_t kMaxBlocksY = 65535;  // hardware limit of gridDim.y
// Rows that one thread rotates by the same cos and sin, all loads before the first store: with 16
// bytes of either half 128 bytes a thread are on their way, and the tables cost a quarter.
constexpr int kRowsInFlight = 4;

/// A part as a thread walks it. Rows that share their cos and sin lie along `repeat_dim`; a place
/// is an index along the other dimensions.
struct Walk {
  int repeat_dim;
  std::int64_t repeats;
  std::int64_t places;
  std::int64_t chunks;           // ceil(repeats / kRowsInFlight)
  std::int64_t sizes[kMaxDims];  // 1 at repeat_dim
};

inline Walk walk_of(const Part& part) {
  Walk walk{kMaxDims - 1, 1, 1, 1, {}};
  for (int d = 0; d < kMaxDims; ++d) {
    walk.sizes[d] = part.sizes[d];
    const bool is_shared =
        part.cos.strides[d] == 0 && part.sin.strides[d] == 0 && part.positions.strides[d] == 0;
    // Of two, the one further inside: its rows lie closer together.
    if (is_shared && part.sizes[d] > 1 && part.sizes[d] >= walk.repeats) {
      walk.repeats = part.sizes[d];
      walk.repeat_dim = d;
    }
  }
  if (walk.repeats > 1) walk.sizes[walk.repeat_dim] = 1;
  for (const std::int64_t size : walk.sizes) walk.places *= size;
  walk.chunks = (walk.repeats + kRowsInFlight - 1) / kRowsInFlight;
  return walk;
}

/// How the pairs of a row are cut: `head` single ones, `groups` of one 16-byte access to each half
/// (interleaved: to the row), then the rest one by one. Every row is cut alike.
struct Cut {
  bool is_vectorized;
  bool has_aligned_tables;  // 16-byte loads of cos and sin at every group
  bool has_aligned_tails;   // 16-byte copies of the columns behind the rotated ones
  std::int64_t head;
  std::int64_t groups;
  std::int64_t singles;  // head and rest
  std::int64_t pairs;    // all of them
};

namespace detail {

template <class Rows>
bool has_pitch(const Rows& rows, const Part& part, std::int64_t lanes) {
  for (int d = 0; d < kMaxDims; ++d) {
    if (part.sizes[d] > 1 && rows.strides[d] % lanes != 0) return false;
  }
  return true;
}

inline std::int64_t phase(const void* data) {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data) %
                                   static_cast<std::uintptr_t>(kVectorBytes));
}

}  // namespace detail

/// Groups where the rows of all parts cross 16-byte boundaries at the same pair.
inline Cut cut_rows(const Params& params) {
  const std::int64_t size = primitives::size_of(params.dtype);
  const std::int64_t lanes = kVectorBytes / size;
  const std::int64_t pair_bytes = params.interleaved ? 2 * size : size;
  const std::int64_t group_pairs = kVectorBytes / pair_bytes;
  const std::int64_t phase = detail::phase(params.parts[0].out1.data);
  bool has_one_phase = phase % pair_bytes == 0;
  for (int i = 0; i < params.count; ++i) {
    const Part& part = params.parts[i];
    const auto fits = [&](const auto& rows) {
      return detail::phase(rows.data) == phase && detail::has_pitch(rows, part, lanes);
    };
    has_one_phase = has_one_phase && fits(part.x1) && fits(part.out1) &&
                    (params.interleaved || (fits(part.x2) && fits(part.out2)));
  }
  const std::int64_t head =
      std::min(params.half, (kVectorBytes - phase) % kVectorBytes / pair_bytes);
  const std::int64_t groups = (params.half - head) / group_pairs;
  if (!has_one_phase || groups == 0) return {false, false, false, 0, 0, params.half, params.half};

  const std::int64_t table_size = primitives::size_of(params.table_dtype);
  const std::int64_t table_bytes = std::min(kVectorBytes, group_pairs * table_size);
  const std::int64_t table_lanes = table_bytes / table_size;
  bool has_aligned_tables =
      head == 0 && (params.cos_stride % table_lanes == 0) && (params.sin_stride % table_lanes == 0);
  for (int i = 0; i < params.count; ++i) {
    const Part& part = params.parts[i];
    for (const Operand* table : {&part.cos, &part.sin}) {
      has_aligned_tables = has_aligned_tables && detail::phase(table->data) % table_bytes == 0 &&
                           detail::has_pitch(*table, part, table_lanes);
    }
  }
  const bool has_aligned_tails = phase == 0 && (2 * params.half) % lanes == 0;
  const std::int64_t singles = params.half - groups * group_pairs;
  return {true, has_aligned_tables, has_aligned_tails, head, groups, singles, params.half};
}

struct Shape {
  unsigned threads_x, threads_y;  // along the units of a row, along places
  unsigned blocks_x, blocks_y;    // chunks of all parts, places
};

/// `units`: the most units of work that a row has. Chunks lie along x, along which blocks start
/// first: those that share cos and sin run together.
inline Shape launch_shape(std::int64_t units, std::int64_t places, std::int64_t chunks) {
  const std::int64_t threads_x = std::min(units, kThreads);
  const std::int64_t threads_y = kThreads / threads_x;
  const std::int64_t blocks_y = (places + threads_y - 1) / threads_y;
  return {static_cast<unsigned>(threads_x), static_cast<unsigned>(threads_y),
          static_cast<unsigned>(std::min(chunks, kMaxBlocksX)),
          static_cast<unsigned>(std::min(blocks_y, kMaxBlocksY))};
}

}  // namespace kernelhub::rotary::cuda
