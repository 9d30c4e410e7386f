// SPDX-License-Identifier: Apache-2.0
// Where the rows of a sequence lie and which keys a query sees: index arithmetic that CPU and CUDA
// kernels share.
#pragma once

#include <cstdint>

#include "flash_attention/params.h"

#if defined(__CUDACC__)
#define KERNELHUB_HOST_DEVICE __host__ __device__
#else
#define KERNELHUB_HOST_DEVICE
#endif

namespace kernelhub::flash_attention {

KERNELHUB_HOST_DEVICE constexpr std::int64_t ceil_div(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}

/// The rows of one sequence of the batch.
struct Sequence {
  std::int64_t index;
  std::int64_t q_batch;      // entry of q, out and lse
  std::int64_t q_begin;      // first row there
  std::int64_t q_allocated;  // rows that out has for the sequence
  std::int64_t q_rows;       // those that hold queries; the others get zeros
  std::int64_t k_batch;      // entry of k and v; unused where they are paged
  std::int64_t k_begin;      // first row there, or in the sequence's list of pages
  std::int64_t k_rows;
};

KERNELHUB_HOST_DEVICE inline Sequence sequence_of(const Params& params, std::int64_t index) {
  const Lengths& lengths = params.lengths;
  Sequence s{index, index, 0, lengths.q, 0, index, 0, lengths.k};
  if (lengths.cu_q != nullptr) {
    s.q_batch = 0;
    s.q_begin = lengths.cu_q[index];
    s.q_allocated = lengths.cu_q[index + 1] - s.q_begin;
  }
  s.q_rows = lengths.used_q != nullptr ? lengths.used_q[index] : s.q_allocated;
  if (lengths.cu_k != nullptr) {
    s.k_rows = lengths.cu_k[index + 1] - lengths.cu_k[index];
    if (lengths.block_table == nullptr) {
      s.k_batch = 0;
      s.k_begin = lengths.cu_k[index];
    }
  }
  if (lengths.cache_batch != nullptr) s.k_batch = lengths.cache_batch[index];
  if (lengths.used_k != nullptr) s.k_rows = lengths.used_k[index];
  if (lengths.leftpad_k != nullptr) {
    s.k_begin += lengths.leftpad_k[index];
    s.k_rows -= lengths.leftpad_k[index];
  }
  return s;
}

/// Offset in elements of a cache row: rows of paged caches are found through the block table.
KERNELHUB_HOST_DEVICE inline std::int64_t cache_offset(const std::int32_t* table,
                                                       std::int64_t page_size,
                                                       const Strides& strides, std::int64_t batch,
                                                       std::int64_t row) {
  if (table == nullptr) return batch * strides.batch + row * strides.row;
  return table[row / page_size] * strides.batch + row % page_size * strides.row;
}

/// The pages of a sequence, or null.
KERNELHUB_HOST_DEVICE inline const std::int32_t* pages_of(const Params& params,
                                                          const Sequence& sequence) {
  const Lengths& lengths = params.lengths;
  return lengths.block_table == nullptr
             ? nullptr
             : lengths.block_table + sequence.index * lengths.table_stride;
}

/// Where a new row of a cache comes from and goes to: offsets in elements, without the head.
struct NewRowPlace {
  std::int64_t k;
  std::int64_t v;
  std::int64_t k_cache;
  std::int64_t v_cache;
  std::int64_t position;  // of the rotation
  bool is_inside;         // of cache and tables; nobody but the device sees where its tensors lead
};

/// Whether the tables of a rotation have a row for `position`.
KERNELHUB_HOST_DEVICE inline bool has_position(const Rotary& rotary, std::int64_t position) {
  return position >= 0 && position < rotary.positions;
}

/// New row `row` of sequence `sequence`; only `is_inside` where the cache has no place for it, or
/// its rotation no angles.
KERNELHUB_HOST_DEVICE inline NewRowPlace new_row_place(const AppendParams& params,
                                                       std::int64_t sequence, std::int64_t row) {
  NewRowPlace place{};
  const std::int64_t cache_row = params.cache_seqlens[sequence] + row;
  if (cache_row < 0 || cache_row >= params.cache_rows) return place;
  const bool is_paged = params.block_table != nullptr;
  std::int64_t entry = sequence;
  if (params.cache_batch != nullptr) entry = params.cache_batch[sequence];
  if (is_paged) {
    entry = params.block_table[sequence * params.table_stride + cache_row / params.page_size];
  }
  if (entry < 0 || entry >= params.cache_entries) return place;
  const auto in_cache = [&](const Strides& strides) {
    return entry * strides.batch +
           (is_paged ? cache_row % params.page_size : cache_row) * strides.row;
  };
  const bool is_varlen = params.cu_k_new != nullptr;
  const auto in_new_rows = [&](const Strides& strides) {
    return is_varlen ? (params.cu_k_new[sequence] + row) * strides.row
                     : sequence * strides.batch + row * strides.row;
  };
  place.k = in_new_rows(params.k_strides);
  place.v = in_new_rows(params.v_strides);
  place.k_cache = in_cache(params.k_cache_strides);
  place.v_cache = in_cache(params.v_cache_strides);
  if (params.rotary.pairs > 0) {
    place.position = params.rotary.first_positions[sequence] + row;
    if (!has_position(params.rotary, place.position)) return place;
  }
  place.is_inside = true;
  return place;
}

/// Keys [begin, end) of a sequence.
struct KeyRange {
  std::int64_t begin;
  std::int64_t end;
};

/// What query `row` of a sequence sees: queries and keys are aligned at their last ones.
KERNELHUB_HOST_DEVICE inline KeyRange visible_keys(const Params& params, const Sequence& sequence,
                                                   std::int64_t row) {
  if (row >= sequence.q_rows) return {0, 0};
  const std::int64_t diagonal = row + sequence.k_rows - sequence.q_rows;
  KeyRange range{0, sequence.k_rows};
  if (params.window_left >= 0 && diagonal - params.window_left > 0) {
    range.begin = diagonal - params.window_left;
  }
  if (params.window_right >= 0 && diagonal + params.window_right + 1 < range.end) {
    range.end = diagonal + params.window_right + 1;
  }
  return range.begin < range.end ? range : KeyRange{0, 0};
}

/// The keys that some query of a sequence sees: all from the first key of its first query on.
KERNELHUB_HOST_DEVICE inline KeyRange seen_keys(const Params& params, const Sequence& sequence) {
  if (sequence.q_rows == 0) return {0, 0};
  const std::int64_t first = sequence.k_rows - sequence.q_rows - params.window_left;
  return {params.window_left >= 0 && first > 0 ? first : 0, sequence.k_rows};
}

}  // namespace kernelhub::flash_attention
