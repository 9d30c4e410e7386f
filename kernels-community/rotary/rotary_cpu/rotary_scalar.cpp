// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "rotary_cpu/rotary_cpu.h"
#include "rotary_cpu/rotary_simd.h"

static_assert(HWY_TARGET == HWY_SCALAR, "compile this file with the flags of build.toml");

namespace kernelhub::rotary::cpu {

void apply_scalar(const Params& params, std::int64_t begin, std::int64_t end) {
  HWY_NAMESPACE::apply(params, begin, end);
}

}  // namespace kernelhub::rotary::cpu
