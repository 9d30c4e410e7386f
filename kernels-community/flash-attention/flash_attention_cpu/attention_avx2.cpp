// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "flash_attention_cpu/attention_simd.h"

static_assert(HWY_TARGET == HWY_AVX2, "compile this file with the flags of build.toml");

namespace kernelhub::flash_attention::cpu {

const Kernels kAvx2Kernels = {&HWY_NAMESPACE::attend, &HWY_NAMESPACE::finish};

}  // namespace kernelhub::flash_attention::cpu
