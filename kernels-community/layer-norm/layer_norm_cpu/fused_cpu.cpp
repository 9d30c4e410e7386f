// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "layer_norm_cpu/layer_norm_cpu.h"
#include "primitives/cpu_dispatch.h"

namespace kernelhub::layer_norm::cpu {
namespace {

using primitives::DType;
using primitives::ParallelFor;

constexpr std::int64_t kMaxTasks = 64;
constexpr std::int64_t kScratchBytes = std::int64_t{64} << 20;
constexpr std::size_t kCacheLine = 64;

struct Kernels {
  decltype(&fused_scalar) forward;
  decltype(&fused_backward_scalar) backward;
  decltype(&sum_columns_scalar) sum_columns;
};

Kernels best_kernels() {
  switch (primitives::select_cpu_isa("layer_norm")) {
    case primitives::CpuIsa::kAvx512:
      return {fused_avx512, fused_backward_avx512, sum_columns_avx512};
    case primitives::CpuIsa::kAvx2:
      return {fused_avx2, fused_backward_avx2, sum_columns_avx2};
    case primitives::CpuIsa::kScalar:
      break;
  }
  return {fused_scalar, fused_backward_scalar, sum_columns_scalar};
}

const Kernels& kernels() {
  static const Kernels best = best_kernels();
  return best;
}

std::int64_t padded(std::int64_t cols) {
  return (cols + kScratchLanes - 1) / kScratchLanes * kScratchLanes;
}

/// How the rows are cut. It depends on the shape only: with it the order of every addition.
struct Tasks {
  std::int64_t count;
  std::int64_t rows;
  std::int64_t row_bytes;     // scratch of one task for rows of Real
  std::int64_t total_values;  // and for its fp64 sums over rows

  std::int64_t begin(std::int64_t task) const { return rows * task / count; }
  std::int64_t bytes() const { return row_bytes + 8 * total_values; }
};

Tasks cut(const FusedShape& shape, std::int64_t column_sums) {
  const std::int64_t real = shape.dtype == DType::kFloat64 ? 8 : 4;
  Tasks tasks{kMaxTasks, shape.rows, padded(shape.cols) * kScratchRows * real,
              padded(shape.cols) * column_sums};
  const auto at_most = [&](std::int64_t limit) {
    tasks.count = limit < tasks.count ? limit : tasks.count;
  };
  at_most(1 + shape.rows * shape.cols / primitives::kElementsPerThread);
  at_most(1 + kScratchBytes / tasks.bytes());
  // A task's sums over rows are read once more: several rows each make that cheap.
  at_most(column_sums > 0 ? 1 + shape.rows / 8 : shape.rows);
  return tasks;
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Free>;

Memory scratch_for(const Tasks& tasks) {
  const auto bytes = static_cast<std::size_t>(tasks.count * tasks.bytes());
  Memory memory(static_cast<char*>(std::aligned_alloc(kCacheLine, bytes)));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void check_subset(const char* op, const char* name, const std::int32_t* subset, std::int64_t rows,
                  std::int64_t limit) {
  if (subset == nullptr) return;
  std::vector<bool> is_taken(static_cast<std::size_t>(limit + 1));
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t value = subset[row];
    const bool is_inside = value >= 0 && value <= limit;
    if (!is_inside || (value > 0 && is_taken[static_cast<std::size_t>(value)])) {
      throw std::runtime_error(std::string("layer_norm.") + op + ": " + name +
                               " values: expected 0 (none) and distinct numbers up to " +
                               std::to_string(limit) + ", got " + std::to_string(value) +
                               (is_inside ? " twice" : ""));
    }
    is_taken[static_cast<std::size_t>(value)] = true;
  }
}

/// Statistics [rows], or null.
void fill_with_nan(DType dtype, void* statistics, std::int64_t rows) {
  if (statistics == nullptr) return;
  if (dtype == DType::kFloat64) {
    std::fill_n(static_cast<double*>(statistics), rows, std::numeric_limits<double>::quiet_NaN());
  } else {
    std::fill_n(static_cast<float*>(statistics), rows, std::numeric_limits<float>::quiet_NaN());
  }
}

template <class Pointer>
void clear(const Matrix<Pointer>& matrix, std::int64_t rows, std::int64_t cols, std::int64_t size) {
  if (matrix.data == nullptr) return;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::memset(reinterpret_cast<char*>(matrix.data) + row * matrix.stride * size, 0,
                static_cast<std::size_t>(cols * size));
  }
}

void store_sum(const FusedShape& shape, const Tasks& tasks, const char* scratch, std::int64_t index,
               void* out, const ParallelFor& parallel_for) {
  const auto* totals =
      reinterpret_cast<const double*>(scratch + tasks.row_bytes) + index * padded(shape.cols);
  const std::int64_t pitch = tasks.bytes() / static_cast<std::int64_t>(sizeof(double));
  const std::int64_t blocks = padded(shape.cols) / kScratchLanes;
  const auto sum_columns = kernels().sum_columns;
  parallel_for(0, blocks, primitives::kElementsPerThread / kScratchLanes,
               [&](std::int64_t first, std::int64_t last) {
                 const std::int64_t end = last == blocks ? shape.cols : last * kScratchLanes;
                 sum_columns(shape.weight_dtype, totals, pitch, tasks.count, first * kScratchLanes,
                             end, out);
               });
}

}  // namespace

void run(const FusedParams& params, const ParallelFor& parallel_for) {
  if (params.cols == 0) {
    fill_with_nan(params.dtype, params.mu, params.rows);
    fill_with_nan(params.dtype, params.rsigma, params.rows);
    return;
  }
  if (is_plain(params) && params.dtype != DType::kFloat64) return run_plain(params, parallel_for);
  constexpr const char* kOp = "dropout_add_norm";
  check_subset(kOp, "x0_subset", params.x0_subset, params.rows, params.x0_rows);
  check_subset(kOp, "z_subset", params.z_subset, params.rows, params.z_rows);
  const std::int64_t size = primitives::size_of(params.dtype);
  if (params.x0_subset != nullptr) clear(params.dmask0, params.x0_rows, params.cols, 1);
  if (params.z_subset != nullptr) {
    clear(params.z0, params.z_rows, params.cols, size);
    clear(params.z1, params.z_rows, params.cols, size);
  }
  if (params.rows == 0) return;
  const auto forward = kernels().forward;
  const Tasks tasks = cut(params, 0);
  const Memory scratch = scratch_for(tasks);
  parallel_for(0, tasks.count, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t task = first; task < last; ++task) {
      forward(params, tasks.begin(task), tasks.begin(task + 1),
              scratch.get() + task * tasks.bytes());
    }
  });
}

void run(const FusedBackwardParams& params, const ParallelFor& parallel_for) {
  if (is_plain(params) && params.dtype != DType::kFloat64) return run_plain(params, parallel_for);
  constexpr const char* kOp = "dropout_add_norm_backward";
  check_subset(kOp, "x0_subset", params.x0_subset, params.rows, params.x0_rows);
  check_subset(kOp, "z_subset", params.z_subset, params.rows, params.z_rows);
  if (params.x0_subset != nullptr) {
    clear(params.dx0, params.x0_rows, params.cols, primitives::size_of(params.dtype));
  }
  std::vector<void*> sums;
  for (void* sum :
       {params.dgamma0, params.dbeta0, params.dgamma1, params.dbeta1, params.dcolscale}) {
    if (sum != nullptr) sums.push_back(sum);
  }
  const auto sum_count = static_cast<std::int64_t>(sums.size());
  if (params.rows == 0) {
    for (void* sum : sums) {
      clear(Out{sum, 0}, 1, params.cols, primitives::size_of(params.weight_dtype));
    }
    return;
  }
  const auto backward = kernels().backward;
  const Tasks tasks = cut(params, sum_count);
  const Memory scratch = scratch_for(tasks);
  parallel_for(0, tasks.count, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t task = first; task < last; ++task) {
      char* memory = scratch.get() + task * tasks.bytes();
      backward(params, tasks.begin(task), tasks.begin(task + 1), memory,
               reinterpret_cast<double*>(memory + tasks.row_bytes));
    }
  });
  for (std::int64_t i = 0; i < sum_count; ++i) {
    store_sum(params, tasks, scratch.get(), i, sums[static_cast<std::size_t>(i)], parallel_for);
  }
}

}  // namespace kernelhub::layer_norm::cpu
