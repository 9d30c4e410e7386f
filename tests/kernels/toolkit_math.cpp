// SPDX-License-Identifier: Apache-2.0
// Compares activation_cuda/approx_math.cuh with the toolkit's own functions, whose PTX
// test_approx_math.py translated to toolkit_functions.inc: bit for bit, whatever the approximate
// units give. Prints one line "<function> <inputs> <different> <tried>" per comparison.
#define __device__
#define __forceinline__ inline

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "activation_cuda/approx_math.cuh"

namespace {

float of_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

bool is_same(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(a)) == 0;
}

struct Units {
  static float ex2(float x) { return std::exp2(x); }
  static float rcp(float x) { return 1.0f / x; }
};

#include "toolkit_functions.inc"

float erf(float x) { return kernelhub::activation::cuda::selected_erf<Units>(x); }
float tanh(float x) { return kernelhub::activation::cuda::open_tanh<Units>(x); }

struct Tally {
  const char* function;
  const char* inputs;
  int different = 0;
  int tried = 0;

  void add(float ours, float theirs) {
    different += is_same(ours, theirs) ? 0 : 1;
    ++tried;
  }
};

void compare(const char* inputs, std::uint64_t step, std::uint32_t offset) {
  // From here on tanhf gives 1; open_tanh does so for the inputs that reach it.
  constexpr float kLastRange = 9.0f;
  Tally erfs{"erf", inputs};
  Tally tanhs{"tanh", inputs};
  const auto add = [&](float x) {
    erfs.add(erf(x), toolkit_erff(x));
    if (!(std::fabs(x) >= kLastRange)) tanhs.add(tanh(x), toolkit_tanhf(x));
  };
  for (std::uint64_t bits = offset; bits < std::uint64_t{1} << 32; bits += step) {
    add(of_bits(static_cast<std::uint32_t>(bits)));
  }
  for (const float x : {0.0f, HUGE_VALF, NAN}) {
    add(x);
    add(-x);
  }
  for (const Tally& tally : {erfs, tanhs}) {
    std::printf("%s %s %d %d\n", tally.function, tally.inputs, tally.different, tally.tried);
  }
}

/// What gelu hands to erf for each 16-bit input, by whether its 16 bits are an fp16 or a bf16.
void compare_gelu() {
  constexpr float kSqrtHalf = 0.70710678118654752440f;
  Tally halves{"erf", "gelu_fp16"};
  Tally brains{"erf", "gelu_bf16"};
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto narrow = static_cast<std::uint16_t>(bits);
    _Float16 half;
    std::memcpy(&half, &narrow, sizeof(half));
    for (const auto& [tally, x] : {std::pair<Tally*, float>{&halves, static_cast<float>(half)},
                                   std::pair<Tally*, float>{&brains, of_bits(bits << 16)}}) {
      tally->add(erf(x * kSqrtHalf), toolkit_erff(x * kSqrtHalf));
    }
  }
  for (const Tally& tally : {halves, brains}) {
    std::printf("%s %s %d %d\n", tally.function, tally.inputs, tally.different, tally.tried);
  }
}

}  // namespace

int main() {
  compare("fp32", 509, 17);
  compare_gelu();
}
