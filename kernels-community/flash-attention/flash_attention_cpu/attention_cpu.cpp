// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cpu/attention_cpu.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "flash_attention_cpu/row_source.h"
#include "flash_attention_cpu/scratch.h"

namespace kernelhub::flash_attention::cpu {
namespace {

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};
using Floats = std::unique_ptr<float, Free>;

/// Null when there is no memory.
Floats allocate(std::int64_t count) {
  const auto size = static_cast<std::size_t>(count) * sizeof(float);
  return Floats(static_cast<float*>(std::aligned_alloc(64, (size + 63) / 64 * 64)));
}

/// Floats of a Partial of `rows` rows.
std::int64_t partial_floats(const Params& params, std::int64_t rows) {
  return rows * (2 + params.head_dim_v);
}

Partial partial_at(float* memory, std::int64_t rows) {
  return {memory, memory + rows, memory + 2 * rows};
}

/// Adds the later splits of a head to the first, in order, and returns that.
Partial merged(const Params& params, const SplitHead& split, float* workspace) {
  const std::int64_t dim = params.head_dim_v;
  const std::int64_t rows = split.block.rows / split.block.heads;
  const std::int64_t first_row = split.head * rows;
  const auto part_of = [&](std::int64_t number) {
    const std::int64_t before = split.block.workspace + number * split.block.rows;
    const Partial all = partial_at(workspace + partial_floats(params, before), split.block.rows);
    return Partial{all.largest + first_row, all.sum + first_row, all.values + first_row * dim};
  };
  const Partial total = part_of(0);
  for (std::int64_t number = 1; number < split.block.splits; ++number) {
    const Partial part = part_of(number);
    for (std::int64_t r = 0; r < rows; ++r) {
      if (part.sum[r] == 0.0f) continue;  // has seen no key
      const float largest = part.largest[r] > total.largest[r] ? part.largest[r] : total.largest[r];
      const float old_weight = std::exp2(total.largest[r] - largest);
      const float new_weight = std::exp2(part.largest[r] - largest);
      total.largest[r] = largest;
      total.sum[r] = total.sum[r] * old_weight + part.sum[r] * new_weight;
      for (std::int64_t i = 0; i < dim; ++i) {
        float& value = total.values[r * dim + i];
        value = value * old_weight + part.values[r * dim + i] * new_weight;
      }
    }
  }
  return total;
}

/// Calls `work(number, scratch)` for all numbers below `count`. A thread that is done takes the
/// next one, whatever the ranges are that the pool deals out: causal pieces differ in length.
template <class Work>
void share(std::int64_t count, std::int64_t grain, std::int64_t scratch_size,
           const primitives::ParallelFor& parallel_for, const Work& work) {
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> is_out_of_memory{false};
  parallel_for(0, count, grain, [&](std::int64_t, std::int64_t) {
    if (next.load() >= count) return;
    const Floats scratch = allocate(scratch_size);
    if (scratch == nullptr) {
      is_out_of_memory = true;
      return;
    }
    for (std::int64_t i = next++; i < count; i = next++) work(i, scratch.get());
  });
  if (is_out_of_memory) throw std::bad_alloc();
}

/// Rows of a varlen out that belong to no sequence.
void clear_rest(const Params& params) {
  if (params.lengths.cu_q == nullptr) return;
  const std::int64_t size = primitives::size_of(params.dtype);
  for (std::int64_t row = params.lengths.cu_q[params.batch]; row < params.total_q; ++row) {
    for (std::int64_t head = 0; head < params.heads_q; ++head) {
      char* const to = static_cast<char*>(params.out) +
                       (row * params.out_strides.row + head * params.out_strides.head) * size;
      std::fill(to, to + params.head_dim_v * size, char{0});
      params.lse[head * params.lse_head_stride + row] = -HUGE_VALF;
    }
  }
}

}  // namespace

void run(const Params& params, const Kernels& kernels,
         const primitives::ParallelFor& parallel_for) {
  clear_rest(params);
  const Schedule schedule(params);
  if (schedule.pieces() == 0) return;
  const std::int64_t work = std::max<std::int64_t>(schedule.work_per_piece(), 1);
  // A multiplication costs about an eighth of what kElementsPerThread counts.
  const std::int64_t grain = std::max<std::int64_t>(1, 8 * primitives::kElementsPerThread / work);
  if (params.dtype == primitives::DType::kFloat64) {
    share(schedule.pieces(), grain, 16, parallel_for,
          [&](std::int64_t number, float*) { attend_fp64(params, schedule.piece(number)); });
    return;
  }
  const std::int64_t workspace_size = partial_floats(params, schedule.workspace_rows());
  const Floats workspace = workspace_size > 0 ? allocate(workspace_size) : Floats();
  if (workspace_size > 0 && workspace == nullptr) throw std::bad_alloc();
  const std::int64_t tiles = scratch_floats(params, schedule);
  share(schedule.pieces(), grain, tiles + partial_floats(params, schedule.most_rows()),
        parallel_for, [&](std::int64_t number, float* scratch) {
          const Piece piece = schedule.piece(number);
          if (piece.splits > 1) {
            float* const to = workspace.get() + partial_floats(params, piece.workspace);
            kernels.attend(params, piece, scratch, partial_at(to, piece.rows));
            return;
          }
          const Partial partial = partial_at(scratch + tiles, piece.rows);
          kernels.attend(params, piece, scratch, partial);
          kernels.finish(params, piece, partial);
        });
  if (workspace_size == 0) return;
  const std::int64_t merges =
      1 + primitives::kElementsPerThread * schedule.split_heads() / workspace_size;
  share(schedule.split_heads(), merges, 16, parallel_for, [&](std::int64_t number, float*) {
    const SplitHead split = schedule.split_head(number);
    const Partial total = merged(params, split, workspace.get());
    kernels.finish(params, head_of(split.block, split.head), total);
  });
}

}  // namespace kernelhub::flash_attention::cpu
