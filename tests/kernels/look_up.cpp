// SPDX-License-Identifier: Apache-2.0
// Every way of looking up what belongs to 16-bit values, compiled for one instruction set, against
// the tables; and the stretches and lines that rows are cut into. Prints what is wrong;
// test_look_up.py compiles and runs it.
#define HWY_COMPILE_ONLY_STATIC
#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "activation_cpu/activation_simd.h"

namespace simd = kernelhub::activation::HWY_NAMESPACE;
namespace cpu = kernelhub::activation::cpu;
namespace primitives = kernelhub::primitives::HWY_NAMESPACE;
namespace hn = hwy::HWY_NAMESPACE;
using kernelhub::primitives::CacheLevel;
using kernelhub::primitives::DType;
using kernelhub::primitives::Streaming;
using kernelhub::primitives::Stretch;

constexpr std::int64_t kValues = 1 << 16;

std::vector<std::uint16_t> shuffled_values() {
  std::vector<std::uint16_t> values(kValues);
  std::iota(values.begin(), values.end(), 0);
  std::shuffle(values.begin(), values.end(), std::mt19937(20));
  return values;
}

int report(const char* name, int wrong) {
  if (wrong != 0) std::printf("%s: %d values\n", name, wrong);
  return wrong;
}

/// Lines of 16-bit values, in place, apart and past the caches.
template <class LookUp>
int wrong_values(const char* name, const std::vector<std::uint16_t>& table) {
  const std::vector<std::uint16_t> from = shuffled_values();
  std::vector<std::uint16_t> apart(kValues), in_place = from;
  alignas(64) std::uint16_t line[cpu::kLine];
  int wrong = 0;
  for (std::int64_t i = 0; i < kValues; i += cpu::kLine) {
    LookUp::line(&from[i], &apart[i], table.data(), false);
    LookUp::line(&in_place[i], &in_place[i], table.data(), false);
    LookUp::line(&from[i], line, table.data(), true);
    for (std::int64_t k = 0; k < cpu::kLine; ++k) {
      wrong += line[k] != table[from[i + k]];
    }
  }
  for (std::int64_t i = 0; i < kValues; ++i) {
    wrong += apart[i] != table[from[i]] || in_place[i] != table[from[i]];
  }
  return report(name, wrong);
}

/// The number of each element of a batch, as the format's own loads and stores see it.
template <class Format>
std::vector<std::uint16_t> in_batch_order(const std::vector<float>& lanes) {
  const hn::ScalableTag<float> d;
  std::vector<std::uint16_t> stored(lanes.size());
  primitives::Batch<Format> batch;
  for (std::int64_t i = 0; i < kValues; i += primitives::kBatch<Format>) {
    for (int v = 0; v < Format::kVectors; ++v) {
      batch.of[v] = hn::LoadU(d, &lanes[i + v * static_cast<std::int64_t>(hn::MaxLanes(d))]);
    }
    Format::store_batch(batch, &stored[i]);
  }
  return stored;
}

template <class Format>
std::uint16_t bits_of(float number) {
  std::uint16_t bits[hn::MaxLanes(hn::ScalableTag<float>())];
  Format::store(hn::Set(hn::ScalableTag<float>(), number), bits);
  return bits[0];
}

/// Batches of 16-bit values, of numbers and of derivatives: their lanes, stored as the format does,
/// are those of a table of exactly representable numbers.
template <class LookUp, class Format>
int wrong_numbers(const char* name) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::MaxLanes(d));
  const std::vector<std::uint16_t> from = shuffled_values();
  std::vector<std::uint16_t> halves(kValues + 1);
  std::vector<float> numbers(kValues);
  std::vector<cpu::Derivative> derivatives(kValues);
  for (std::int64_t i = 0; i < kValues; ++i) {
    halves[i] = bits_of<Format>(static_cast<float>(i % 233));
    numbers[i] = static_cast<float>(i % 251);
    derivatives[i] = {static_cast<float>(i % 241), static_cast<float>(i % 239)};
  }
  std::vector<float> widened(kValues), found(kValues), slopes(kValues), values(kValues);
  for (std::int64_t i = 0; i < kValues; i += primitives::kBatch<Format>) {
    const auto half = LookUp::template batch<Format>(&from[i], halves.data());
    const auto batch = LookUp::template batch<Format>(&from[i], numbers.data());
    const auto both = LookUp::template batch<Format>(&from[i], derivatives.data());
    for (int v = 0; v < Format::kVectors; ++v) {
      hn::StoreU(half.of[v], d, &widened[i + v * lanes]);
      hn::StoreU(batch.of[v], d, &found[i + v * lanes]);
      hn::StoreU(both.slopes.of[v], d, &slopes[i + v * lanes]);
      hn::StoreU(both.values.of[v], d, &values[i + v * lanes]);
    }
  }
  const auto stored_halves = in_batch_order<Format>(widened);
  const auto stored = in_batch_order<Format>(found);
  const auto stored_slopes = in_batch_order<Format>(slopes);
  const auto stored_values = in_batch_order<Format>(values);
  int wrong = 0;
  for (std::int64_t i = 0; i < kValues; ++i) {
    const cpu::Derivative derivative = derivatives[from[i]];
    wrong += stored_halves[i] != halves[from[i]] ||
             stored[i] != bits_of<Format>(numbers[from[i]]) ||
             stored_slopes[i] != bits_of<Format>(derivative.slope) ||
             stored_values[i] != bits_of<Format>(derivative.value);
  }
  return report(name, wrong);
}

template <class LookUp>
int wrong_look_ups(const char* name, const std::vector<std::uint16_t>& table) {
  return wrong_values<LookUp>(name, table) + wrong_numbers<LookUp, primitives::BFloat16>(name) +
         wrong_numbers<LookUp, primitives::Float16>(name);
}

/// Stretches cover [begin, end) once and in order, none crosses a row, all but the first of a row
/// begin at a line, and what they fetch is what contiguous rows use kAheadBytes later.
bool cuts_rightly(std::int64_t cols, std::int64_t begin, std::int64_t end) {
  std::int64_t next = begin;
  bool good = true;
  kernelhub::primitives::for_each_stretch<float>(cols, begin, end, [&](const Stretch& stretch) {
    good = good && stretch.row * cols + stretch.col == next && stretch.count > 0 &&
           stretch.col + stretch.count <= cols &&
           (next == begin || stretch.col * 4 % kernelhub::primitives::kLineBytes == 0) &&
           stretch.ahead(cols) * 4 == kernelhub::primitives::kAheadBytes;
    next += stretch.count;
  });
  if (!good || next != end) std::printf("stretches of %ld..%ld in %ld\n", begin, end, cols);
  return good && next == end;
}

/// Every element of the first `count` comes once and in order; whole lines, a lone one too, may go
/// past the caches where `streaming` is on, and come together as long as there are so many in a
/// stretch. `rows` says how large the call claims to be: small ones fetch nothing ahead.
template <std::int64_t together>
bool takes_whole_lines(const Streaming& streaming, std::int64_t rows, std::int64_t cols,
                       std::int64_t count) {
  constexpr std::int64_t kLine = 16;  // fp32 elements
  const std::int64_t pitch = (cols + kLine - 1) / kLine * kLine;
  alignas(64) static float memory[1 << 16];
  const std::array<kernelhub::primitives::Rows<const float>, 1> inputs{{{memory, pitch}}};
  const std::array<kernelhub::primitives::Rows<float>, 1> outputs{{{memory, pitch}}};
  std::int64_t next = 0;
  bool good = true;
  const auto take = [&](const float* to, std::int64_t elements, bool streams) {
    for (std::int64_t i = 0; i < elements; ++i, ++next) {
      const std::int64_t row = next / cols, col = next % cols, line = col / kLine * kLine;
      const bool is_whole = line + kLine <= cols && row * cols + line + kLine <= count;
      good = good && to + i == memory + row * pitch + col &&
             streams == (is_whole && streaming.is_on());
    }
  };
  constexpr std::int64_t kStretch = kernelhub::primitives::kStretchBytes / sizeof(float);
  const auto whole = [&](const auto&, const auto& to, std::int64_t i, auto streams, auto lines) {
    const std::int64_t row = next / cols, col = next % cols;
    const std::int64_t row_end = std::min(cols, count - row * cols);
    const std::int64_t left = std::min(row_end, (col / kStretch + 1) * kStretch) - col;
    good = good && lines == (left >= together * kLine ? together : 1);
    take(to[0] + i, lines * kLine, streams);
  };
  const auto rest = [&](const auto&, const auto& to, std::int64_t i, std::int64_t elements) {
    good = good && elements < kLine;
    take(to[0] + i, elements, false);
  };
  kernelhub::primitives::for_each_batch<float, together, CacheLevel::kSecond>(
      inputs, outputs, streaming, {rows, cols, 0, count}, whole, rest);
  if (!good || next != count) std::printf("lines of %ld elements of rows of %ld\n", count, cols);
  return good && next == count;
}

int main() {
  std::vector<std::uint16_t> table(kValues + 1);
  std::mt19937 random(7);
  for (std::uint16_t& value : table) value = static_cast<std::uint16_t>(random());
  int wrong = wrong_look_ups<simd::Loads>("loads", table);
#if HWY_TARGET != HWY_SCALAR
  wrong += wrong_look_ups<simd::Gathers>("gathers", table);
#endif
  for (const std::int64_t cols : {1, 2, 7, 255, 256, 511, 512, 513, 1024, 5000}) {
    for (const std::int64_t begin : {0L, 1L, cols - 1, 3 * cols + cols / 2}) {
      wrong += !cuts_rightly(cols, begin, begin) + !cuts_rightly(cols, begin, begin + 1) +
               !cuts_rightly(cols, begin, begin + 3000);
    }
  }
  for (const std::int64_t cols : {1, 15, 16, 17, 31, 32, 48, 50, 255, 256, 272, 1043}) {
    for (const std::int64_t count : {cols, 3 * cols, 7 * cols / 2}) {
      constexpr std::int64_t kMany = std::int64_t{1} << 30;
      for (const std::int64_t rows : {std::int64_t{4}, kMany}) {
        const Streaming on = Streaming::of<float>(kMany, cols), off = Streaming::off();
        for (const Streaming* streaming : {&on, &off}) {
          wrong += !takes_whole_lines<1>(*streaming, rows, cols, count) +
                   !takes_whole_lines<2>(*streaming, rows, cols, count);
        }
      }
    }
  }
  return wrong == 0 ? 0 : 1;
}
