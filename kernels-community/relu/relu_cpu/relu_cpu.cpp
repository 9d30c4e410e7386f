// SPDX-License-Identifier: Apache-2.0
// A comparison and a selection an element: memory is the limit at every instruction set, so the
// baseline's vectors do, and 16-bit values need no arithmetic at all.
#include "relu_cpu/relu_cpu.h"

#include "primitives/stretches.h"

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
  const T* inputs = static_cast<const T*>(params.input);
  const T* values = static_cast<const T*>(params.value);
  T* outs = static_cast<T*>(params.out);
  primitives::for_each_stretch<T>(params.cols, begin, end, [&](const primitives::Stretch& stretch) {
    const T* input = inputs + stretch.row * params.input_stride + stretch.col;
    const T* value = values + stretch.row * params.value_stride + stretch.col;
    T* out = outs + stretch.row * params.out_stride + stretch.col;
    constexpr auto kLine = primitives::kLineBytes / static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < stretch.count; i += kLine) {
      primitives::fetch(input + stretch.ahead(params.input_stride) + i);
      primitives::fetch(value + stretch.ahead(params.value_stride) + i);
      primitives::fetch_to_write(out + stretch.ahead(params.out_stride) + i);
    }
    // The three are equal or disjoint, which the compiler cannot see.
#pragma GCC ivdep
    for (std::int64_t i = 0; i < stretch.count; ++i) {
      const T kept = value[i];
      out[i] = Format::is_cut(input[i]) ? T{0} : kept;
    }
  });
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
