// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "activation/params.h"

namespace kernelhub::activation::cpu {
namespace {  // internal to each translation unit: they are compiled with different flags

/// Calls `segment(input, out, count)` for each stretch of one row inside output elements
/// [begin, end). `input` is where x of the first element lies; a gated y lies params.cols further.
template <class T, class F>
inline void for_each_row_segment(const Params& params, std::int64_t begin, std::int64_t end,
                                 const F& segment) {
  const T* input = static_cast<const T*>(params.input);
  T* out = static_cast<T*>(params.out);
  std::int64_t row = begin / params.cols;
  std::int64_t col = begin - row * params.cols;
  while (begin < end) {
    const std::int64_t left_in_row = params.cols - col;
    const std::int64_t count = left_in_row < end - begin ? left_in_row : end - begin;
    segment(input + row * params.input_stride + col, out + row * params.out_stride + col, count);
    begin += count;
    col = 0;
    ++row;
  }
}

}  // namespace
}  // namespace kernelhub::activation::cpu
