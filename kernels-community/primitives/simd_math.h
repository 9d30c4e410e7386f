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

/// Binary digits of an exponent behind the point: as many powers as a vector has lanes.
constexpr int kPowerDigits = HWY_TARGET == HWY_AVX2 ? 3 : 4;

/// e^-z, z = y * unit, taken apart: 2^n e^r, n the nearest multiple of 2^-kPowerDigits.
struct ExpParts {
  V shifted;  // n + kRounder / 2^kPowerDigits: the lowest bits are those behind the point
  V n;
  V negative;  // -r / unit, |r| <= ln(2) / 2^(kPowerDigits + 1)
  V slope;     // (e^r - 1) / negative, a polynomial
};

/// e^r = 1 + negative * slope to 1.7e-9: an own minimax fit of degree 3, or, where r is larger, the
/// Taylor polynomial of degree 4. `kBesideOne`: to 2.5e-8 and, for z up to 20, 5.5e-8, which a sum
/// with 1 does not keep apart.
template <bool kBesideOne>
HWY_INLINE ExpParts exp_parts(V y, double unit) {
  const V rounder = constant(kRounder / (1 << kPowerDigits));
  const V shifted = hn::MulAdd(y, constant(-1.4426950408889634 * unit), rounder);
  const V n = hn::Sub(shifted, rounder);
  V s = y;
  if constexpr (kBesideOne && HWY_TARGET != HWY_SCALAR) {
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
  } else if constexpr (kBesideOne) {
    q = constant(-0.16667917 * unit2 * unit);
    q = hn::MulAdd(q, s, constant(0.50006478 * unit2));
  } else {
    q = constant(0.0416666667 * unit2 * unit2);
    q = hn::MulAdd(q, s, constant(-0.1666666667 * unit2 * unit));
    q = hn::MulAdd(q, s, constant(0.5 * unit2));
  }
  q = hn::MulAdd(q, s, constant(-unit));
  return {shifted, n, s, q};
}

#if HWY_TARGET != HWY_AVX2
// 2^(k / 16), as bits.
alignas(64) constexpr std::int32_t kPowers[16] = {
    0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3, 0x3f9837f0, 0x3f9ef532, 0x3fa5fed7, 0x3fad583f,
    0x3fb504f3, 0x3fbd08a4, 0x3fc5672a, 0x3fce248c, 0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d};
#endif

#if HWY_TARGET == HWY_AVX3

/// e^-z for z = y * unit in [0, 130]; `unit` is a power of two. Within 1 ulp.
template <bool kBesideOne = false>
HWY_INLINE V exp_of_negative(V y, double unit = 1.0) {
  const ExpParts e = exp_parts<kBesideOne>(y, unit);
  const __m512i digits = _mm512_castps_si512(e.shifted.raw);
  const V power{_mm512_castsi512_ps(_mm512_permutexvar_epi32(digits, _mm512_load_si512(kPowers)))};
  const V mantissa = hn::MulAdd(hn::Mul(power, e.negative), e.slope, power);
  return V{_mm512_scalef_ps(mantissa.raw, e.n.raw)};  // goes by the floor of n
}

/// The same where z is at most 86.
template <bool kBesideOne = false>
HWY_INLINE V exp_to_normal(V y, double unit) {
  return exp_of_negative<kBesideOne>(y, unit);
}

#else

/// e^-z for z = y * unit in [0, 86]; `unit` is a power of two. Within 1.4 ulp.
template <bool kBesideOne = false>
HWY_INLINE V exp_to_normal(V y, double unit) {
  const I32 di;
  const ExpParts e = exp_parts<kBesideOne>(y, unit);
  const auto digits = hn::BitCast(di, e.shifted);
  // The power of what is behind the point of n. What is before it is added to the exponent.
#if HWY_TARGET == HWY_SCALAR
  const std::int32_t behind = hn::GetLane(digits) & 15;
  const auto root = hn::Set(di, kPowers[behind] - (behind << (23 - kPowerDigits)));
#else
  // 2^(k / 8) less what k would add.
  alignas(32) static constexpr std::int32_t kPowers[8] = {0x3f800000, 0x3f7b95c2, 0x3f7837f0,
                                                          0x3f75fed7, 0x3f7504f3, 0x3f75672a,
                                                          0x3f7744fd, 0x3f7ac0c7};
  const auto* table = reinterpret_cast<const __m256i*>(kPowers);
  const hn::Vec<I32> root{_mm256_permutevar8x32_epi32(_mm256_load_si256(table), digits.raw)};
#endif
  const V power = hn::BitCast(F32(), hn::Add(root, hn::ShiftLeft<23 - kPowerDigits>(digits)));
  return hn::MulAdd(hn::Mul(power, e.negative), e.slope, power);
}

/// The same for z in [0, 130], within 2.7 ulp beyond 86, also where the result is subnormal.
HWY_INLINE V exp_of_negative(V y, double unit = 1.0) {
  const V power = exp_to_normal(y, unit);
  const auto is_normal = hn::Le(y, constant(86.0 / unit));
  if (HWY_LIKELY(hn::AllTrue(F32(), is_normal))) return power;
  const V root = exp_to_normal(y, unit / 2);
  return hn::IfThenElse(is_normal, power, hn::Mul(root, root));
}

#endif

/// x / (1 + e^-y), the logistic gate of x, for y of the sign of x and |y| = size. Written over
/// e^-|y|, so that it neither overflows nor cancels: within 3 ulp where |y| is below 1.
/// NaN in x gives NaN, +inf gives +inf, -inf gives NaN (as -inf / inf does in the plain formula).
HWY_INLINE V logistic_gate(V x, V size) {
  const V power = exp_of_negative(hn::Min(size, constant(128.0)));
  const auto is_negative = hn::Lt(x, hn::Zero(F32()));
  const V numerator = hn::IfThenElse(is_negative, hn::Mul(x, power), x);
  return hn::Div(numerator, hn::Add(constant(1.0), power));
}

/// Phi, the normal distribution, at -a for a = min(|x|, 16), as power * p / q with
/// power = e^(-a^2 / 2): the scaled complementary error function as a rational minimax
/// approximation of degree 4 over 5, relative error 4e-8 on [0, 14.6] with fp32 coefficients (the
/// form of W. J. Cody, Math. Comp. 23 (1969), 631-637; own Remez fit in 40-digit arithmetic).
struct NormalTail {
  V power, p, q;

  /// factor * Phi(-a). In this order products round least of those in which a huge factor meets
  /// power, which is zero for it, before anything could overflow.
  HWY_INLINE V times(V factor) const {
#if HWY_TARGET == HWY_SCALAR
    // Without fused multiply-adds p and q have lost more than elsewhere: what follows rounds once.
    const double product = static_cast<double>(factor.raw) * power.raw * p.raw / q.raw;
    return hn::Set(F32(), static_cast<float>(product));
#else
    return hn::Mul(factor, hn::Mul(power, hn::Div(p, q)));
#endif
  }
};

HWY_INLINE NormalTail normal_tail(V x) {
  const V a = hn::Min(hn::Abs(x), constant(16.0));
  const V power = exp_of_negative(hn::Mul(a, a), 0.5);
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
  return {power, p, q};
}

/// x * Phi(x) = 0.5 * x * (1 + erf(x / sqrt(2))) without the cancellation of 1 + erf. Special
/// values as in logistic_gate.
HWY_INLINE V normal_gate(V x, const NormalTail& normal) {
  // For x >= 0: x - x * Phi(-x). Up to 16, which keeps +inf from meeting zero.
  const V tail = normal.times(hn::Min(x, constant(16.0)));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(F32())), tail, hn::Sub(x, tail));
}

/// 1 + tanh(x), tanh rounded first and within an ulp of 1: what tanh has below 2^-24 the sum would
/// lose. NaN gives a number, which the factor x of its callers turns into NaN.
/// tanh(|x|) = 1 - 2 e^(-2|x|) / (1 + e^(-2|x|)).
HWY_INLINE V one_plus_tanh(V x) {
  const V power = exp_to_normal<true>(hn::Min(hn::Abs(x), constant(10.0)), 2.0);
  const V half = constant(0.5);
  const V magnitude = hn::Sub(constant(1.0), hn::Div(power, hn::MulAdd(power, half, half)));
  return hn::Add(constant(1.0), hn::CopySign(magnitude, x));
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
