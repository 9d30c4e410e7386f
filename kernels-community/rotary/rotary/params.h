// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::rotary {

/// Leading dimensions that a call may have after those of one stride are merged.
constexpr int kMaxDims = 4;

/// Where the rows of one operand lie: row (i0, i1, ...) starts sum(i * strides) elements behind
/// `data`. Rows are unit-stride inside.
struct Operand {
  const void* data;
  std::int64_t strides[kMaxDims];
};

struct Result {
  void* data;
  std::int64_t strides[kMaxDims];
};

/// One tensor and what rotates it: out1 = x1 cos - x2 sin, out2 = x1 sin + x2 cos, `half` columns
/// each. Interleaved, x2 is x1 + 1 element and column i of either lies 2 i elements on.
struct Part {
  std::int64_t sizes[kMaxDims];  // >= 1; widest stride of out1 first, ones where there are fewer
  Operand x1;
  Operand x2;
  Result out1;  // may be exactly x1, as out2 may be x2
  Result out2;
  Operand cos;  // stride 0 along dimensions that share their rows
  Operand sin;
  Operand positions;  // one index a row; data is null without
  std::int64_t tail;  // columns 2 half ... 2 half + tail of x1 to be copied to out1

  std::int64_t rows() const {
    std::int64_t count = 1;
    for (const std::int64_t size : sizes) count *= size;
    return count;
  }
};

/// One call, already checked.
struct Params {
  primitives::DType dtype;        // of x and out
  primitives::DType table_dtype;  // of cos and sin: dtype or fp32
  int count;                      // parts in use: 0 where there is nothing to compute
  Part parts[2];
  std::int64_t half;  // rotated pairs of a row, >= 1
  bool interleaved;
  bool conj;                // rotate backwards: sin changes its sign
  bool has_wide_positions;  // int64, else int32
  std::int64_t cos_stride;  // from one position's row to the next
  std::int64_t sin_stride;
  std::int64_t table_rows;  // positions lie in [0, table_rows)
};

}  // namespace kernelhub::rotary
