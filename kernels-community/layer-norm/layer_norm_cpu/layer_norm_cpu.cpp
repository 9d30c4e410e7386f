// SPDX-License-Identifier: Apache-2.0
#include "layer_norm_cpu/layer_norm_cpu.h"

#include "primitives/cpu_dispatch.h"

namespace kernelhub::layer_norm::cpu {
namespace {

using Normalize = void (*)(const Params&, std::int64_t, std::int64_t);

Normalize best_normalize() {
  switch (primitives::select_cpu_isa("layer_norm")) {
    case primitives::CpuIsa::kAvx512:
      return normalize_avx512;
    case primitives::CpuIsa::kAvx2:
      return normalize_avx2;
    case primitives::CpuIsa::kScalar:
      break;
  }
  return normalize_scalar;
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  if (params.weight_dtype != params.dtype) return run(fused(params), parallel_for);
  static const Normalize simd_normalize = best_normalize();
  const Normalize normalize =
      params.dtype == primitives::DType::kFloat64 ? normalize_fp64 : simd_normalize;
  const std::int64_t rows_per_thread = 1 + (primitives::kElementsPerThread - 1) / params.cols;
  parallel_for(0, params.rows, rows_per_thread,
               [&params, normalize](std::int64_t begin, std::int64_t end) {
                 normalize(params, begin, end);
               });
}

}  // namespace kernelhub::layer_norm::cpu
