// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "activation/params.h"

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Calls `segment(grad_out, input, grad_input, count)` for each stretch of one row inside elements
/// [begin, end) of grad_out. The pointers lie at the first element's x; a gated y and its gradient
/// lie params.cols further.
template <class T, class F>
inline void for_each_backward_segment(const BackwardParams& params, std::int64_t begin,
                                      std::int64_t end, const F& segment) {
  const T* grad_out = static_cast<const T*>(params.grad_out);
  const T* input = static_cast<const T*>(params.input);
  T* grad_input = static_cast<T*>(params.grad_input);
  std::int64_t row = begin / params.cols;
  std::int64_t col = begin - row * params.cols;
  while (begin < end) {
    const std::int64_t left_in_row = params.cols - col;
    const std::int64_t count = left_in_row < end - begin ? left_in_row : end - begin;
    segment(grad_out + row * params.grad_out_stride + col, input + row * params.input_stride + col,
            grad_input + row * params.grad_input_stride + col, count);
    begin += count;
    col = 0;
    ++row;
  }
}

}  // namespace
}  // namespace kernelhub::activation::cpu
