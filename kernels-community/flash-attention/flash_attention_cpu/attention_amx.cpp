// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "flash_attention_cpu/tile_products_simd.h"

#if !defined(__AMX_TILE__) || !defined(__AMX_BF16__)
#error "compile this file with the flags of build.toml"
#endif

namespace kernelhub::flash_attention::cpu {

const Kernels kAmxKernels = {
    &HWY_NAMESPACE::attend_pairs<HWY_NAMESPACE::TileProducts<AmxTiles>>,
    &HWY_NAMESPACE::finish_pairs,
};

}  // namespace kernelhub::flash_attention::cpu
