// SPDX-License-Identifier: Apache-2.0
// fp32 exponentials, logistic gates, the normal distribution and tanh on Highway lanes. Highway
// 1.0.3 has no erf, and its exp takes more steps than results that are rounded again need.
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

/// Binary digits of an exponent behind the point: as many powers as a vector has lanes.
constexpr int kPowerDigits = HWY_TARGET == HWY_AVX2 ? 3 : 4;

/// e^-z, z = y * unit, taken apart: 2^n e^r, n the nearest multiple of 2^-kPowerDigits.
struct ExpParts {
  V shifted;   // n + kRounder / 2^kPowerDigits: the lowest bits are those behind the point
  V negative;  // -r / unit, |r| <= ln(2) / 2^(kPowerDigits + 1)
  V slope;     // (e^r - 1) / negative, a polynomial
};

/// e^r = 1 + negative * slope, an own minimax fit of degree 3 for results that meet other
/// roundings: to 1.7e-9, or, where r is larger, to 2.5e-8; `kIsNear`: and to 2.8e-9 |z|.
template <bool kIsNear>
HWY_INLINE ExpParts exp_parts(V y, double unit) {
  const V rounder = constant(kRounder / (1 << kPowerDigits));
  const V shifted = hn::MulAdd(y, constant(-1.4426950408889634 * unit), rounder);
  const V n = hn::Sub(shifted, rounder);
  V s = y;
  if constexpr (kIsNear && HWY_TARGET != HWY_SCALAR) {
    s = hn::MulAdd(n, constant(0.6931471805599453 / unit), s);
  } else {
    // ln(2) in two parts, the first short enough for an exact product.
    s = hn::MulAdd(n, constant(0.693359375 / unit), s);
    s = hn::MulAdd(n, constant(-2.12194440054690583e-4 / unit), s);
  }
  const double unit2 = unit * unit;
  V q;
  if constexpr (kPowerDigits == 4) {
    q = constant(-0.1666698 * unit2 * unit);
    q = hn::MulAdd(q, s, constant(0.50001619 * unit2));
  } else {
    q = constant(-0.16667917 * unit2 * unit);
    q = hn::MulAdd(q, s, constant(0.50006478 * unit2));
  }
  q = hn::MulAdd(q, s, constant(-unit));
  return {shifted, s, q};
}

/// The bits of 2^(k / 2^kPowerDigits), less what k, shifted by scaled_exp2, adds to them.
struct PowerBits {
  alignas(64) std::int32_t of[1 << kPowerDigits];
};
constexpr PowerBits power_bits() {
  constexpr std::int32_t kSixteenths[16] = {0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3,
                                            0x3f9837f0, 0x3f9ef532, 0x3fa5fed7, 0x3fad583f,
                                            0x3fb504f3, 0x3fbd08a4, 0x3fc5672a, 0x3fce248c,
                                            0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d};
  PowerBits bits{};
  for (int k = 0; k < 1 << kPowerDigits; ++k) {
    bits.of[k] = kSixteenths[k << (4 - kPowerDigits)] - (k << (23 - kPowerDigits));
  }
  return bits;
}

/// 2^kBias 2^n, n of `parts`, where that is a normal number: what n is before the point is added to
/// the exponent of what a table has for the digits behind it.
template <int kBias>
HWY_INLINE V scaled_exp2(const ExpParts& parts) {
  static constexpr PowerBits kBits = power_bits();
  const I32 di;
  const auto digits = hn::BitCast(di, parts.shifted);
  const auto bias = hn::Set(di, kBias * (1 << 23));
#if HWY_TARGET == HWY_SCALAR
  const std::int32_t behind = hn::GetLane(digits) & ((1 << kPowerDigits) - 1);
  const auto power = hn::Add(hn::Set(di, kBits.of[behind]), bias);
#elif HWY_TARGET == HWY_AVX3
  const auto bits = hn::Add(hn::Load(di, kBits.of), bias);
  const hn::Vec<I32> power{_mm512_permutexvar_epi32(digits.raw, bits.raw)};
#else
  const auto bits = hn::Add(hn::Load(di, kBits.of), bias);
  const hn::Vec<I32> power{_mm256_permutevar8x32_epi32(bits.raw, digits.raw)};
#endif
  return hn::BitCast(F32(), hn::Add(power, hn::ShiftLeft<23 - kPowerDigits>(digits)));
}

/// 2^kBias e^-z for z = y * unit where that is a normal number; `unit` is a power of two.
template <bool kIsNear, int kBias>
HWY_INLINE V exp_to_normal(V y, double unit) {
  const ExpParts e = exp_parts<kIsNear>(y, unit);
  const V power = scaled_exp2<kBias>(e);
  return hn::MulAdd(hn::Mul(power, e.negative), e.slope, power);
}

/// The lesser of `x` and `most`, the greater of `x` and `least`. NaN in `x` stays: of an x86
/// minimum or maximum with NaN it is the second operand that comes out.
HWY_INLINE V at_most(V x, double most) {
#if HWY_TARGET == HWY_SCALAR
  const auto bound = static_cast<float>(most);
  return V(x.raw > bound ? bound : x.raw);
#else
  return hn::Min(constant(most), x);
#endif
}
HWY_INLINE V at_least(V x, double least) {
#if HWY_TARGET == HWY_SCALAR
  const auto bound = static_cast<float>(least);
  return V(x.raw < bound ? bound : x.raw);
#else
  return hn::Max(constant(least), x);
#endif
}

// Beyond these s(y) = 1 / (1 + e^-y), the logistic function, is 0 or 1 in fp32: the sum is inf from
// -88.72 down, as in the plain formula. No step of the exponential is subnormal between them, which
// Intel's CPUs would take long for.
constexpr double kLogisticLeast = -88.9;
constexpr double kLogisticMost = 64.0;

/// e^-y / 2, finite where the sum is not, for y from kLogisticLeast to kLogisticMost. `kIsRounded`
/// tells that y is not exact, which far from zero counts more than a shorter exponential.
template <bool kIsRounded>
HWY_INLINE V logistic_half(V y) {
  return exp_to_normal<kIsRounded, -1>(y, 1.0);
}

/// 1 + e^-y of logistic_half.
HWY_INLINE V logistic_sum(V half) { return hn::MulAdd(half, constant(2.0), constant(1.0)); }

/// x s(y), the logistic gate of x, for y of the sign of x: within 3.2 ulp where |y| is below 1, and
/// everywhere where y is exact. NaN in x gives NaN, +inf gives +inf, -inf gives NaN.
template <bool kIsRounded>
HWY_INLINE V logistic_gate(V x, V y) {
  // NaN is kept by x: constants may be operands in memory here.
  const V near = hn::Max(hn::Min(y, constant(kLogisticMost)), constant(kLogisticLeast));
#if HWY_TARGET == HWY_SCALAR
  return hn::Div(x, logistic_sum(logistic_half<kIsRounded>(near)));
#else
  // Half of the sum, 0.5 + 2^(n - 1) e^r, takes one rounding where multiply-adds are fused.
  const ExpParts e = exp_parts<kIsRounded>(near, 1.0);
  const V mantissa = hn::MulAdd(e.negative, e.slope, constant(1.0));
  const V half = hn::MulAdd(scaled_exp2<-1>(e), mantissa, constant(0.5));
  return hn::Div(x, hn::Add(half, half));
#endif
}

/// Phi, the normal distribution, at -size as power * mills for size = |x| up to 14.75, where Phi
/// times that is zero in fp32. The bias keeps `power` and its steps normal up to there.
constexpr int kTailBias = 48;
constexpr double kTailUnit = 1.0 / (std::int64_t{1} << kTailBias);
struct NormalTail {
  V size;
  V power;  // e^(-size^2 / 2) / kTailUnit
  V mills;  // Mills' ratio of the normal distribution times kTailUnit
};

/// `mills` by a value of Mills' ratio and a rational function of degree 3 over 4 (own minimax fit
/// in fp32 coefficients, after the form of W. J. Cody, Math. Comp. 23 (1969), 631-637): what the
/// function rounds counts least for sizes up to 1. Relative error 3.3e-8 (1 + size^2 / 2), less
/// than what the rounded square makes of `power`.
HWY_INLINE NormalTail normal_tail(V x) {
  const V size = at_most(hn::Abs(x), 14.75);
  const V power = exp_to_normal<true, kTailBias>(hn::Mul(size, size), 0.5);
  V p = hn::MulAdd(size, constant(0.389834911 * kTailUnit), constant(2.79779458 * kTailUnit));
  p = hn::MulAdd(p, size, constant(8.30652809 * kTailUnit));
  p = hn::MulAdd(p, size, constant(10.3432856 * kTailUnit));
  V q = hn::Add(size, constant(7.86258602));
  q = hn::MulAdd(q, size, constant(26.9685745));
  q = hn::MulAdd(q, size, constant(45.6786575));
  q = hn::MulAdd(q, size, constant(31.5445213));
  const V place = hn::Sub(size, constant(0.3359375));
  return {size, power, hn::NegMulAdd(hn::Div(p, q), place, constant(0.389847815 * kTailUnit))};
}

/// x * Phi(x) = 0.5 * x * (1 + erf(x / sqrt(2))) without the cancellation of 1 + erf: max(x, 0) -
/// |x| Phi(-|x|). NaN gives NaN, +inf gives +inf, -inf gives NaN, as -inf + inf does.
HWY_INLINE V normal_gate(V x, const NormalTail& normal) {
  const V positive = hn::Sub(x, hn::Min(x, hn::Zero(F32())));
  return hn::NegMulAdd(hn::Mul(normal.size, normal.power), normal.mills, positive);
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
