// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layer_norm/params.h"
#include "primitives/parallel_for.h"

namespace kernelhub::layer_norm::cpu {

/// Normalises every row on host memory with the best instruction set of this CPU, split by rows
/// over `parallel_for`. Thread-safe; allocates nothing, but as the fused op where the weights have
/// another dtype than the rows. Throws std::runtime_error only for a bad `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// The fused op and its gradient. As above, but a task works in scratch memory, at most 64 MiB and
/// some rows in all, that is allocated here: std::bad_alloc. Subsets must hold distinct rows of x0
/// and z, or 0: std::runtime_error before anything is written.
void run(const FusedParams& params, const primitives::ParallelFor& parallel_for);
void run(const FusedBackwardParams& params, const primitives::ParallelFor& parallel_for);

/// Rows [begin, end); a row's result depends on nothing but the row. One function per instruction
/// set, and one for fp64.
void normalize_scalar(const Params& params, std::int64_t begin, std::int64_t end);
void normalize_avx2(const Params& params, std::int64_t begin, std::int64_t end);
void normalize_avx512(const Params& params, std::int64_t begin, std::int64_t end);
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
