// SPDX-License-Identifier: Apache-2.0
#include "activation_cpu/activation_cpu.h"
#include "primitives/cpu_dispatch.h"

namespace kernelhub::activation::cpu {
namespace {

using ApplyBackward = void (*)(const BackwardParams&, std::int64_t, std::int64_t);

ApplyBackward best_apply_backward() {
  switch (primitives::select_cpu_isa("activation")) {
    case primitives::CpuIsa::kAvx512:
      return apply_backward_avx512;
    case primitives::CpuIsa::kAvx2:
      return apply_backward_avx2;
    case primitives::CpuIsa::kScalar:
      break;
  }
  return apply_backward_scalar;
}

}  // namespace

void run_backward(const BackwardParams& params, const primitives::ParallelFor& parallel_for) {
  static const ApplyBackward simd_apply = best_apply_backward();
  const ApplyBackward apply =
      params.dtype == primitives::DType::kFloat64 ? apply_backward_fp64 : simd_apply;
  parallel_for(
      0, params.rows * params.cols, primitives::kElementsPerThread,
      [&params, apply](std::int64_t begin, std::int64_t end) { apply(params, begin, end); });
}

}  // namespace kernelhub::activation::cpu
