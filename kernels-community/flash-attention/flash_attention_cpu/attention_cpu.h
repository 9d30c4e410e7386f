// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "flash_attention/params.h"
#include "flash_attention/schedule.h"
#include "primitives/parallel_for.h"

namespace kernelhub::flash_attention::cpu {

/// Attention on host memory with the best instruction set of this CPU. Writes all of out and lse.
/// Memory beyond that: a few tiles per thread, and for blocks of rows whose keys are split, their
/// partial results. Thread-safe. Throws std::runtime_error for a bad `KERNELHUB_CPU_ISA` and
/// std::bad_alloc.
void run(const Params& params, const primitives::ParallelFor& parallel_for);

struct Kernels;
/// The same with the given kernels.
void run(const Params& params, const Kernels& kernels, const primitives::ParallelFor& parallel_for);

/// Writes the new rows, k rotated, behind those that the cache has.
void append(const AppendParams& params, const primitives::ParallelFor& parallel_for);

/// What a block of rows has after some of its keys, in base 2: per row the largest score, the sum
/// of 2^(score - largest) and the values weighted by the same, [rows, head_dim_v].
struct Partial {
  float* largest;
  float* sum;
  float* values;
};

/// One instruction set's kernels. None of them throws.
struct Kernels {
  /// Computes one piece. `scratch`: scratch_floats(params, schedule), aligned to 64 bytes.
  void (*attend)(const Params& params, const Piece& piece, float* scratch, const Partial& result);
  /// Divides by the sum, sinks included, and writes the rows of out and lse.
  void (*finish)(const Params& params, const Piece& piece, const Partial& result);
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
/// bf16 prefill by dot products of pairs, the rest by kAvx512Kernels.
extern const Kernels kAvx512Bf16Kernels;
/// The same by tiles; the process must have been allowed to use them.
extern const Kernels kAmxKernels;

/// fp64 throughout, one row after the other: the piece covers all keys.
void attend_fp64(const Params& params, const Piece& piece);
/// Rotates pairs of `row` in place by the angles of `position`, which are fp64 too.
void rotate_fp64(const Rotary& rotary, std::int64_t position, double* row);

}  // namespace kernelhub::flash_attention::cpu
