// SPDX-License-Identifier: Apache-2.0
#include "activation_cpu/activation_cpu.h"
#include "primitives/cpu_dispatch.h"

namespace kernelhub::activation::cpu {
namespace {

using primitives::DType;

BackwardLevel best_level() {
  const bool gathers = primitives::has_fast_gathers();
  switch (primitives::select_cpu_isa("activation")) {
    case primitives::CpuIsa::kAvx512:
      return backward_level_avx512(gathers);
    case primitives::CpuIsa::kAvx2:
      return backward_level_avx2(gathers);
    case primitives::CpuIsa::kScalar:
      break;
  }
  return backward_level_scalar();
}

}  // namespace

void run_backward(const BackwardParams& params, const primitives::ParallelFor& parallel_for) {
  static const BackwardLevel level = best_level();
  const auto split = [&](const auto& body) {
    parallel_for(0, params.rows * params.cols, primitives::kElementsPerThread, body);
  };
  const bool has_16_bits = params.dtype == DType::kFloat16 || params.dtype == DType::kBFloat16;
  if (has_16_bits && params.op != Op::kFatreluAndMul) {
    const Op op = smooth(activation_of(params.op));
    if (is_gated(params.op)) {
      const Derivative* derivatives = derivative_table(op, params.dtype);
      return split([&](std::int64_t begin, std::int64_t end) {
        level.apply_derivatives(params, derivatives, begin, end);
      });
    }
    const float* slopes = slope_table(op, params.dtype);
    return split([&](std::int64_t begin, std::int64_t end) {
      level.apply_slopes(params, slopes, begin, end);
    });
  }
  const ApplyBackward apply = params.dtype == DType::kFloat64 ? apply_backward_fp64 : level.apply;
  split([&](std::int64_t begin, std::int64_t end) { apply(params, begin, end); });
}

}  // namespace kernelhub::activation::cpu
