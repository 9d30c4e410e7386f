// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "layer_norm_cpu/fused_rows.h"
#include "layer_norm_cpu/layer_norm_cpu.h"

static_assert(HWY_TARGET == HWY_AVX3, "compile this file with the flags of build.toml");

namespace kernelhub::layer_norm::cpu {

void fused_avx512(const FusedParams& params, std::int64_t begin, std::int64_t end, void* scratch) {
  HWY_NAMESPACE::fused(params, begin, end, scratch);
}

void fused_backward_avx512(const FusedBackwardParams& params, std::int64_t begin, std::int64_t end,
                           void* scratch, double* totals) {
  HWY_NAMESPACE::fused_backward(params, begin, end, scratch, totals);
}

void sum_columns_avx512(primitives::DType dtype, const double* totals, std::int64_t pitch,
                        std::int64_t tasks, std::int64_t begin, std::int64_t end, void* out) {
  HWY_NAMESPACE::sum_columns(dtype, totals, pitch, tasks, begin, end, out);
}

}  // namespace kernelhub::layer_norm::cpu
