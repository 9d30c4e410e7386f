// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "rmsnorm_cpu/one_row_backward.h"
#include "rmsnorm_cpu/rmsnorm_cpu.h"
#include "rmsnorm_cpu/rmsnorm_simd.h"

static_assert(HWY_TARGET == HWY_AVX2, "compile this file with the flags of build.toml");

namespace kernelhub::rmsnorm::cpu {

const Isa kAvx2{HWY_NAMESPACE::normalize, HWY_NAMESPACE::differentiate,
                HWY_NAMESPACE::differentiate_chunk, HWY_NAMESPACE::add_up,
                HWY_NAMESPACE::differentiate_one};

}  // namespace kernelhub::rmsnorm::cpu
