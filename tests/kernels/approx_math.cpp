// SPDX-License-Identifier: Apache-2.0
// Runs activation_cuda/approx_math.cuh on the host with every error that the approximate units may
// make, for every 16-bit input. Prints one line "<format> <check> <wrong> <tried>" per check, where
// an input is wrong if any combination of errors gives a wrong result.
#define __device__
#define __forceinline__ inline

#include "activation_cuda/approx_math.cuh"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>

namespace cuda = kernelhub::activation::cuda;

namespace {

// Distances in fp32 steps from the correctly rounded result, one more than is documented. PTX ISA
// 9.x, Floating Point Instructions: ex2.approx.f32 lies within 2 ulp of the correctly rounded
// result, rcp.approx.f32 within 1 ulp, over the full range (docs.nvidia.com/cuda/
// parallel-thread-execution, #floating-point-instructions-ex2 and -rcp). CUDA C++ Programming
// Guide, Mathematical Functions: expf within 2 ulp. tanh.approx.f32, with a relative error of
// 2^-11, is too coarse for a result that is rounded to fp16, and not used.
constexpr int kEx2Steps = 3;
constexpr int kRcpSteps = 2;
constexpr int kExpSteps = 3;

float stepped(double exact, int steps) {
  float value = static_cast<float>(exact);
  const float towards =
      steps < 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
  for (int i = 0; i < std::abs(steps); ++i) value = std::nextafterf(value, towards);
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}

struct Units {
  static inline int ex2_steps = 0;
  static inline int rcp_steps = 0;
  static float ex2(float x) {
    return std::isinf(x) ? std::exp2(x) : stepped(std::exp2(double{x}), ex2_steps);
  }
  static float rcp(float x) { return std::isinf(x) ? 0.0f : stepped(1.0 / double{x}, rcp_steps); }
};

template <class Check>
bool holds_for_all_errors(const Check& check) {
  bool holds = true;
  for (Units::ex2_steps = -kEx2Steps; Units::ex2_steps <= kEx2Steps; ++Units::ex2_steps) {
    for (Units::rcp_steps = -kRcpSteps; Units::rcp_steps <= kRcpSteps; ++Units::rcp_steps) {
      holds = holds && check();
    }
  }
  return holds;
}

/// A binary format of 16 bits: digits of the significand, exponents.
struct Format {
  const char* name;
  int digits;
  int min_exponent;  // of the smallest normal number, 1.0 having 0
  int max_exponent;

  double quantum(double value) const {
    int exponent = 0;
    std::frexp(value, &exponent);
    return std::ldexp(1.0, std::max(exponent - 1, min_exponent) - digits + 1);
  }

  /// To nearest even.
  double round(double value) const {
    if (!std::isfinite(value) || value == 0.0) return value;
    const double rounded = std::nearbyint(value / quantum(value)) * quantum(value);
    if (std::fabs(rounded) < std::ldexp(2.0, max_exponent)) return std::copysign(rounded, value);
    return std::copysign(std::numeric_limits<double>::infinity(), value);
  }

  double decode(std::uint32_t bits) const {
    const int fraction_bits = digits - 1;
    const double fraction = bits & ((1u << fraction_bits) - 1);
    const int exponent = static_cast<int>((bits & 0x7fffu) >> fraction_bits);
    const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
    if (exponent == max_exponent - min_exponent + 2) {
      return fraction != 0.0 ? std::numeric_limits<double>::quiet_NaN()
                             : sign * std::numeric_limits<double>::infinity();
    }
    const double significand =
        exponent == 0 ? fraction : fraction + static_cast<double>(1u << fraction_bits);
    return sign * std::ldexp(significand, std::max(exponent, 1) - 1 + min_exponent - fraction_bits);
  }
};

constexpr Format kFp16{"fp16", 11, -14, 15};
constexpr Format kBf16{"bf16", 8, -126, 127};

bool is_same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

/// 16-bit arithmetic for the stepwise forms; constants by the bits of activation.cu.
template <const Format& kFormat>
struct Model {
  using Pair = double;
  struct Split {
    double hi, lo;
  };
  static constexpr bool kIsHalf = kFormat.digits == 11;
  static Pair one() { return 1.0; }
  static Pair half() { return 0.5; }
  static Split sqrt_two_over_pi() {
    return {kFormat.decode(kIsHalf ? SQRT_HI_FP16 : SQRT_HI_BF16),
            kFormat.decode(kIsHalf ? SQRT_LO_FP16 : SQRT_LO_BF16)};
  }
  static Split cubic() {
    return {kFormat.decode(kIsHalf ? CUBIC_HI_FP16 : CUBIC_HI_BF16),
            kFormat.decode(kIsHalf ? CUBIC_LO_FP16 : CUBIC_LO_BF16)};
  }
  static Pair mul(Pair a, Pair b) { return kFormat.round(a * b); }
  static Pair add(Pair a, Pair b) { return kFormat.round(a + b); }
  static Pair fma(Pair a, Pair b, Pair c) { return kFormat.round(std::fma(a, b, c)); }
  static Pair tanh(Pair u) {
    return kFormat.round(double{cuda::tanh_beside_one<Units>(static_cast<float>(u))});
  }
};

/// T(.) after every step of fp32, as the contract has it.
template <const Format& kFormat>
double contract(bool is_fast, float x) {
  const auto t = [](float v) { return static_cast<float>(kFormat.round(double{v})); };
  const float cubic = 0.044715f;
  const float inner = is_fast ? t(t(x * 0.79788456f) * t(1.0f + t(t(cubic * x) * x)))
                              : t(0.79788456f * t(x + t(cubic * t(t(x * x) * x))));
  const float tanh = static_cast<float>(kFormat.round(std::tanh(double{inner})));
  return double{t(t(0.5f * x) * t(1.0f + tanh))};
}

struct Tally {
  const char* check;
  int wrong = 0;
  int tried = 0;

  void add(bool holds) {
    wrong += holds ? 0 : 1;
    ++tried;
  }
};

bool silu_equals_division(const Format& format, float x) {
  bool holds = true;
  // ex2.approx.ftz is exact for subnormal inputs: they count as zero.
  const int range = std::fabs(x) < std::numeric_limits<float>::min() ? 0 : kExpSteps;
  for (int steps = -range; steps <= range; ++steps) {
    const float e = stepped(std::exp(-double{x}), steps);
    holds = holds && holds_for_all_errors([&] {
              return is_same(format.round(cuda::divide_by_one_plus<Units>(x, e)),
                             format.round(double{x / (1.0f + e)}));
            });
  }
  return holds;
}

bool quick_is_within_one_ulp(const Format& format, float x) {
  const double exact = double{x} / (1.0 + std::exp(-1.702 * double{x}));
  return holds_for_all_errors([&] {
    const double result = format.round(double{cuda::quick_gelu<Units>(x)});
    return std::fabs(result - exact) <= format.quantum(exact);
  });
}

bool tanh_needs_no_last_range(float x) {
  const float u = 0.79788456080286535588f * std::fmaf(0.044715f, x * x * x, x);
  if (!(std::fabs(u) >= 9.010913848876953125f)) return true;
  return holds_for_all_errors([&] { return cuda::open_tanh<Units>(u) == std::copysign(1.0f, u); });
}

/// Relative errors of Phi(x) and phi(x), which 16 bits of a gradient do not show; from where phi
/// leaves the normal numbers of fp32 on it may be zero.
bool normal_is_near(float x) {
  const double density = std::exp(-0.5 * double{x} * x) / std::sqrt(2.0 * M_PI);
  const double distribution = 0.5 * std::erfc(-double{x} * M_SQRT1_2);
  const double most = 2e-6 + 1e-7 * x * x;
  const auto is_near = [&](float result, double exact) {
    if (exact < 1.01 * std::numeric_limits<float>::min() && result == 0.0f) return true;
    return std::fabs(result - exact) <= most * exact;
  };
  return holds_for_all_errors([&] {
    const cuda::Normal result = cuda::normal<Units>(x);
    return is_near(result.distribution, distribution) && is_near(result.density, density);
  });
}

/// x / (1 + e) next to a tie of two subnormals or of the smallest normal numbers, where one step of
/// expf's error decides. Only the sweep on a device can tell.
bool depends_on_expf(const Format& format, float x) {
  const float smallest = std::ldexp(1.0f, format.min_exponent);
  const float magnitude = std::fabs(x);
  return format.digits == 11 ? magnitude == smallest / 1024.0f
                             : magnitude >= smallest && magnitude < 1.5f * smallest;
}

template <const Format& kFormat>
void run() {
  Tally tallies[] = {{"silu"},      {"gelu_quick"}, {"tanh_range"},
                     {"gelu_fast"}, {"gelu_new"},   {"normal"}};
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const double value = kFormat.decode(bits);
    const float x = static_cast<float>(value);
    if (std::fabs(x) <= cuda::kOrdinary) {
      if (!depends_on_expf(kFormat, x)) tallies[0].add(silu_equals_division(kFormat, x));
      tallies[1].add(quick_is_within_one_ulp(kFormat, x));
    }
    tallies[2].add(tanh_needs_no_last_range(x));
    tallies[3].add(holds_for_all_errors([&] {
      return is_same(cuda::stepwise_gelu_fast<Model<kFormat>>(value), contract<kFormat>(true, x));
    }));
    tallies[4].add(holds_for_all_errors([&] {
      return is_same(cuda::stepwise_gelu_new<Model<kFormat>>(value), contract<kFormat>(false, x));
    }));
    if (!std::isnan(x)) tallies[5].add(normal_is_near(x));
  }
  for (const Tally& tally : tallies) {
    std::printf("%s %s %d %d\n", kFormat.name, tally.check, tally.wrong, tally.tried);
  }
}

}  // namespace

int main() {
  run<kFp16>();
  run<kBf16>();
  return 0;
}
