// SPDX-License-Identifier: Apache-2.0
// A comparison and a selection an element: memory is the limit at every instruction set, so the
// baseline's vectors do, and 16-bit values need no arithmetic at all.
#include "relu_cpu/relu_cpu.h"

#include <algorithm>

namespace kernelhub::relu::cpu {
namespace {

/// NaN is not cut: it stays.
template <class T>
struct Number {
  using Storage = T;
  static bool is_cut(T x) { return x <= T{0}; }
};

/// A 16-bit float as an integer: -0 is the smallest, and no NaN lies between it and -inf.
template <std::int16_t negative_infinity>
struct Pattern {
  using Storage = std::int16_t;
  static bool is_cut(std::int16_t x) { return (x <= negative_infinity) | (x == 0); }
};

template <class Format>
void select_range(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  std::int64_t row = begin / params.cols;
  std::int64_t col = begin - row * params.cols;
  while (begin < end) {
    const std::int64_t count = std::min(params.cols - col, end - begin);
    const T* input = static_cast<const T*>(params.input) + row * params.input_stride + col;
    const T* value = static_cast<const T*>(params.value) + row * params.value_stride + col;
    T* out = static_cast<T*>(params.out) + row * params.out_stride + col;
    // The three are equal or disjoint, which the compiler cannot see.
#pragma GCC ivdep
    for (std::int64_t i = 0; i < count; ++i) {
      const T kept = value[i];
      out[i] = Format::is_cut(input[i]) ? T{0} : kept;
    }
    begin += count;
    col = 0;
    ++row;
  }
}

using Select = void (*)(const Params&, std::int64_t, std::int64_t);

Select select_of(primitives::DType dtype) {
  switch (dtype) {
    case primitives::DType::kFloat16:
      return select_range<Pattern<-0x0400>>;
    case primitives::DType::kBFloat16:
      return select_range<Pattern<-0x0080>>;
    case primitives::DType::kFloat64:
      return select_range<Number<double>>;
    case primitives::DType::kFloat32:
      break;
  }
  return select_range<Number<float>>;
}

}  // namespace

void run(const Params& params, const primitives::ParallelFor& parallel_for) {
  const Select select = select_of(params.dtype);
  parallel_for(
      0, params.rows * params.cols, primitives::kElementsPerThread,
      [&params, select](std::int64_t begin, std::int64_t end) { select(params, begin, end); });
}

}  // namespace kernelhub::relu::cpu
