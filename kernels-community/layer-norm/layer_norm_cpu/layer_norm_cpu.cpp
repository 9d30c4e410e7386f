// SPDX-License-Identifier: Apache-2.0
#include "layer_norm_cpu/layer_norm_cpu.h"

#include "primitives/column_workspace.h"
#include "primitives/cpu_dispatch.h"

namespace kernelhub::layer_norm::cpu {
namespace {

const Isa& best_isa() {
  switch (primitives::select_cpu_isa("layer_norm")) {
    case primitives::CpuIsa::kAvx512:
      return kAvx512;
    case primitives::CpuIsa::kAvx2:
      return kAvx2;
    case primitives::CpuIsa::kScalar:
      break;
  }
  return kScalar;
}

const Isa& isa() {
  static const Isa& best = best_isa();
  return best;
}

std::int64_t rows_per_thread(std::int64_t cols) {
  return 1 + (primitives::kElementsPerThread - 1) / cols;
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  if (params.dtype != primitives::DType::kFloat64) return run_plain(fused(params), parallel_for);
  parallel_for(0, params.rows, rows_per_thread(params.cols),
               [&](std::int64_t begin, std::int64_t end) { normalize_fp64(params, begin, end); });
}

void run_plain(const FusedParams& params, const primitives::ParallelFor& parallel_for) {
  const Isa& best = isa();  // may throw, which the bodies below must not
  parallel_for(0, params.rows, rows_per_thread(params.cols),
               [&](std::int64_t begin, std::int64_t end) { best.normalize(params, begin, end); });
}

void run_plain(const FusedBackwardParams& params, const primitives::ParallelFor& parallel_for) {
  const Isa& best = isa();
  const std::int64_t sums =
      (params.dgamma0 != nullptr ? 1 : 0) + (params.dbeta0 != nullptr ? 1 : 0);
  if (sums == 0) {
    parallel_for(
        0, params.rows, rows_per_thread(params.cols),
        [&](std::int64_t begin, std::int64_t end) { best.differentiate(params, begin, end); });
    return;
  }
  if (params.rows == 1) return best.differentiate_one(params);
  const auto chunks = primitives::column_chunks(params.rows, params.cols, sums);
  primitives::ColumnWorkspace workspace(primitives::column_workspace_bytes(chunks, sums));
  parallel_for(0, chunks.count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      best.differentiate_chunk(params, workspace.data(), chunks, chunk);
    }
  });
  parallel_for(0, params.cols, 1 + primitives::kElementsPerThread / chunks.count,
               [&](std::int64_t begin, std::int64_t end) {
                 best.add_up(params, workspace.data(), chunks, begin, end);
               });
}

}  // namespace kernelhub::layer_norm::cpu
