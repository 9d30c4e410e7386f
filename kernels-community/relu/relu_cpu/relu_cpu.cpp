// SPDX-License-Identifier: Apache-2.0
// A comparison and a selection an element: memory is the limit at every instruction set, so the
// baseline's vectors do, and 16-bit values need no arithmetic at all.
#include "relu_cpu/relu_cpu.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <emmintrin.h>
#include <type_traits>

#include "primitives/batch_loop.h"

namespace kernelhub::relu::cpu {
namespace {

using primitives::Rows;
using primitives::Streaming;

/// NaN is not cut: it stays. For an element and for a vector of them.
template <class T>
struct Number {
  using Storage = T;
  typedef T Vector __attribute__((vector_size(16)));
  template <class X>
  static auto is_cut(X x) {
    return x <= X{};
  }
};

/// A 16-bit float as an integer: -0 is the smallest, and no NaN lies between it and -inf.
template <std::int16_t negative_infinity>
struct Pattern {
  using Storage = std::int16_t;
  typedef std::int16_t Vector __attribute__((vector_size(16)));
  template <class X>
  static auto is_cut(X x) {
    return (x <= negative_infinity) | (x == 0);
  }
};

template <class Format>
void select_range(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  using V = typename Format::Vector;
  const std::array<Rows<const T>, 2> inputs{
      {{static_cast<const T*>(params.input), params.input_stride},
       {static_cast<const T*>(params.value), params.value_stride}}};
  const std::array<Rows<T>, 1> outs{{{static_cast<T*>(params.out), params.out_stride}}};
  constexpr auto kElements = static_cast<std::int64_t>(sizeof(V) / sizeof(T));
  constexpr auto kLine = primitives::kLineBytes / static_cast<std::int64_t>(sizeof(T));
  const auto select = [](const auto& from, const auto& to, std::int64_t i, auto streams) {
    V input, value;
    std::memcpy(&input, from[0] + i, sizeof input);
    std::memcpy(&value, from[1] + i, sizeof value);
    const auto out = reinterpret_cast<__m128i>(Format::is_cut(input) ? V{} : value);
    auto* place = reinterpret_cast<__m128i*>(to[0] + i);
    streams ? _mm_stream_si128(place, out) : _mm_storeu_si128(place, out);
  };
  const auto whole = [&](const auto& from, const auto& to, std::int64_t i, auto streams, auto) {
    for (const std::int64_t end_i = i + kLine; i < end_i; i += kElements) {
      select(from, to, i, streams);
    }
  };
  const auto rest = [&](const auto& from, const auto& to, std::int64_t i, std::int64_t count) {
    const std::int64_t end_i = i + count;
    for (; i + kElements <= end_i; i += kElements) select(from, to, i, std::false_type());
    for (; i < end_i; ++i) {
      const T value = from[1][i];
      to[0][i] = Format::is_cut(from[0][i]) ? T{0} : value;
    }
  };
  const bool is_apart = params.out != params.input && params.out != params.value;
  primitives::for_each_batch<T, 1, primitives::CacheLevel::kSecond>(
      inputs, outs, Streaming::of<T>(is_apart ? params.rows : 0, params.cols),
      {params.rows, params.cols, begin, end}, whole, rest);
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
