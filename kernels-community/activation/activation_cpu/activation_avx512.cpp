// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_cpu.h"
#include "activation_cpu/activation_simd.h"

static_assert(HWY_TARGET == HWY_AVX3, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

Level level_avx512(bool gathers) {
  namespace simd = HWY_NAMESPACE;
  if (gathers) {
    return {simd::apply, simd::apply_table<simd::Gathers>, simd::apply_gated_table<simd::Gathers>};
  }
  return {simd::apply, simd::apply_table<simd::Loads>, simd::apply_gated_table<simd::Loads>};
}

}  // namespace kernelhub::activation::cpu
