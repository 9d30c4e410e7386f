// SPDX-License-Identifier: Apache-2.0
// The parts of the activations that stand on approximate units. The rounded results keep the
// contract for any result of the units within their documented error (PTX ISA 9.x: ex2.approx.f32 2
// ulp, rcp.approx.f32 1 ulp over the full range); tests/kernels/test_approx_math.py compiles this
// file for the host, tries those errors on all 65,536 inputs, and names the few that they can
// change.
#pragma once

#include <cmath>

namespace kernelhub::activation::cuda {

constexpr float kLog2E = 1.4426950408889634f;

/// Largest |x| for which silu and gelu_quick take the short forms below: no intermediate overflows.
constexpr float kOrdinary = 40.0f;

/// x / (1 + e) for e >= 0, at most 2^60: one correction of the approximate quotient (P. Markstein,
/// IBM Journal of Research and Development 34 (1990), 111-119).
template <class Units>
__device__ __forceinline__ float divide_by_one_plus(float x, float e) {
  const float divisor = 1.0f + e;
  const float reciprocal = Units::rcp(divisor);
  const float quotient = x * reciprocal;
  // In this order of signs a zero keeps its own.
  return fmaf(-fmaf(divisor, quotient, -x), reciprocal, quotient);
}

/// x / (1 + e^(-1.702 x)) within 1 ulp of 16 bits.
template <class Units>
__device__ __forceinline__ float quick_gelu(float x) {
  return x * Units::rcp(1.0f + Units::ex2(x * (-1.702f * kLog2E)));
}

/// tanh(u) with an absolute error of about 2^-22, for results that are rounded and then added to 1.
template <class Units>
__device__ __forceinline__ float tanh_beside_one(float u) {
  return fmaf(-2.0f, Units::rcp(1.0f + Units::ex2(u * (2.0f * kLog2E))), 1.0f);
}

/// tanhf of CUDA 13 without its last range: from 9.0109 on, where tanhf gives 1, the quotient does
/// so too unless u is that very number, which no 16-bit x of gelu_tanh leads to.
template <class Units>
__device__ __forceinline__ float open_tanh(float u) {
  const float magnitude = fabsf(u);
  const float reciprocal = Units::rcp(Units::ex2(magnitude * 2.885390043f) + 1.0f);
  const float large = copysignf(fmaf(reciprocal, -2.0f, 1.0f), u);
  const float square = u * u;
  float series = fmaf(0.01573968306f, square, -0.05230396241f);
  series = fmaf(series, square, 0.1331529766f);
  series = fmaf(series, square, -0.3333276808f);
  const float small = fmaf(fmaf(series, square, 0.0f), u, u);
  return magnitude >= 0.6f ? large : small;
}

/// Where the series of erf ends.
constexpr float kErfSeries = 1.00296f;

/// erf(a) for |a| below kErfSeries.
__device__ __forceinline__ float erf_series(float a) {
  const float square = a * a;
  float series = fmaf(8.4834945e-05f, square, -0.00082130916f);
  series = fmaf(series, square, 0.005213489f);
  series = fmaf(series, square, -0.026868774f);
  series = fmaf(series, square, 0.11284005f);
  series = fmaf(series, square, -0.37612665f);
  series = fmaf(series, square, 0.12837915f);
  return fmaf(series, a, a);
}

/// erfc(magnitude) from kErfSeries on.
template <class Units>
__device__ __forceinline__ float erfc_tail(float magnitude) {
  float power = fmaf(0.000112198715f, magnitude, -0.0013275252f);
  power = fmaf(power, magnitude, 0.008396535f);
  power = fmaf(power, magnitude, -0.040246584f);
  power = fmaf(power, magnitude, 0.15950431f);
  power = fmaf(power, magnitude, 0.9129177f);
  power = fmaf(power, magnitude, 0.62906003f);
  return Units::ex2(fmaf(power, -magnitude, -magnitude));
}

/// erff of CUDA 13, which selects every coefficient by the range of its argument: here both ranges
/// are computed and one result is selected, of the same operations on the same operands.
template <class Units>
__device__ __forceinline__ float selected_erf(float a) {
  const float magnitude = fabsf(a);
  const float tail = copysignf(1.0f - erfc_tail<Units>(magnitude), a);
  const float series = erf_series(a);
  return magnitude >= kErfSeries ? tail : series;
}

/// The normal distribution at x and its density.
struct Normal {
  float distribution;
  float density;
};

/// Phi(-|x|) is phi(x) t P(t) with t = 1 / (1 + 0.3 |x|): P is a minimax fit for |x| up to 13.5,
/// where phi leaves the normal numbers, with a relative error of 1.3e-7.
template <class Units>
__device__ __forceinline__ Normal normal(float x) {
  const float t = Units::rcp(fmaf(0.3f, fabsf(x), 1.0f));
  float ratio = fmaf(0.0900679578f, t, -0.396740822f);
  ratio = fmaf(ratio, t, 0.521899257f);
  ratio = fmaf(ratio, t, -0.138854017f);
  ratio = fmaf(ratio, t, 0.32453222f);
  ratio = fmaf(ratio, t, 0.249753869f);
  ratio = fmaf(ratio, t, 0.302796622f);
  ratio = fmaf(ratio, t, 0.299858888f);
  const float density = 0.3989422804f * Units::ex2(x * x * (-0.5f * kLog2E));
  const float below = ratio * t * density;
  return {x < 0.0f ? below : 1.0f - below, density};
}

/// The stepwise forms in arithmetic that rounds to 16 bits after every operation. Constants are
/// fp32 in the contract: T(x * c) is fma(x, c_hi, T(x * c_lo)) with c = c_hi + c_lo, both positive
/// so that infinities stay.
template <class N>
__device__ __forceinline__ typename N::Pair times(typename N::Pair x, typename N::Split constant) {
  return N::fma(x, constant.hi, N::mul(x, constant.lo));
}

template <class N>
__device__ __forceinline__ typename N::Pair half_gate(typename N::Pair x, typename N::Pair inner) {
  return N::mul(N::mul(x, N::half()), N::add(N::one(), N::tanh(inner)));
}

template <class N>
__device__ __forceinline__ typename N::Pair stepwise_gelu_fast(typename N::Pair x) {
  const auto a = times<N>(x, N::sqrt_two_over_pi());
  const auto b = N::add(N::one(), N::mul(times<N>(x, N::cubic()), x));
  return half_gate<N>(x, N::mul(a, b));
}

template <class N>
__device__ __forceinline__ typename N::Pair stepwise_gelu_new(typename N::Pair x) {
  const auto cube = N::mul(N::mul(x, x), x);
  const auto sum = N::add(x, times<N>(cube, N::cubic()));
  return half_gate<N>(x, times<N>(sum, N::sqrt_two_over_pi()));
}

}  // namespace kernelhub::activation::cuda
