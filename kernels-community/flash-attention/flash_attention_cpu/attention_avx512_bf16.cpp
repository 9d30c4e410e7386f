// SPDX-License-Identifier: Apache-2.0
#define HWY_COMPILE_ONLY_STATIC
#include "flash_attention_cpu/pairs_simd.h"

namespace kernelhub::flash_attention::cpu {
namespace HWY_NAMESPACE {
namespace {

/// Products of pairs on VDPBF16PS.
struct DotProducts {
  struct Setup {};

  static HWY_INLINE void product(const Product& p, std::int64_t rows) {
    HWY_NAMESPACE::product<PairArithmetic>(p, rows);
  }
};

}  // namespace
}  // namespace HWY_NAMESPACE

const Kernels kAvx512Bf16Kernels = {&HWY_NAMESPACE::attend_pairs<HWY_NAMESPACE::DotProducts>,
                                    &HWY_NAMESPACE::finish_pairs};

}  // namespace kernelhub::flash_attention::cpu
