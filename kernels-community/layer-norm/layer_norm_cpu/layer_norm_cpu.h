// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layer_norm/params.h"
#include "primitives/column_sums.h"
#include "primitives/parallel_for.h"

namespace kernelhub::layer_norm::cpu {

/// Normalises every row on host memory with the best instruction set of this CPU, split by rows
/// over `parallel_for`. Thread-safe; allocates nothing. Throws std::runtime_error only for a bad
/// `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// The fused op and its gradient. As above, but a task of a call that is not `is_plain` works in
/// scratch memory, at most 64 MiB and some rows in all, that is allocated here: std::bad_alloc.
/// Subsets must hold distinct rows of x0 and z, or 0: std::runtime_error before anything is
/// written.
void run(const FusedParams& params, const primitives::ParallelFor& parallel_for);
void run(const FusedBackwardParams& params, const primitives::ParallelFor& parallel_for);

/// Calls that are `is_plain`, not fp64, with some columns: as the general ones, which take them
/// here. Without scratch memory but for sums over rows.
void run_plain(const FusedParams& params, const primitives::ParallelFor& parallel_for);
void run_plain(const FusedBackwardParams& params, const primitives::ParallelFor& parallel_for);

/// One instruction set's code for plain norms of fp32 and 16-bit rows. A row's result depends on
/// nothing but the row.
struct Isa {
  /// Rows [begin, end) of a call that `is_plain`.
  void (*normalize)(const FusedParams& params, std::int64_t begin, std::int64_t end);
  /// dx0 of rows [begin, end) of a call that `is_plain` and asks for no sum over rows.
  void (*differentiate)(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end);
  /// The rows of one chunk: dx0 where it is asked for, and into the workspace the chunk's shares of
  /// dgamma0 and dbeta0, one or both.
  void (*differentiate_chunk)(const FusedBackwardParams& params, void* workspace,
                              const primitives::ColumnChunks& chunks, std::int64_t chunk);
  /// Columns [begin, end) of both from the chunks in the workspace.
  void (*add_up)(const FusedBackwardParams& params, void* workspace,
                 const primitives::ColumnChunks& chunks, std::int64_t begin, std::int64_t end);
  /// All gradients of a call that `is_plain`, over one row.
  void (*differentiate_one)(const FusedBackwardParams& params);
};

extern const Isa kScalar;
extern const Isa kAvx2;
extern const Isa kAvx512;

void normalize_fp64(const Params& params, std::int64_t begin, std::int64_t end);

void fused_scalar(const FusedParams& params, std::int64_t begin, std::int64_t end, void* scratch);
void fused_avx2(const FusedParams& params, std::int64_t begin, std::int64_t end, void* scratch);
void fused_avx512(const FusedParams& params, std::int64_t begin, std::int64_t end, void* scratch);

/// `totals` receives the sums over these rows that the call asks for, one after the other, each
/// padded to a multiple of kScratchLanes columns.
void fused_backward_scalar(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end,
                           void* scratch, double* totals);
void fused_backward_avx2(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end,
                         void* scratch, double* totals);
void fused_backward_avx512(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end,
                           void* scratch, double* totals);

/// Columns [begin, end) of out, begin a multiple of kScratchLanes: the sum over `tasks` such
/// totals, which lie `pitch` numbers apart, rounded to `dtype`.
void sum_columns_scalar(primitives::DType dtype, const double* totals, std::int64_t pitch,
                        std::int64_t tasks, std::int64_t begin, std::int64_t end, void* out);
void sum_columns_avx2(primitives::DType dtype, const double* totals, std::int64_t pitch,
                      std::int64_t tasks, std::int64_t begin, std::int64_t end, void* out);
void sum_columns_avx512(primitives::DType dtype, const double* totals, std::int64_t pitch,
                        std::int64_t tasks, std::int64_t begin, std::int64_t end, void* out);

/// Rows in scratch memory: so many of them at most, and padded to a multiple of so many elements.
constexpr std::int64_t kScratchRows = 8 + kMaxColumnSums;
constexpr std::int64_t kScratchLanes = 16;

}  // namespace kernelhub::layer_norm::cpu
