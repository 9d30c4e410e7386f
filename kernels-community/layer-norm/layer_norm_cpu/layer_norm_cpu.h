// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "layer_norm/params.h"
#include "primitives/parallel_for.h"

namespace kernelhub::layer_norm::cpu {

/// Normalises every row on host memory with the best instruction set of this CPU, split by rows
/// over `parallel_for`. Thread-safe; allocates nothing. Throws std::runtime_error only for a bad
/// `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// Rows [begin, end); a row's result depends on nothing but the row. One function per instruction
/// set, and one for fp64.
void normalize_scalar(const Params& params, std::int64_t begin, std::int64_t end);
void normalize_avx2(const Params& params, std::int64_t begin, std::int64_t end);
void normalize_avx512(const Params& params, std::int64_t begin, std::int64_t end);
void normalize_fp64(const Params& params, std::int64_t begin, std::int64_t end);

}  // namespace kernelhub::layer_norm::cpu
