// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_simd.h"

static_assert(HWY_TARGET == HWY_AVX2, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

Level level_avx2(bool gathers) {
  namespace simd = HWY_NAMESPACE;
  return gathers ? simd::level<simd::Gathers>() : simd::level<simd::Loads>();
}

}  // namespace kernelhub::activation::cpu
