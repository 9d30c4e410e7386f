// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_backward_simd.h"
#include "activation_cpu/activation_cpu.h"

static_assert(HWY_TARGET == HWY_AVX2, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

BackwardLevel backward_level_avx2(bool gathers) {
  namespace simd = HWY_NAMESPACE;
  if (gathers) {
    return {simd::apply_backward, simd::apply_slopes<simd::Gathers>,
            simd::apply_derivatives<simd::Gathers>};
  }
  return {simd::apply_backward, simd::apply_slopes<simd::Loads>,
          simd::apply_derivatives<simd::Loads>};
}

}  // namespace kernelhub::activation::cpu
