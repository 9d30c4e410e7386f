// SPDX-License-Identifier: Apache-2.0
#include "rmsnorm_cpu/rmsnorm_cpu.h"

#include <algorithm>
#include <limits>

#include "primitives/cpu_dispatch.h"

namespace kernelhub::rmsnorm::cpu {
namespace {

const Isa& best_isa() {
  switch (primitives::select_cpu_isa("rmsnorm")) {
    case primitives::CpuIsa::kAvx512:
      return kAvx512;
    case primitives::CpuIsa::kAvx2:
      return kAvx2;
    case primitives::CpuIsa::kScalar:
      break;
  }
  return kScalar;
}

const Isa& isa_for(primitives::DType dtype) {
  static const Isa& simd = best_isa();
  return dtype == primitives::DType::kFloat64 ? kFloat64 : simd;
}

std::int64_t rows_per_thread(std::int64_t cols) {
  return 1 + (primitives::kElementsPerThread - 1) / cols;
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  if (params.cols == 0) {
    std::fill_n(params.rstd, params.rows, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const Isa& isa = isa_for(params.dtype);
  parallel_for(0, params.rows, rows_per_thread(params.cols),
               [&](std::int64_t begin, std::int64_t end) { isa.normalize(params, begin, end); });
}

std::int64_t backward_workspace(std::int64_t rows, std::int64_t cols) {
  if (rows == 0 || cols == 0) return 0;
  return primitives::column_workspace_bytes(primitives::column_chunks(rows, cols, 1), 1);
}

void run_backward(const BackwardParams& params, const primitives::ParallelFor& parallel_for) {
  const Isa& isa = isa_for(params.dtype);
  if (params.grad_weight == nullptr) {
    parallel_for(
        0, params.rows, rows_per_thread(params.cols),
        [&](std::int64_t begin, std::int64_t end) { isa.differentiate(params, begin, end); });
    return;
  }
  if (params.rows == 1) return isa.differentiate_one(params);
  const auto chunks = primitives::column_chunks(params.rows, params.cols, 1);
  parallel_for(0, chunks.count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      isa.differentiate_chunk(params, chunks, chunk);
    }
  });
  parallel_for(
      0, params.cols, 1 + primitives::kElementsPerThread / chunks.count,
      [&](std::int64_t begin, std::int64_t end) { isa.add_up(params, chunks, begin, end); });
}

}  // namespace kernelhub::rmsnorm::cpu
