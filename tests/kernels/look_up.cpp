// SPDX-License-Identifier: Apache-2.0
// Every way of looking up 16-bit values, compiled for one instruction set, against the table; and
// the stretches that rows are cut into. Prints what is wrong; test_look_up.py compiles and runs it.
#define HWY_COMPILE_ONLY_STATIC
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "activation_cpu/activation_simd.h"

namespace simd = kernelhub::activation::HWY_NAMESPACE;
namespace cpu = kernelhub::activation::cpu;
using kernelhub::primitives::DType;
using kernelhub::primitives::Stretch;

constexpr std::int64_t kValues = 1 << 16;

template <class LookUp>
int wrong_values(const char* name, const std::vector<std::uint16_t>& table) {
  std::vector<std::uint16_t> from(kValues);
  std::iota(from.begin(), from.end(), 0);
  std::shuffle(from.begin(), from.end(), std::mt19937(20));
  std::vector<std::uint16_t> apart(kValues), in_place = from;
  for (std::int64_t i = 0; i < kValues; i += cpu::kLine) {
    LookUp::line(&from[i], &apart[i], table.data());
    LookUp::line(&in_place[i], &in_place[i], table.data());
  }
  int wrong = 0;
  for (std::int64_t i = 0; i < kValues; ++i) {
    wrong += apart[i] != table[from[i]] || in_place[i] != table[from[i]];
  }
  if (wrong != 0) std::printf("%s: %d values\n", name, wrong);
  return wrong;
}

/// Stretches cover [begin, end) once and in order, none crosses a row, and what they fetch is what
/// contiguous rows use kAheadBytes later.
bool cuts_rightly(std::int64_t cols, std::int64_t begin, std::int64_t end) {
  std::int64_t next = begin;
  bool good = true;
  kernelhub::primitives::for_each_stretch<float>(cols, begin, end, [&](const Stretch& stretch) {
    good = good && stretch.row * cols + stretch.col == next && stretch.count > 0 &&
           stretch.col + stretch.count <= cols &&
           stretch.ahead(cols) * 4 == kernelhub::primitives::kAheadBytes;
    next += stretch.count;
  });
  if (!good || next != end) std::printf("stretches of %ld..%ld in %ld\n", begin, end, cols);
  return good && next == end;
}

int main() {
  std::vector<std::uint16_t> table(kValues + 1);
  std::mt19937 random(7);
  for (std::uint16_t& value : table) value = static_cast<std::uint16_t>(random());
  int wrong = wrong_values<simd::Loads>("loads", table);
#if HWY_TARGET != HWY_SCALAR
  wrong += wrong_values<simd::Gathers>("gathers", table);
#endif
  for (const std::int64_t cols : {1, 2, 7, 255, 256, 511, 512, 513, 1024, 5000}) {
    for (const std::int64_t begin : {0L, 1L, cols - 1, 3 * cols + cols / 2}) {
      wrong += !cuts_rightly(cols, begin, begin) + !cuts_rightly(cols, begin, begin + 1) +
               !cuts_rightly(cols, begin, begin + 3000);
    }
  }
  return wrong == 0 ? 0 : 1;
}
