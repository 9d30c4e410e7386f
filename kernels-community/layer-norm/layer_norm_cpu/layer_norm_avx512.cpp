// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "layer_norm_cpu/layer_norm_cpu.h"
#include "layer_norm_cpu/layer_norm_simd.h"

static_assert(HWY_TARGET == HWY_AVX3, "compile this file with the flags of build.toml");

namespace kernelhub::layer_norm::cpu {

void normalize_avx512(const Params& params, std::int64_t begin, std::int64_t end) {
  HWY_NAMESPACE::normalize(params, begin, end);
}

}  // namespace kernelhub::layer_norm::cpu
