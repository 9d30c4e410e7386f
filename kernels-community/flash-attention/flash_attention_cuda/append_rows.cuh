// SPDX-License-Identifier: Apache-2.0
// New rows of a key-value cache, k rotated on the way. Bound by memory and small: one thread writes
// one element.
#pragma once

#include "flash_attention/sequence.h"
#include "flash_attention_cuda/rotate.cuh"

namespace kernelhub::flash_attention::cuda {

/// Threads that append_element is called for.
KERNELHUB_HOST_DEVICE inline std::int64_t append_works(const AppendParams& params) {
  const std::int64_t rows =
      params.cu_k_new != nullptr ? params.total_new_rows : params.batch * params.new_rows;
  return rows * params.heads_k * (params.head_dim + params.head_dim_v);
}

/// A new row: of which sequence, and the how-manieth there.
struct NewRow {
  std::int64_t sequence;
  std::int64_t row;
};

/// Row `row` of all new ones; sequence `batch` for those behind the last sequence.
KERNELHUB_HOST_DEVICE inline NewRow new_row(const AppendParams& params, std::int64_t row) {
  if (params.cu_k_new == nullptr) return {row / params.new_rows, row % params.new_rows};
  std::int64_t low = 0;
  std::int64_t high = params.batch;
  while (low < high) {
    const std::int64_t middle = (low + high + 1) / 2;
    if (params.cu_k_new[middle] <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return {low, row - params.cu_k_new[low]};
}

/// Column `column` of a row of k after the rotation; `k` is the row before.
template <class T>
__device__ __forceinline__ T rotated_element(const Rotary& rotary, std::int64_t position,
                                             const T* k, std::int64_t column) {
  if (column >= 2 * rotary.pairs) return k[column];
  const bool is_first = rotary.is_interleaved ? column % 2 == 0 : column < rotary.pairs;
  const std::int64_t pair = rotary.is_interleaved ? column / 2
                            : is_first            ? column
                                                  : column - rotary.pairs;
  T x = k[rotary.is_interleaved ? 2 * pair : pair];
  T y = k[rotary.is_interleaved ? 2 * pair + 1 : pair + rotary.pairs];
  rotate_pair(rotary, position, static_cast<int>(pair), x, y);
  return is_first ? x : y;
}

template <class T>
__device__ __forceinline__ void append_element(const AppendParams& params, std::int64_t work) {
  const std::int64_t columns = params.head_dim + params.head_dim_v;
  const std::int64_t column = work % columns;
  const std::int64_t head = work / columns % params.heads_k;
  const NewRow at = new_row(params, work / columns / params.heads_k);
  if (at.sequence >= params.batch) return;
  const NewRowPlace place = new_row_place(params, at.sequence, at.row);
  if (!place.is_inside) return;
  const auto source = [&](const void* base, std::int64_t offset, const Strides& strides) {
    return static_cast<const T*>(base) + offset + head * strides.head;
  };
  const auto target = [&](void* base, std::int64_t offset, const Strides& strides) {
    return static_cast<T*>(base) + offset + head * strides.head;
  };
  if (column >= params.head_dim) {
    target(params.v_cache, place.v_cache, params.v_cache_strides)[column - params.head_dim] =
        source(params.v, place.v, params.v_strides)[column - params.head_dim];
    return;
  }
  const T* k = source(params.k, place.k, params.k_strides);
  target(params.k_cache, place.k_cache, params.k_cache_strides)[column] =
      params.rotary.pairs > 0 ? rotated_element(params.rotary, place.position, k, column)
                              : k[column];
}

}  // namespace kernelhub::flash_attention::cuda
