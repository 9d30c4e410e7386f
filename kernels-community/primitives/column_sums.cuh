// SPDX-License-Identifier: Apache-2.0
// Deterministic sums over rows: partial rows of fp32 in the workspace, then their sum.
#pragma once

#include <cuda_runtime_api.h>

#include "primitives/column_sums.h"
#include "primitives/dtype.h"
#include "primitives/rows.cuh"
#include "primitives/shared_memory.cuh"

namespace kernelhub::primitives {

/// Of the sums that threads holding units of T make.
template <class T>
constexpr PartialLayout partial_layout(std::int64_t cols) {
  return {cols, Vec128<T>::kLanes};
}

/// What a thread has added up for the columns of its slice of kGroups units of T: kSums sums of
/// each.
template <class T, int kGroups, int kSums = 1>
class ColumnPartials {
 public:
  static constexpr int kLanes = Vec128<T>::kLanes;

  /// Dynamic shared memory of the launch: rows that share a block are added up there.
  static constexpr std::size_t shared_bytes(const RowLaunch& launch) {
    return launch.rows_per_block == 1
               ? 0
               : sizeof(float) * kGroups * kLanes * static_cast<std::size_t>(threads_of(launch));
  }

  /// Of each of `partials` this block or cluster, which is number `index`, writes its row and
  /// nobody else. Null: nobody asks for that sum.
  __device__ __forceinline__ ColumnPartials(float* const (&partials)[kSums], std::int64_t index,
                                            std::int64_t cols)
      : shared_(dynamic_shared()), index_(index), cols_(cols) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) partials_[s] = partials[s];
    clear();
  }

  /// What goes into sum `s` of column `lane` of unit k.
  __device__ __forceinline__ float& at(int k, int lane, int s = 0) { return sums_[s][k][lane]; }

  /// Adds what is pending to the partial rows, after every kRowsPerFold turns of the block over its
  /// rows and after the last. All threads of the block call it.
  __device__ __forceinline__ void fold(const RowPlace& place) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      if (partials_[s] != nullptr) fold(place, partials_[s], sums_[s]);
    }
    clear();
  }

 private:
  /// The first time the partial row is written, then added to.
  __device__ __forceinline__ void fold(const RowPlace& place, float* partials,
                                       float (&sums)[kGroups][kLanes]) {
    const unsigned rows = blockDim.x / place.threads_per_row;
    const bool is_first =
        place.block_row - place.row_step * kRowsPerFold <= std::int64_t{place.cluster} * rows;
    if (rows > 1) {
      add_up_rows(place, rows, sums);
      if (threadIdx.x >= place.threads_per_row) return;
    }
    const auto units = static_cast<unsigned>((cols_ + kLanes - 1) / kLanes);
    const std::int64_t pitch = partial_layout<T>(cols_).pitch();
    float* mine = partials + index_ * partial_layout<T>(cols_).row_elements() + place.unit;
    float before[kGroups][kLanes];
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const bool is_there = !is_first && place.unit + k * place.unit_step < units;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        // -0: what changes no sum.
        before[k][i] = is_there ? mine[i * pitch + k * place.unit_step] : -0.0f;
      }
    }
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      if (place.unit + k * place.unit_step >= units) continue;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        mine[i * pitch + k * place.unit_step] = before[k][i] + sums[k][i];
      }
    }
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& sums : sums_) {
#pragma unroll
      for (auto& unit : sums) {
#pragma unroll
        for (float& sum : unit) sum = 0.0f;
      }
    }
  }

  /// Leaves the sums over the rows of the block in the threads of its first row.
  __device__ __forceinline__ void add_up_rows(const RowPlace& place, unsigned rows,
                                              float (&sums)[kGroups][kLanes]) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        shared_[(k * kLanes + i) * blockDim.x + threadIdx.x] = sums[k][i];
      }
    }
    __syncthreads();
    if (threadIdx.x >= place.threads_per_row) return;
#pragma unroll 1
    for (unsigned row = 1; row < rows; ++row) {
      const unsigned thread = row * place.threads_per_row + threadIdx.x;
#pragma unroll
      for (int k = 0; k < kGroups; ++k) {
#pragma unroll
        for (int i = 0; i < kLanes; ++i) {
          sums[k][i] += shared_[(k * kLanes + i) * blockDim.x + thread];
        }
      }
    }
  }

  float* shared_;
  std::int64_t index_;
  std::int64_t cols_;
  float* partials_[kSums];
  float sums_[kSums][kGroups][kLanes];
};

/// Partial rows of a launch of `kernel` over a matrix on the current device (column_sums.h).
template <class... Params>
cudaError_t device_partial_rows(std::int64_t* partials, void (*kernel)(Params...),
                                const RowLaunch& launch, std::size_t shared_bytes,
                                std::int64_t rows, std::int64_t cols) {
  int multiprocessors = 0;
  int resident = 0;
  cudaError_t status = count_multiprocessors(&multiprocessors);
  if (status == cudaSuccess) {
    status = count_resident(&resident, reinterpret_cast<const void*>(kernel), launch, shared_bytes);
  }
  if (status == cudaSuccess)
    *partials = partial_rows(launch, rows, cols, multiprocessors, resident);
  return status;
}

/// out[col] = value, rounded to `dtype`: fp32, fp16 or bf16.
__device__ __forceinline__ void store_as(DType dtype, void* out, std::int64_t col, float value) {
  if (dtype == DType::kFloat16) {
    static_cast<__half*>(out)[col] = narrow<__half>(value);
  } else if (dtype == DType::kBFloat16) {
    static_cast<__nv_bfloat16*>(out)[col] = narrow<__nv_bfloat16>(value);
  } else {
    static_cast<float*>(out)[col] = value;
  }
}

/// Sums of one launch: over equally many partial rows, of one layout and one dtype.
struct ColumnSums {
  static constexpr int kMost = 5;

  struct Sum {
    void* out;             // [cols]
    const float* partial;  // [partials, layout.row_elements()]
  };

  Sum sums[kMost];
  unsigned count = 0;

  /// Nothing where `out` is null.
  void add(void* out, const float* partial) {
    if (out != nullptr) sums[count++] = {out, partial};
  }
};

constexpr int kColumnSumRows = 16;  // partial rows that a block reads at a time

/// One kernel for all dtypes: only the last store of a column depends on it.
template <int kRows>
__global__ void __launch_bounds__(kRowWarp* kRows)
    add_up_partial_rows(const __grid_constant__ ColumnSums all, DType dtype, std::int64_t partials,
                        PartialLayout layout) {
  __shared__ double sums[kRows][kRowWarp];
  const float* partial = all.sums[blockIdx.y].partial;
  const std::int64_t elements = layout.row_elements();
  for (std::int64_t first = std::int64_t{blockIdx.x} * kRowWarp; first < elements;
       first += std::int64_t{gridDim.x} * kRowWarp) {
    const std::int64_t element = first + threadIdx.x;
    const std::int64_t col = layout.column_at(element);
    const bool has_column = element < elements && col < layout.cols;
    double sum = 0.0;
    if (has_column) {
#pragma unroll 8
      for (std::int64_t row = threadIdx.y; row < partials; row += kRows) {
        sum += static_cast<double>(partial[row * elements + element]);
      }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && has_column) {
      for (int row = 1; row < kRows; ++row) sum += sums[row][threadIdx.x];
      store_as(dtype, all.sums[blockIdx.y].out, col, static_cast<float>(sum));
    }
    __syncthreads();
  }
}

/// out[c] = the sum of column c of the partial rows, for every one of `sums` in one launch; `dtype`
/// is that of out. Returns the launch's status.
inline cudaError_t launch_column_sums(const ColumnSums& sums, DType dtype, std::int64_t partials,
                                      const PartialLayout& layout, cudaStream_t stream) {
  if (dtype == DType::kFloat64) return cudaErrorInvalidValue;
  if (sums.count == 0) return cudaSuccess;
  const std::int64_t wanted = (layout.row_elements() + kRowWarp - 1) / kRowWarp;
  const auto blocks = static_cast<unsigned>(wanted < kMaxRowBlocks ? wanted : kMaxRowBlocks);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks, sums.count);
  config.blockDim = dim3(kRowWarp, kColumnSumRows);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, &add_up_partial_rows<kColumnSumRows>, sums, dtype, partials,
                            layout);
}

}  // namespace kernelhub::primitives
