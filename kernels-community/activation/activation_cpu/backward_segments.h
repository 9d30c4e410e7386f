// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "activation/params.h"
#include "primitives/stretches.h"

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Where a stretch's elements lie, and how many elements further what is worth fetching meanwhile.
template <class T>
struct BackwardSegment {
  const T* grad_out;
  const T* input;  // x of the first element; a gated y, and its gradient, lie params.cols further
  T* grad_input;
  std::int64_t count;
  std::int64_t grad_out_ahead, input_ahead, grad_input_ahead;
};

/// Calls `visit(segment)` for the stretches of elements [begin, end) of grad_out.
template <class T, class F>
inline void for_each_backward_segment(const BackwardParams& params, std::int64_t begin,
                                      std::int64_t end, const F& visit) {
  const auto at = [](auto* data, std::int64_t stride, const primitives::Stretch& stretch) {
    return data + stretch.row * stride + stretch.col;
  };
  const T* grad_out = static_cast<const T*>(params.grad_out);
  const T* input = static_cast<const T*>(params.input);
  T* grad_input = static_cast<T*>(params.grad_input);
  primitives::for_each_stretch<T>(params.cols, begin, end, [&](const primitives::Stretch& stretch) {
    visit(BackwardSegment<T>{
        at(grad_out, params.grad_out_stride, stretch), at(input, params.input_stride, stretch),
        at(grad_input, params.grad_input_stride, stretch), stretch.count,
        stretch.ahead(params.grad_out_stride), stretch.ahead(params.input_stride),
        stretch.ahead(params.grad_input_stride)});
  });
}

}  // namespace
}  // namespace kernelhub::activation::cpu
