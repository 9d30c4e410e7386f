// SPDX-License-Identifier: Apache-2.0
#include "rotary_cpu/rotary_cpu.h"

#include "primitives/cpu_dispatch.h"

namespace kernelhub::rotary::cpu {
namespace {

using Apply = void (*)(const Params&, std::int64_t, std::int64_t);

Apply best_apply() {
  switch (primitives::select_cpu_isa("rotary")) {
    case primitives::CpuIsa::kAvx512:
      return apply_avx512;
    case primitives::CpuIsa::kAvx2:
      return apply_avx2;
    case primitives::CpuIsa::kScalar:
      break;
  }
  return apply_scalar;
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  static const Apply simd_apply = best_apply();
  const Apply apply = params.dtype == primitives::DType::kFloat64 ? apply_fp64 : simd_apply;
  std::int64_t rows = 0;
  for (int i = 0; i < params.count; ++i) rows += params.parts[i].rows();
  // A division would take as long as a small call's rows.
  constexpr std::int64_t kElements = primitives::kElementsPerThread;
  const std::int64_t cols = 2 * params.half;
  const std::int64_t rows_per_thread = rows * cols <= kElements ? rows : 1 + (kElements - 1) / cols;
  parallel_for(0, rows, rows_per_thread, [&params, apply](std::int64_t begin, std::int64_t end) {
    apply(params, begin, end);
  });
}

}  // namespace kernelhub::rotary::cpu
