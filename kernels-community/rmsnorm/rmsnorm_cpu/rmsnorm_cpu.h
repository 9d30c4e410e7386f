// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "primitives/column_sums.h"
#include "primitives/parallel_for.h"
#include "rmsnorm/params.h"

namespace kernelhub::rmsnorm::cpu {

/// Normalises every row on host memory with the best instruction set of this CPU, split by rows
/// over `parallel_for`. Thread-safe; allocates nothing. Throws std::runtime_error only for a bad
/// `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// Bytes of `workspace` for a backward that makes grad_weight of x [rows, cols].
std::int64_t backward_workspace(std::int64_t rows, std::int64_t cols);

/// As `run`, for the gradients that are asked for. Their bits do not depend on the thread count.
void run_backward(const BackwardParams& params, const primitives::ParallelFor& parallel_for);

/// One instruction set's code, or fp64's. A row's result depends on nothing but the row.
struct Isa {
  /// Rows [begin, end).
  void (*normalize)(const Params& params, std::int64_t begin, std::int64_t end);
  /// grad_x of rows [begin, end).
  void (*differentiate)(const BackwardParams& params, std::int64_t begin, std::int64_t end);
  /// The rows of one chunk: grad_x where it is asked for, and into the workspace the chunk's share
  /// of grad_weight.
  void (*differentiate_chunk)(const BackwardParams& params, const primitives::ColumnChunks& chunks,
                              std::int64_t chunk);
  /// Columns [begin, end) of grad_weight from the chunks in the workspace.
  void (*add_up)(const BackwardParams& params, const primitives::ColumnChunks& chunks,
                 std::int64_t begin, std::int64_t end);
  /// grad_weight of one row, and grad_x where it is asked for. Needs no workspace.
  void (*differentiate_one)(const BackwardParams& params);
};

extern const Isa kScalar;
extern const Isa kAvx2;
extern const Isa kAvx512;
extern const Isa kFloat64;

}  // namespace kernelhub::rmsnorm::cpu
