// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "layer_norm_cpu/layer_norm_backward_simd.h"
#include "layer_norm_cpu/layer_norm_cpu.h"
#include "layer_norm_cpu/layer_norm_simd.h"
#include "layer_norm_cpu/one_row_backward.h"

static_assert(HWY_TARGET == HWY_AVX3, "compile this file with the flags of build.toml");

namespace kernelhub::layer_norm::cpu {

const Isa kAvx512{HWY_NAMESPACE::normalize, HWY_NAMESPACE::differentiate,
                  HWY_NAMESPACE::differentiate_chunk, HWY_NAMESPACE::add_up,
                  HWY_NAMESPACE::differentiate_one};

}  // namespace kernelhub::layer_norm::cpu
