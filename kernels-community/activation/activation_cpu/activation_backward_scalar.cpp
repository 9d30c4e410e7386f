// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_backward_simd.h"
#include "activation_cpu/activation_cpu.h"

static_assert(HWY_TARGET == HWY_SCALAR, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

void apply_backward_scalar(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  HWY_NAMESPACE::apply_backward(params, begin, end);
}

}  // namespace kernelhub::activation::cpu
