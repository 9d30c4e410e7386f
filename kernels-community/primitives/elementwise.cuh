// SPDX-License-Identifier: Apache-2.0
// Element-wise kernels over rows: 128-bit accesses with peeled ends, several in flight a thread.
#pragma once

#include <cuda_runtime_api.h>

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

  /// kCount groups, a warp apart.
  template <int kCount>
  __device__ __forceinline__ void groups(std::int64_t col) const {
    Vec128<T> values[kCount][kInputs];
#pragma unroll
    for (int k = 0; k < kCount; ++k) load(col + k * kWarp * kLanes, values[k]);
    // Without it nvcc 13.0 moves loads behind the check or to where their values are used.
    if (kCount * kInputs > 1) __syncwarp(__activemask());
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

// Blocks that must fit on a multiprocessor: as many as nvcc 13.0 reaches without a spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
template <int kTensors>
constexpr int kVectorBlocks = 2;
#else
template <int kTensors>
constexpr int kVectorBlocks = kTensors > 2 ? 3 : 4;
#endif

/// Rows in 16-byte groups. A thread loads kUnroll groups, a warp apart, before it computes the
/// first.
template <int kUnroll, class T, int kInputs, int kOutputs, class Function>
__global__ void __launch_bounds__(kElementwiseThreads, (kVectorBlocks<kInputs + kOutputs>))
    elementwise_vectors(ElementwiseRows<T, kInputs, kOutputs> tensors, bool has_edges,
                        Function function) {
  constexpr std::int64_t kLanes = Vec128<T>::kLanes;
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned lane = thread % static_cast<unsigned>(kWarp);
  const unsigned first_group = (thread - lane) * kUnroll + lane;
  const std::int64_t group_step = std::int64_t{gridDim.x} * blockDim.x * kUnroll;
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y;
  for (std::int64_t r = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; r < tensors.rows;
       r += row_step) {
    std::int64_t head = 0;
    if (has_edges) {
      const auto address = reinterpret_cast<std::uintptr_t>(tensors.out[0]) +
                           static_cast<std::uintptr_t>(r * tensors.out_stride[0]) * sizeof(T);
      head = static_cast<std::int64_t>((0 - address) % kVectorBytes / sizeof(T));
    }
    const ElementwiseRow<T, kInputs, kOutputs, Function> row(tensors, r, head, function);
    const std::int64_t groups = (tensors.cols - head) / kLanes;
    std::int64_t group = first_group;
    for (; group + (kUnroll - 1) * kWarp < groups; group += group_step) {
      row.template groups<kUnroll>(group * kLanes);
    }
#pragma unroll 1
    for (int k = 0; k < kUnroll && group < groups; ++k, group += kWarp) {
      row.template groups<1>(group * kLanes);
    }
    if (!has_edges || blockIdx.x != 0) continue;
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
    elementwise_elements(ElementwiseRows<T, kInputs, kOutputs> tensors, std::int64_t units,
                         Function function) {
  constexpr std::int64_t kLanes = Vec128<T>::kLanes;
  const std::int64_t unit_step = std::int64_t{gridDim.x} * blockDim.x;
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y;
  for (std::int64_t r = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; r < tensors.rows;
       r += row_step) {
    const ElementwiseRow<T, kInputs, kOutputs, Function> row(tensors, r, 0, function);
    for (std::int64_t unit = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; unit < units;
         unit += unit_step) {
      const std::int64_t first = unit / kWarp * kWarp * kLanes + unit % kWarp;
      if (first + (kLanes - 1) * kWarp >= tensors.cols) {
        row.columns(first, kWarp, tensors.cols);
        continue;
      }
      Vec128<T> values[kInputs];
#pragma unroll
      for (int i = 0; i < kInputs; ++i) {
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          values[i].lane[lane] = row.in[i][first + lane * kWarp];
        }
      }
      if (!function.is_ordinary(values)) {
        row.columns(first, kWarp, tensors.cols);
        continue;
      }
      Vec128<T> results[kOutputs];
      function.vector(values, results);
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) {
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          row.out[i][first + lane * kWarp] = results[i].lane[lane];
        }
      }
    }
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
  config.gridDim = dim3(shape.blocks_x, shape.blocks_y);
  config.blockDim = dim3(shape.threads_x, shape.threads_y);
  config.stream = stream;
  if (cut.is_vectorized) {
    return cudaLaunchKernelEx(&config,
                              &elementwise_vectors<kUnroll, T, kInputs, kOutputs, Function>,
                              tensors, cut.has_edges, function);
  }
  return cudaLaunchKernelEx(&config, &elementwise_elements<T, kInputs, kOutputs, Function>, tensors,
                            cut.units, function);
}

}  // namespace kernelhub::primitives
