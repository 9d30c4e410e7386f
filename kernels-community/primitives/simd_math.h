// SPDX-License-Identifier: Apache-2.0
// fp32 exponentials, logistic gates, the normal distribution and tanh on Highway lanes. Highway
// 1.0.3 has no erf, and its exp stops short of the subnormal results that a bf16 tail needs.
// Every function gives the same lane result in whichever lane it runs.
#pragma once

#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

HWY_INLINE V constant(double value) { return hn::Set(F32(), static_cast<float>(value)); }

/// a * b - product for product = a * b rounded: what the rounding lost, exactly.
HWY_INLINE V product_error(V a, V b, V product) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return hn::MulSub(a, b, product);
#else
  // No fused multiply-add: Dekker's product over Veltkamp's split (Numer. Math. 18 (1971),
  // 224-242).
  const V splitter = constant(4097.0);
  const V a_scaled = hn::Mul(a, splitter);
  const V a_high = hn::Sub(a_scaled, hn::Sub(a_scaled, a));
  const V a_low = hn::Sub(a, a_high);
  const V b_scaled = hn::Mul(b, splitter);
  const V b_high = hn::Sub(b_scaled, hn::Sub(b_scaled, b));
  const V b_low = hn::Sub(b, b_high);
  V error = hn::Sub(hn::Mul(a_high, b_high), product);
  error = hn::Add(error, hn::Mul(a_high, b_low));
  error = hn::Add(error, hn::Mul(a_low, b_high));
  return hn::Add(error, hn::Mul(a_low, b_low));
#endif
}

HWY_INLINE V power_of_two(hn::Vec<I32> exponent) {
  return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(I32(), 127))));
}

/// value * 2^n for an integral n in [-250, 250], also where 2^n or the result is subnormal.
HWY_INLINE V scale_by_power(V value, V n) {
#if HWY_TARGET == HWY_AVX3
  return V{_mm512_scalef_ps(value.raw, n.raw)};
#else
  const auto exponent = hn::ConvertTo(I32(), n);
  const auto half = hn::ShiftRight<1>(exponent);
  const V scaled = hn::Mul(value, power_of_two(half));
  return hn::Mul(scaled, power_of_two(hn::Sub(exponent, half)));
#endif
}

/// e^-(y + low) = mantissa * 2^exponent, mantissa in [0.7, 1.42], for y in [0, 130] and |low| much
/// smaller than 1. Cody-Waite reduction to |r| <= ln(2) / 2 and a polynomial of degree 6 in r:
/// relative error below 1.4e-8 before rounding (Remez fit in 40-digit arithmetic).
struct ExpParts {
  V mantissa;
  V exponent;
};

HWY_INLINE ExpParts exp_of_negative(V y, V low) {
  const V n = hn::Round(hn::Mul(y, constant(-1.4426950408889634)));
  // -r: ln(2) in two parts, the first short enough for an exact product.
  V s = hn::MulAdd(n, constant(0.693359375), y);
  s = hn::MulAdd(n, constant(-2.12194440054690583e-4), s);
  s = hn::Add(s, low);
  V m = constant(0.0013882487547);
  m = hn::MulAdd(m, s, constant(-0.0083666918799));
  m = hn::MulAdd(m, s, constant(0.0416672043502));
  m = hn::MulAdd(m, s, constant(-0.1666654199362));
  m = hn::MulAdd(m, s, constant(0.4999999701977));
  m = hn::MulAdd(m, s, constant(-1.0));
  return {hn::MulAdd(m, s, constant(1.0)), n};
}

/// x / (1 + e^-y), the logistic gate of x, for y of the sign of x and |y| = size + low. Written
/// over e^-|y|, so that it neither overflows nor cancels: within 3 ulp where the result is normal.
/// NaN in x gives NaN, +inf gives +inf, -inf gives NaN (as -inf / inf does in the plain formula).
HWY_INLINE V logistic_gate(V x, V size, V low) {
  const ExpParts e = exp_of_negative(hn::Min(size, constant(128.0)), low);
  const V power = scale_by_power(e.mantissa, e.exponent);
  const auto is_negative = hn::Lt(x, hn::Zero(F32()));
  const V numerator = hn::IfThenElse(is_negative, hn::Mul(x, power), x);
  return hn::Div(numerator, hn::Add(constant(1.0), power));
}

/// For a = min(|x|, 16): `tail` = Phi(-a), Phi the normal distribution, and `power` = e^(-a^2 / 2).
/// Phi(-a) = e^(-a^2 / 2) * P(a) / Q(a): the scaled complementary error function as a rational
/// minimax approximation of degree 4 over 5, relative error 4e-8 on [0, 14.6] with fp32
/// coefficients (the form of W. J. Cody, Math. Comp. 23 (1969), 631-637; own Remez fit in 40-digit
/// arithmetic). a^2 is kept in two parts, else its rounding alone costs a^2 / 2 ulp.
struct NormalTail {
  V size;  // a
  V power;
  V tail;
};

HWY_INLINE NormalTail normal_tail(V x) {
  const V a = hn::Min(hn::Abs(x), constant(16.0));
  const V half = hn::Mul(a, constant(0.5));
  const V size = hn::Mul(half, a);
  const ExpParts e = exp_of_negative(size, product_error(half, a, size));
  V p = constant(0.00412404293);
  p = hn::MulAdd(p, a, constant(0.0406852321));
  p = hn::MulAdd(p, a, constant(0.183389227));
  p = hn::MulAdd(p, a, constant(0.438502633));
  p = hn::MulAdd(p, a, constant(0.500000003));
  V q = constant(0.0103373246);
  q = hn::MulAdd(q, a, constant(0.10198913));
  q = hn::MulAdd(q, a, constant(0.469877457));
  q = hn::MulAdd(q, a, constant(1.20314268));
  q = hn::MulAdd(q, a, constant(1.67489025));
  q = hn::MulAdd(q, a, constant(1.0));
  const V tail = scale_by_power(hn::Div(hn::Mul(p, e.mantissa), q), e.exponent);
  return {a, scale_by_power(e.mantissa, e.exponent), tail};
}

/// x * Phi(x) = 0.5 * x * (1 + erf(x / sqrt(2))) without the cancellation of 1 + erf. Special
/// values as in logistic_gate.
HWY_INLINE V normal_gate(V x) {
  const NormalTail normal = normal_tail(x);
  // For x >= 0: x - x * Phi(-x); a instead of the factor x keeps +inf from meeting zero.
  return hn::IfThenElse(hn::Lt(x, hn::Zero(F32())), hn::Mul(x, normal.tail),
                        hn::NegMulAdd(normal.size, normal.tail, x));
}

/// tanh(x) = -E / (2 + E) with E = e^(-2|x|) - 1, the scheme of fdlibm: relative error below 3 ulp,
/// odd, NaN kept.
HWY_INLINE V tanh(V x) {
  const V y = hn::Min(hn::Mul(hn::Abs(x), constant(2.0)), constant(20.0));
  const V n = hn::Round(hn::Mul(y, constant(-1.4426950408889634)));
  V s = hn::MulAdd(n, constant(0.693359375), y);
  s = hn::MulAdd(n, constant(-2.12194440054690583e-4), s);
  V q = constant(0.0013882487547);
  q = hn::MulAdd(q, s, constant(-0.0083666918799));
  q = hn::MulAdd(q, s, constant(0.0416672043502));
  q = hn::MulAdd(q, s, constant(-0.1666654199362));
  q = hn::MulAdd(q, s, constant(0.4999999701977));
  // 1 - e^-s, kept apart from 1: for small x it is all there is.
  const V fraction = hn::NegMulAdd(hn::Mul(s, s), q, s);
  const V scale = power_of_two(hn::ConvertTo(I32(), n));
  const V one_minus = hn::MulAdd(scale, fraction, hn::Sub(constant(1.0), scale));
  const V magnitude = hn::Div(one_minus, hn::Sub(constant(2.0), one_minus));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::CopySign(magnitude, x));
}

}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
