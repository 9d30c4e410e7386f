// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_backward_simd.h"

static_assert(HWY_TARGET == HWY_AVX3, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

BackwardLevel backward_level_avx512(bool gathers) {
  namespace simd = HWY_NAMESPACE;
  return gathers ? simd::backward_level<simd::Gathers>() : simd::backward_level<simd::Loads>();
}

}  // namespace kernelhub::activation::cpu
