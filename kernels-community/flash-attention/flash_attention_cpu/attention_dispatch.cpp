// SPDX-License-Identifier: Apache-2.0
#include "flash_attention_cpu/attention_cpu.h"
#include "flash_attention_cpu/tile_permission.h"
#include "primitives/cpu_dispatch.h"

namespace kernelhub::flash_attention::cpu {
namespace {

const Kernels& best_kernels() {
  switch (primitives::select_cpu_level("flash_attention", &request_tiles)) {
    case primitives::CpuLevel::kAmx:
      return kAmxKernels;
    case primitives::CpuLevel::kAvx512Bf16:
      return kAvx512Bf16Kernels;
    case primitives::CpuLevel::kAvx512:
      return kAvx512Kernels;
    case primitives::CpuLevel::kAvx2:
      return kAvx2Kernels;
    case primitives::CpuLevel::kScalar:
      break;
  }
  return kScalarKernels;
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  static const Kernels& kernels = best_kernels();
  run(params, kernels, parallel_for);
}

}  // namespace kernelhub::flash_attention::cpu
