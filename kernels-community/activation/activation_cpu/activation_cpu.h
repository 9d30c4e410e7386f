// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "activation/params.h"
#include "activation_cpu/value_table.h"
#include "primitives/parallel_for.h"

namespace kernelhub::activation::cpu {

/// Computes `params.op` on host memory with the best instruction set of this CPU, split over
/// `parallel_for`. Thread-safe; allocates nothing. Throws std::runtime_error only for a bad
/// `KERNELHUB_CPU_ISA`.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

/// As `run`, for the backward of `params.op`.
void run_backward(const BackwardParams& params, const primitives::ParallelFor& parallel_for);

/// Writes elements [begin, end) of the output, counted row by row: the same values whatever the
/// split.
using Apply = void (*)(const Params& params, std::int64_t begin, std::int64_t end);
using ApplyTable = void (*)(const Params& params, const std::uint16_t* table, std::int64_t begin,
                            std::int64_t end);

/// What is compiled once per instruction set.
struct Level {
  Apply apply;             // fp32, and all dtypes of fatrelu_and_mul
  ApplyTable apply_table;  // ops of one tensor in fp16 and bf16, looked up (value_table.h)
  ApplyTable apply_gated;  // the other gated ops in fp16 and bf16, their activation looked up
};

/// `gathers`: look up with gathering loads, which not every CPU has fast.
Level level_scalar();
Level level_avx2(bool gathers);
Level level_avx512(bool gathers);

void apply_fp64(const Params& params, std::int64_t begin, std::int64_t end);

/// The gradient of the input for elements [begin, end) of grad_out, counted row by row.
using ApplyBackward = void (*)(const BackwardParams& params, std::int64_t begin, std::int64_t end);
using ApplySlopes = void (*)(const BackwardParams& params, const float* slopes, std::int64_t begin,
                             std::int64_t end);
using ApplyDerivatives = void (*)(const BackwardParams& params, const Derivative* derivatives,
                                  std::int64_t begin, std::int64_t end);

/// As Level.
struct BackwardLevel {
  ApplyBackward apply;                 // fp32, and all dtypes of fatrelu_and_mul
  ApplySlopes apply_slopes;            // ops of one tensor in fp16 and bf16, looked up
  ApplyDerivatives apply_derivatives;  // the other gated ops in fp16 and bf16
};

BackwardLevel backward_level_scalar();
BackwardLevel backward_level_avx2(bool gathers);
BackwardLevel backward_level_avx512(bool gathers);

void apply_backward_fp64(const BackwardParams& params, std::int64_t begin, std::int64_t end);

}  // namespace kernelhub::activation::cpu
