// SPDX-License-Identifier: Apache-2.0
// Rotation in fp64, for gradient checks: the plain formula.
#include "rotary_cpu/rotary_cpu.h"
#include "rotary_cpu/row_walk.h"

namespace kernelhub::rotary::cpu {
namespace {

template <class S>
void apply_table(const Params& params, std::int64_t begin, std::int64_t end) {
  const std::int64_t step = params.interleaved ? 2 : 1;
  walk_rows<double, S>(params, begin, end, 0, [&params, step](const Row<double, S>& row) {
    for (std::int64_t i = 0; i < params.half; ++i) {
      const double c = row.cos[i];
      const double s = params.conj ? -row.sin[i] : row.sin[i];
      const double x1 = row.x1[i * step];
      const double x2 = row.x2[i * step];
      row.out1[i * step] = x1 * c - x2 * s;
      row.out2[i * step] = x2 * c + x1 * s;
    }
  });
}

}  // namespace

void apply_fp64(const Params& params, std::int64_t begin, std::int64_t end) {
  if (params.table_dtype == primitives::DType::kFloat32) {
    return apply_table<float>(params, begin, end);
  }
  return apply_table<double>(params, begin, end);
}

}  // namespace kernelhub::rotary::cpu
