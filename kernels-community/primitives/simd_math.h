// SPDX-License-Identifier: Apache-2.0
// fp32 exponentials, logistic gates, the normal distribution and tanh on Highway lanes. Highway
// 1.0.3 has no erf, and its exp stops short of the subnormal results that a bf16 tail needs.
// Every function gives the same lane result in whichever lane it runs.
#pragma once

#include "primitives/simd_float.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

HWY_INLINE V constant(double value) { return hn::Set(F32(), static_cast<float>(value)); }

// Added to a number below 2^22 it leaves the nearest integer in the lowest bits.
constexpr double kRounder = 12582912.0;  // 1.5 * 2^23

/// 2^n, n in [-126, 127], from n + kRounder.
HWY_INLINE V power_of_two(V shifted) {
  const I32 di;
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(F32(), hn::Add(exponent, hn::Set(di, 127 << 23)));
}

/// value * 2^n for an integral n in [-250, 127], also where 2^n or the result is subnormal.
HWY_INLINE V scale_by_power(V value, V n) {
#if HWY_TARGET == HWY_AVX3
  return V{_mm512_scalef_ps(value.raw, n.raw)};
#else
  const V rounder = constant(kRounder);
  if (HWY_LIKELY(hn::AllTrue(F32(), hn::Ge(n, constant(-126.0))))) {
    return hn::Mul(value, power_of_two(hn::Add(n, rounder)));
  }
  // Both factors are normal and the first product is exact, so the result is rounded once.
  const V half = hn::Sub(hn::MulAdd(n, constant(0.5), rounder), rounder);
  const V scaled = hn::Mul(value, power_of_two(hn::Add(half, rounder)));
  return hn::Mul(scaled, power_of_two(hn::Add(hn::Sub(n, half), rounder)));
#endif
}

/// e^-z = mantissa * 2^exponent, mantissa in [0.7, 1.42], for z = y * unit in [0, 130]; `unit` is a
/// power of two. Cody-Waite reduction to |r| <= ln(2) / 2 and a polynomial of degree 6 in r:
/// relative error below 1.4e-8 before rounding (Remez fit in 40-digit arithmetic), and z / 2 ulp
/// for the rounding of y.
struct ExpParts {
  V mantissa;
  V exponent;
};

HWY_INLINE ExpParts exp_of_negative(V y, double unit = 1.0) {
  const V rounder = constant(kRounder);
  const V n = hn::Sub(hn::MulAdd(y, constant(-1.4426950408889634 * unit), rounder), rounder);
  // -r / unit: ln(2) in two parts, the first short enough for an exact product.
  V s = hn::MulAdd(n, constant(0.693359375 / unit), y);
  s = hn::MulAdd(n, constant(-2.12194440054690583e-4 / unit), s);
  const double unit2 = unit * unit;
  V m = constant(0.0013882487547 * unit2 * unit2 * unit2);
  m = hn::MulAdd(m, s, constant(-0.0083666918799 * unit2 * unit2 * unit));
  m = hn::MulAdd(m, s, constant(0.0416672043502 * unit2 * unit2));
  m = hn::MulAdd(m, s, constant(-0.1666654199362 * unit2 * unit));
  m = hn::MulAdd(m, s, constant(0.4999999701977 * unit2));
  m = hn::MulAdd(m, s, constant(-unit));
  return {hn::MulAdd(m, s, constant(1.0)), n};
}

/// x / (1 + e^-y), the logistic gate of x, for y of the sign of x and |y| = size. Written over
/// e^-|y|, so that it neither overflows nor cancels: within 3 ulp where |y| is below 1.
/// NaN in x gives NaN, +inf gives +inf, -inf gives NaN (as -inf / inf does in the plain formula).
HWY_INLINE V logistic_gate(V x, V size) {
  const ExpParts e = exp_of_negative(hn::Min(size, constant(128.0)));
  const V power = scale_by_power(e.mantissa, e.exponent);
  const auto is_negative = hn::Lt(x, hn::Zero(F32()));
  const V numerator = hn::IfThenElse(is_negative, hn::Mul(x, power), x);
  return hn::Div(numerator, hn::Add(constant(1.0), power));
}

/// For a = min(|x|, 16): `tail` = Phi(-a), Phi the normal distribution, and `power` = e^(-a^2 / 2).
/// Phi(-a) = e^(-a^2 / 2) * P(a) / Q(a): the scaled complementary error function as a rational
/// minimax approximation of degree 4 over 5, relative error 4e-8 on [0, 14.6] with fp32
/// coefficients (the form of W. J. Cody, Math. Comp. 23 (1969), 631-637; own Remez fit in 40-digit
/// arithmetic).
struct NormalTail {
  V size;  // a
  V power;
  V tail;
};

HWY_INLINE NormalTail normal_tail(V x) {
  const V a = hn::Min(hn::Abs(x), constant(16.0));
  const ExpParts e = exp_of_negative(hn::Mul(a, a), 0.5);
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
  const V shifted = hn::MulAdd(y, constant(-1.4426950408889634), constant(kRounder));
  const V n = hn::Sub(shifted, constant(kRounder));
  V s = hn::MulAdd(n, constant(0.693359375), y);
  s = hn::MulAdd(n, constant(-2.12194440054690583e-4), s);
  V q = constant(0.0013882487547);
  q = hn::MulAdd(q, s, constant(-0.0083666918799));
  q = hn::MulAdd(q, s, constant(0.0416672043502));
  q = hn::MulAdd(q, s, constant(-0.1666654199362));
  q = hn::MulAdd(q, s, constant(0.4999999701977));
  // 1 - e^-s, kept apart from 1: for small x it is all there is.
  const V fraction = hn::NegMulAdd(hn::Mul(s, s), q, s);
  const V scale = power_of_two(shifted);
  const V one_minus = hn::MulAdd(scale, fraction, hn::Sub(constant(1.0), scale));
  const V magnitude = hn::Div(one_minus, hn::Sub(constant(2.0), one_minus));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::CopySign(magnitude, x));
}

}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
