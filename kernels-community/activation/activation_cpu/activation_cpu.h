// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "activation/params.h"
#include "primitives/parallel_for.h"

namespace kernelhub::activation::cpu {

/// Computes `params.op` on host memory with the best instruction set of this CPU, split over
/// `parallel_for`. Thread-safe; allocates nothing. Throws std::runtime_error only for a bad
/// `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// As `run`, for the backward of `params.op`.
void run_backward(const BackwardParams& params, const primitives::ParallelFor& parallel_for);

/// Writes elements [begin, end) of the output, counted row by row: the same values whatever the
/// split. One function per instruction set, for fp32 and all dtypes of fatrelu_and_mul, and one for
/// fp64.
void apply_scalar(const Params& params, std::int64_t begin, std::int64_t end);
void apply_avx2(const Params& params, std::int64_t begin, std::int64_t end);
void apply_avx512(const Params& params, std::int64_t begin, std::int64_t end);
void apply_fp64(const Params& params, std::int64_t begin, std::int64_t end);

/// The same for silu_and_mul, mul_and_silu and the gelu gates in fp16 and bf16, the activation
/// taken from `table` (value_table.h).
void apply_gated_scalar(const Params& params, const std::uint16_t* table, std::int64_t begin,
                        std::int64_t end);
void apply_gated_avx2(const Params& params, const std::uint16_t* table, std::int64_t begin,
                      std::int64_t end);
void apply_gated_avx512(const Params& params, const std::uint16_t* table, std::int64_t begin,
                        std::int64_t end);

/// The gradient of the input for elements [begin, end) of grad_out, counted row by row.
void apply_backward_scalar(const BackwardParams& params, std::int64_t begin, std::int64_t end);
void apply_backward_avx2(const BackwardParams& params, std::int64_t begin, std::int64_t end);
void apply_backward_avx512(const BackwardParams& params, std::int64_t begin, std::int64_t end);
void apply_backward_fp64(const BackwardParams& params, std::int64_t begin, std::int64_t end);

}  // namespace kernelhub::activation::cpu
