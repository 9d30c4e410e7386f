// SPDX-License-Identifier: Apache-2.0
// Products of matrices whose rows lie in lanes.
#pragma once

#include <type_traits>

#include "flash_attention_cpu/rows_simd.h"
#include "flash_attention_cpu/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

// Register block of the products: kKeyStep broadcast scalars against kPanel vectors of rows.
#if HWY_TARGET == HWY_AVX3
constexpr int kPanel = 4;
constexpr int kKeyStep = 6;
#elif HWY_TARGET == HWY_AVX2
constexpr int kPanel = 2;
constexpr int kKeyStep = 6;
#else
constexpr int kPanel = 4;
constexpr int kKeyStep = 2;
#endif

/// c[j][column] = c[j][column] * scale[column] + sum_t a[j * a_row + t * a_step] * b[t][column] for
/// `count` values of j; rows of b and c are kBlockRows apart. Without `scale` c is only written.
/// An element of a and b is an fp32 number, or two bf16 steps of the sum, as the arithmetic says.
struct Product {
  const float* a;
  std::int64_t a_row, a_step;
  std::int64_t count;  // values of j
  std::int64_t steps;  // values of t
  const float* b;
  float* c;
  const float* scale;
};

/// Elements are fp32 numbers.
struct Fp32Arithmetic {
  static HWY_INLINE V add_product(V a, V b, V sum) { return hn::MulAdd(a, b, sum); }
};

/// kKeys values of j and kVectors vectors of columns.
template <class Arithmetic, int kKeys, int kVectors>
HWY_INLINE void product_block(const float* HWY_RESTRICT a, std::int64_t a_row, std::int64_t a_step,
                              std::int64_t steps, const float* HWY_RESTRICT b,
                              float* HWY_RESTRICT c, const float* HWY_RESTRICT scale) {
  const F32 d;
  const std::int64_t lanes = lane_count();
  V sums[kKeys][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kKeys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) sums[j][i] = hn::Zero(d);
  }
  for (std::int64_t t = 0; t < steps; ++t) {
    V row[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) row[i] = hn::Load(d, b + t * kBlockRows + i * lanes);
#pragma GCC unroll 8
    for (int j = 0; j < kKeys; ++j) {
      const V factor = set(a[j * a_row + t * a_step]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) {
        sums[j][i] = Arithmetic::add_product(factor, row[i], sums[j][i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kKeys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      float* const to = c + j * kBlockRows + i * lanes;
      if (scale == nullptr) {
        hn::Store(sums[j][i], d, to);
      } else {
        hn::Store(hn::MulAdd(hn::Load(d, to), hn::Load(d, scale + i * lanes), sums[j][i]), d, to);
      }
    }
  }
}

template <class Arithmetic, int kVectors>
HWY_NOINLINE void product_panel(const Product& p, std::int64_t column) {
  const float* scale = p.scale == nullptr ? nullptr : p.scale + column;
  std::int64_t j = 0;
  const auto block = [&](auto keys) {
    constexpr int kKeys = decltype(keys)::value;
    product_block<Arithmetic, kKeys, kVectors>(p.a + j * p.a_row, p.a_row, p.a_step, p.steps,
                                               p.b + column, p.c + j * kBlockRows + column, scale);
    j += kKeys;
  };
  while (j + kKeyStep <= p.count) block(std::integral_constant<int, kKeyStep>());
  while (j + 2 <= p.count) block(std::integral_constant<int, 2>());
  if (j < p.count) block(std::integral_constant<int, 1>());
}

/// All columns of the first `rows` rows (rounded up to whole vectors).
template <class Arithmetic>
HWY_INLINE void product(const Product& p, std::int64_t rows) {
  const std::int64_t lanes = lane_count();
  std::int64_t column = 0;
  for (; column + (kPanel - 1) * lanes < rows; column += kPanel * lanes) {
    product_panel<Arithmetic, kPanel>(p, column);
  }
  for (; column < rows; column += lanes) product_panel<Arithmetic, 1>(p, column);
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
