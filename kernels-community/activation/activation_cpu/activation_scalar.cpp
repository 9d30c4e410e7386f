// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_simd.h"

static_assert(HWY_TARGET == HWY_SCALAR, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

Level level_scalar() { return HWY_NAMESPACE::level<HWY_NAMESPACE::Loads>(); }

}  // namespace kernelhub::activation::cpu
