// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "primitives/parallel_for.h"
#include "rotary/params.h"

namespace kernelhub::rotary::cpu {

/// Rotates host memory with the best instruction set of this CPU, split over `parallel_for`.
/// Positions were checked. Thread-safe; allocates nothing. Throws std::runtime_error only for a bad
/// `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// Rotates rows [begin, end), counted part by part in the order of Part::sizes: the same values
/// whatever the split. One function per instruction set for 16 bits and fp32, and one for fp64.
void apply_scalar(const Params& params, std::int64_t begin, std::int64_t end);
void apply_avx2(const Params& params, std::int64_t begin, std::int64_t end);
void apply_avx512(const Params& params, std::int64_t begin, std::int64_t end);
void apply_fp64(const Params& params, std::int64_t begin, std::int64_t end);

}  // namespace kernelhub::rotary::cpu
