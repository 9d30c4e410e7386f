// SPDX-License-Identifier: Apache-2.0
// Element-wise kernels over rows: 128-bit accesses with peeled ends, several in flight a thread.
#pragma once

#include <cuda_runtime_api.h>
#include <type_traits>

#include "primitives/elementwise.h"
#include "primitives/vec128.cuh"

namespace kernelhub::primitives {

/// The tensors of one call, each [rows, cols] with its own row pitch in elements. An output may be
/// exactly an input.
template <class T, int kInputs, int kOutputs>
struct ElementwiseRows {
  const T* in[kInputs];
  std::int64_t in_stride[kInputs];
  T* out[kOutputs];
  std::int64_t out_stride[kOutputs];
  std::int64_t rows;  // >= 1
  std::int64_t cols;  // >= 1
};

/// Base of functions that treat every lane alike: derive, and define
/// `void element(const T (&in)[kInputs], T (&out)[kOutputs]) const`.
template <class Derived, class T, int kInputs, int kOutputs>
struct Lanewise {
  __device__ __forceinline__ bool is_ordinary(const Vec128<T> (&)[kInputs]) const { return true; }

  __device__ __forceinline__ void vector(const Vec128<T> (&in)[kInputs],
                                         Vec128<T> (&out)[kOutputs]) const {
#pragma unroll
    for (int lane = 0; lane < Vec128<T>::kLanes; ++lane) {
      T values[kInputs];
      T results[kOutputs];
#pragma unroll
      for (int i = 0; i < kInputs; ++i) values[i] = in[i].lane[lane];
      static_cast<const Derived*>(this)->element(values, results);
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) out[i].lane[lane] = results[i];
    }
  }
};

/// One row of ElementwiseRows with its function.
///   Function::element(in, out)      any values, one column
///   Function::is_ordinary(in)       whether `vector` may be used on these values
///   Function::vector(in, out)       the same results as `element`
template <class T, int kInputs, int kOutputs, class Function>
struct ElementwiseRow {
  static constexpr std::int64_t kLanes = Vec128<T>::kLanes;

  const T* in[kInputs];
  T* out[kOutputs];
  Function function;

  /// Column 0 of the result is column `first` of row `row`.
  __device__ __forceinline__ ElementwiseRow(const ElementwiseRows<T, kInputs, kOutputs>& tensors,
                                            std::int64_t row, std::int64_t first, const Function& f)
      : function(f) {
#pragma unroll
    for (int i = 0; i < kInputs; ++i) in[i] = tensors.in[i] + row * tensors.in_stride[i] + first;
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
      out[i] = tensors.out[i] + row * tensors.out_stride[i] + first;
    }
  }

  __device__ __forceinline__ void load(std::int64_t col, Vec128<T> (&values)[kInputs]) const {
#pragma unroll
    for (int i = 0; i < kInputs; ++i) values[i] = load_vec128(in[i] + col);
  }

  __device__ __forceinline__ void store(const Vec128<T> (&values)[kInputs],
                                        std::int64_t col) const {
    Vec128<T> results[kOutputs];
    function.vector(values, results);
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) store_vec128(results[i], out[i] + col);
  }

  __device__ __forceinline__ void column(std::int64_t col) const {
    T values[kInputs];
    T results[kOutputs];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) values[i] = in[i][col];
    function.element(values, results);
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) out[i][col] = results[i];
  }

  /// The columns of one group one by one, `step` apart and before `end`.
  __device__ __forceinline__ void columns(std::int64_t col, std::int64_t step,
                                          std::int64_t end) const {
#pragma unroll 1
    for (int i = 0; i < kLanes && col < end; ++i, col += step) column(col);
  }

  /// kCount groups, a warp apart. kIsWholeWarp: all 32 threads of the warp are here.
  template <int kCount, bool kIsWholeWarp>
  __device__ __forceinline__ void groups(std::int64_t col) const {
    Vec128<T> values[kCount][kInputs];
#pragma unroll
    for (int k = 0; k < kCount; ++k) load(col + k * kWarp * kLanes, values[k]);
    // Without it nvcc 13.0 moves loads behind the check or to where their values are used.
    if constexpr (kCount * kInputs > 1) __syncwarp(kIsWholeWarp ? ~0u : __activemask());
    bool is_ordinary = true;
#pragma unroll
    for (int k = 0; k < kCount; ++k) is_ordinary &= function.is_ordinary(values[k]);
    if (is_ordinary) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) store(values[k], col + k * kWarp * kLanes);
    } else {
#pragma unroll 1
      for (int k = 0; k < kCount; ++k) {
        const std::int64_t first = col + k * kWarp * kLanes;
        columns(first, 1, first + kLanes);
      }
    }
  }
};

/// The row of a thread; past the last one in some blocks.
__device__ __forceinline__ std::int64_t row_of_thread() {
  return (std::int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * blockDim.y + threadIdx.y;
}

// Blocks that must fit on a multiprocessor; nvcc 13.0 spills nothing for them.
template <int kTensors>
constexpr int kVectorBlocks = kTensors > 2 ? 3 : 4;

/// Where rows begin and end.
enum class RowEdges {
  kOneRow,   // one row, all of it whole 16-byte groups, in blocks of one row
  kAligned,  // every row is whole 16-byte groups
  kAny,      // rows may begin or end inside a 16-byte group
};

template <RowEdges kEdges>
using EdgesConstant = std::integral_constant<RowEdges, kEdges>;

/// Rows in 16-byte groups, `units` of them a thread as in GroupLaunch. Threads of the first
/// `full_warps` warps of a row have kUnroll of them, and load all before they compute the first.
template <RowEdges kEdges, int kUnroll, class T, int kInputs, int kOutputs, class Function>
__global__ void __launch_bounds__(kElementwiseThreads, (kVectorBlocks<kInputs + kOutputs>))
    elementwise_vectors(ElementwiseRows<T, kInputs, kOutputs> tensors, unsigned units,
                        unsigned full_warps, Function function) {
  constexpr unsigned kWarpThreads = kWarp;
  constexpr unsigned kLanes = Vec128<T>::kLanes;
  std::int64_t r = 0;
  if constexpr (kEdges != RowEdges::kOneRow) {
    r = row_of_thread();
    if (r >= tensors.rows) return;
  }
  unsigned head = 0;
  if constexpr (kEdges == RowEdges::kAny) {
    const auto address = reinterpret_cast<std::uintptr_t>(tensors.out[0]) +
                         static_cast<std::uintptr_t>(r * tensors.out_stride[0]) * sizeof(T);
    head = (0 - static_cast<unsigned>(address)) % static_cast<unsigned>(kVectorBytes) / sizeof(T);
  }
  const ElementwiseRow<T, kInputs, kOutputs, Function> row(tensors, r, head, function);
  const unsigned warp = blockIdx.x * (blockDim.x / kWarpThreads) + threadIdx.x / kWarpThreads;
  const unsigned lane = threadIdx.x % kWarpThreads;
  const auto groups =
      static_cast<std::int64_t>(static_cast<std::uint64_t>(tensors.cols - head) / kLanes);
  if (kUnroll > 1 && warp < full_warps) {
    const std::int64_t group = std::int64_t{warp} * (kWarpThreads * kUnroll) + lane;
    row.template groups<kUnroll, true>(group * kLanes);
  } else {
    const unsigned count = kUnroll > 1 ? units : 1;
    std::int64_t group = std::int64_t{warp} * (kWarpThreads * count) + lane;
#pragma unroll 1
    for (unsigned k = 0; k < count && group < groups; ++k, group += kWarp) {
      row.template groups<1, false>(group * kLanes);
    }
  }
  if constexpr (kEdges == RowEdges::kAny) {
    if (blockIdx.x != 0) return;
    const std::int64_t singles = tensors.cols - groups * kLanes;
    for (std::int64_t i = threadIdx.x; i < singles; i += blockDim.x) {
      row.column(i < head ? i - head : i - head + groups * kLanes);
    }
  }
}

/// Rows whose tensors have no common 16-byte boundary: a thread's group is kLanes elements a warp
/// apart, so that a warp's accesses are contiguous.
template <class T, int kInputs, int kOutputs, class Function>
__global__ void __launch_bounds__(kElementwiseThreads)
    elementwise_elements(ElementwiseRows<T, kInputs, kOutputs> tensors, Function function) {
  constexpr std::int64_t kLanes = Vec128<T>::kLanes;
  const std::int64_t r = row_of_thread();
  if (r >= tensors.rows) return;
  const ElementwiseRow<T, kInputs, kOutputs, Function> row(tensors, r, 0, function);
  const unsigned lane = threadIdx.x % static_cast<unsigned>(kWarp);
  const std::int64_t first =
      std::int64_t{blockIdx.x} * (blockDim.x * kLanes) + (threadIdx.x - lane) * kLanes + lane;
  if (first + (kLanes - 1) * kWarp >= tensors.cols) {
    return row.columns(first, kWarp, tensors.cols);
  }
  Vec128<T> values[kInputs];
#pragma unroll
  for (int i = 0; i < kInputs; ++i) {
#pragma unroll
    for (int k = 0; k < kLanes; ++k) values[i].lane[k] = row.in[i][first + k * kWarp];
  }
  if (!function.is_ordinary(values)) return row.columns(first, kWarp, tensors.cols);
  Vec128<T> results[kOutputs];
  function.vector(values, results);
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) {
#pragma unroll
    for (int k = 0; k < kLanes; ++k) row.out[i][first + k * kWarp] = results[i].lane[k];
  }
}

/// Applies `function` to every column of every row. Does not synchronise and allocates nothing.
/// Returns the launch's status.
template <int kUnroll, class T, int kInputs, int kOutputs, class Function>
cudaError_t launch_elementwise(const ElementwiseRows<T, kInputs, kOutputs>& tensors,
                               const Function& function, cudaStream_t stream) {
  RowSpan spans[kOutputs + kInputs];
  for (int i = 0; i < kOutputs; ++i) {
    spans[i] = {reinterpret_cast<std::uintptr_t>(tensors.out[i]), tensors.out_stride[i]};
  }
  for (int i = 0; i < kInputs; ++i) {
    spans[kOutputs + i] = {reinterpret_cast<std::uintptr_t>(tensors.in[i]), tensors.in_stride[i]};
  }
  const GroupCut cut = cut_groups(spans, kOutputs + kInputs, tensors.rows, tensors.cols, sizeof(T));
  const GroupLaunch shape = group_launch(cut, tensors.rows, cut.is_vectorized ? kUnroll : 1);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks_x, shape.blocks_y, shape.blocks_z);
  config.blockDim = dim3(shape.threads_x, shape.threads_y);
  config.stream = stream;
  if (!cut.is_vectorized) {
    return cudaLaunchKernelEx(&config, &elementwise_elements<T, kInputs, kOutputs, Function>,
                              tensors, function);
  }
  const auto launch = [&](auto edges) {
    return cudaLaunchKernelEx(
        &config,
        &elementwise_vectors<decltype(edges)::value, kUnroll, T, kInputs, kOutputs, Function>,
        tensors, shape.units, shape.full_warps, function);
  };
  if (cut.has_edges) return launch(EdgesConstant<RowEdges::kAny>{});
  // The other rows of a block would compute a lone row again, of what it had already become where
  // it is written in place.
  if (tensors.rows > 1 || shape.threads_y > 1) return launch(EdgesConstant<RowEdges::kAligned>{});
  return launch(EdgesConstant<RowEdges::kOneRow>{});
}

}  // namespace kernelhub::primitives
