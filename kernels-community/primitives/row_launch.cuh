// SPDX-License-Identifier: Apache-2.0
// Elementwise kernels over rows of several tensors: how a row is cut into 16-byte groups, the
// launch shape for it, and the loop that a kernel is written in.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace kernelhub::primitives {

/// Rows of unit-stride elements; `stride` counts elements.
struct RowView {
  const void* data;
  std::int64_t stride;
};

/// How a row is cut: `head` single elements, then `vectors` 16-byte groups, then the rest single.
/// Without common alignment of all rows of all tensors every element is single (head == cols).
struct RowCut {
  std::int64_t rows;
  std::int64_t head;
  std::int64_t vectors;
  std::int64_t units;  // vectors + single elements: work items of one row
};

/// `halves`: a tensor has a second half `cols` further that is moved at the same columns.
inline RowCut cut_rows(std::int64_t rows, std::int64_t cols, std::int64_t element_size, bool halves,
                       std::initializer_list<RowView> tensors) {
  constexpr std::int64_t kVectorBytes = 16;
  const std::int64_t lanes = kVectorBytes / element_size;
  const auto phase = [](const RowView& view) {
    return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(view.data) % kVectorBytes);
  };
  const std::int64_t first = phase(*tensors.begin());
  bool has_one_phase = !halves || cols % lanes == 0;
  for (const RowView& view : tensors) {
    has_one_phase =
        has_one_phase && phase(view) == first && (rows == 1 || view.stride % lanes == 0);
  }
  const std::int64_t to_boundary = (kVectorBytes - first) % kVectorBytes / element_size;
  if (!has_one_phase || to_boundary >= cols) return {rows, cols, 0, cols};
  const std::int64_t vectors = (cols - to_boundary) / lanes;
  return {rows, to_boundary, vectors, cols - vectors * (lanes - 1)};
}

constexpr std::int64_t kRowThreads = 256;

/// Grid and block for one thread a unit; `for_each_unit` strides, so the limits of a grid cost
/// nothing.
struct RowLaunch {
  dim3 grid;
  dim3 block;
};

inline RowLaunch row_launch(const RowCut& cut) {
  std::int64_t threads_x = 32;
  while (threads_x < kRowThreads && threads_x < cut.units) threads_x *= 2;
  const std::int64_t threads_y = kRowThreads / threads_x;
  const auto blocks = [](std::int64_t items, std::int64_t threads, std::int64_t limit) {
    const std::int64_t wanted = (items + threads - 1) / threads;
    return static_cast<unsigned>(wanted < limit ? wanted : limit);
  };
  return {dim3(blocks(cut.units, threads_x, 1 << 20), blocks(cut.rows, threads_y, 65535)),
          dim3(static_cast<unsigned>(threads_x), static_cast<unsigned>(threads_y))};
}

/// Calls `group(row, col)` for every group of `lanes` columns from `col` on and `single(row, col)`
/// for every other element, spread over the launch of `row_launch`.
template <int lanes, class Group, class Single>
__device__ __forceinline__ void for_each_unit(const RowCut& cut, const Group& group,
                                              const Single& single) {
  const std::int64_t first_unit = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y;
  const std::int64_t unit_step = std::int64_t{gridDim.x} * blockDim.x;
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y;
  for (std::int64_t row = first_row; row < cut.rows; row += row_step) {
    for (std::int64_t unit = first_unit; unit < cut.units; unit += unit_step) {
      if (unit < cut.vectors) {
        group(row, cut.head + unit * lanes);
      } else {
        const std::int64_t left = unit - cut.vectors;
        single(row, left < cut.head ? left : left + cut.vectors * lanes);
      }
    }
  }
}

}  // namespace kernelhub::primitives
