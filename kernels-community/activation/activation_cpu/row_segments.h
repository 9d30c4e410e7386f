// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "activation/params.h"
#include "primitives/stretches.h"

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Where a stretch's elements lie, and how many elements further what is worth fetching meanwhile.
template <class T>
struct Segment {
  const T* input;  // x of the first element; a gated y lies params.cols further
  T* out;
  std::int64_t count;
  std::int64_t input_ahead, out_ahead;
};

/// Calls `visit(segment)` for the stretches of output elements [begin, end).
template <class T, class F>
inline void for_each_row_segment(const Params& params, std::int64_t begin, std::int64_t end,
                                 const F& visit) {
  const T* input = static_cast<const T*>(params.input);
  T* out = static_cast<T*>(params.out);
  primitives::for_each_stretch<T>(params.cols, begin, end, [&](const primitives::Stretch& stretch) {
    visit(Segment<T>{input + stretch.row * params.input_stride + stretch.col,
                     out + stretch.row * params.out_stride + stretch.col, stretch.count,
                     stretch.ahead(params.input_stride), stretch.ahead(params.out_stride)});
  });
}

}  // namespace
}  // namespace kernelhub::activation::cpu
