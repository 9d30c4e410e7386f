// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "activation_cpu/activation_cpu.h"
#include "activation_cpu/activation_simd.h"

static_assert(HWY_TARGET == HWY_SCALAR, "compile this file with the flags of build.toml");

namespace kernelhub::activation::cpu {

void apply_scalar(const Params& params, std::int64_t begin, std::int64_t end) {
  HWY_NAMESPACE::apply(params, begin, end);
}

void apply_gated_scalar(const Params& params, const std::uint16_t* table, std::int64_t begin,
                        std::int64_t end) {
  HWY_NAMESPACE::apply_gated_table(params, table, begin, end);
}

}  // namespace kernelhub::activation::cpu
