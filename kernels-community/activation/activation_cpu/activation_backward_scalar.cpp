// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_backward_simd.h"
#include "activation_cpu/activation_cpu.h"

static_assert(HWY_TARGET == HWY_SCALAR, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

BackwardLevel backward_level_scalar() {
  namespace simd = HWY_NAMESPACE;
  return {simd::apply_backward, simd::apply_slopes<simd::Loads>,
          simd::apply_derivatives<simd::Loads>};
}

}  // namespace kernelhub::activation::cpu
