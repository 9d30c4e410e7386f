// SPDX-License-Identifier: Apache-2.0
#include "activation_cpu/activation_cpu.h"

#include "activation_cpu/value_table.h"
#include "primitives/cpu_dispatch.h"

namespace kernelhub::activation::cpu {
namespace {

using primitives::DType;

Level best_level() {
  const bool gathers = primitives::has_fast_gathers();
  switch (primitives::select_cpu_isa("activation")) {
    case primitives::CpuIsa::kAvx512:
      return level_avx512(gathers);
    case primitives::CpuIsa::kAvx2:
      return level_avx2(gathers);
    case primitives::CpuIsa::kScalar:
      break;
  }
  return level_scalar();
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  static const Level level = best_level();
  const auto split = [&](const auto& body) {
    parallel_for(0, params.rows * params.cols, primitives::kElementsPerThread, body);
  };
  if (params.dtype == DType::kFloat16 || params.dtype == DType::kBFloat16) {
    if (params.op != Op::kFatreluAndMul) {
      const std::uint16_t* table = value_table(activation_of(params.op), params.dtype);
      const auto apply = is_gated(params.op) ? level.apply_gated : level.apply_table;
      return split([&params, table, apply](std::int64_t begin, std::int64_t end) {
        apply(params, table, begin, end);
      });
    }
  }
  const Apply apply = params.dtype == DType::kFloat64 ? apply_fp64 : level.apply;
  split([&params, apply](std::int64_t begin, std::int64_t end) { apply(params, begin, end); });
}

}  // namespace kernelhub::activation::cpu
