// SPDX-License-Identifier: Apache-2.0
// Whether a step of an fp32 activation, or with GRADIENTS of its derivative, is subnormal, compiled
// for one instruction set. Some CPUs take a hundred cycles for one. Prints where; test_look_up.py
// compiles and runs it.
#define HWY_COMPILE_ONLY_STATIC
#include <algorithm>
#include <cstdio>
#include <immintrin.h>
#include <iterator>

#ifdef GRADIENTS
#include "activation_cpu/activation_backward_simd.h"
#else
#include "activation_cpu/activation_simd.h"
#endif

namespace simd = kernelhub::activation::HWY_NAMESPACE;
namespace hn = hwy::HWY_NAMESPACE;
using kernelhub::activation::Op;

constexpr std::size_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());

template <Op op>
[[gnu::noinline]] void compute(const float* from, float* to) {
  const hn::ScalableTag<float> d;
  const auto x = hn::LoadU(d, from), threshold = hn::Zero(d);
#ifdef GRADIENTS
  hn::StoreU(simd::differentiate<op>(x, threshold).slope, d, to);
#else
  hn::StoreU(simd::activate<op>(x, threshold), d, to);
#endif
}

/// For numbers from 1/8 up to `most`, where neither results nor their squares are tiny.
template <Op op>
int subnormal_steps(const char* name, float most) {
  constexpr unsigned kFlags = 0x3f, kDenormalOperand = 1 << 1, kUnderflow = 1 << 4;
  float from[kLanes], to[kLanes];
  for (float x = 0.125f; x <= most; x += 0.125f) {
    std::fill(std::begin(from), std::end(from), x);
    _mm_setcsr(_mm_getcsr() & ~kFlags);
    compute<op>(from, to);
    if ((_mm_getcsr() & (kDenormalOperand | kUnderflow)) != 0) {
      std::printf("%s at %g\n", name, static_cast<double>(x));
      return 1;
    }
  }
  return 0;
}

int main() {
  constexpr float kMost = 400.0f;
  // What is taken from 1 or x is a product of its own in gelu's slope, and wherever multiply-adds
  // are not fused. From 13.3 on it is subnormal itself.
#if defined(GRADIENTS) || HWY_TARGET == HWY_SCALAR
  constexpr float kMostOfGelu = 13.0f;
#else
  constexpr float kMostOfGelu = kMost;
#endif
  return subnormal_steps<Op::kSilu>("silu", kMost) +
         subnormal_steps<Op::kGeluQuick>("gelu_quick", kMost) +
         subnormal_steps<Op::kGeluTanh>("gelu_tanh", kMost) +
         subnormal_steps<Op::kGelu>("gelu", kMostOfGelu);
}
