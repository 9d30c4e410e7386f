// SPDX-License-Identifier: Apache-2.0
// StridedRegion against every byte of its tensors, over random layouts of up to four dimensions,
// and both it and ArgumentCheck over rows of any two pitches. Prints the cases, how many of each
// verdict, and the verdicts that were wrong.
#include <cstdio>
#include <map>
#include <random>
#include <vector>

#include "primitives/strided_region.h"

using namespace kernelhub::primitives;

namespace {

struct Layout {
  std::vector<std::int64_t> sizes, strides;
  std::int64_t offset;  // of the first element, in elements

  TensorArg arg(char* memory, std::uint8_t bytes) const {
    return {"tensor",
            memory + offset * bytes,
            {DTypeCode::kFloat, static_cast<std::uint8_t>(8 * bytes), 1},
            kCpuDevice,
            0,
            sizes,
            strides,
            {}};
  }

  /// How many elements lie on each byte.
  std::map<std::int64_t, int> bytes(std::int64_t element) const {
    std::map<std::int64_t, int> found;
    std::vector<std::int64_t> index(sizes.size(), 0);
    for (;;) {
      std::int64_t at = offset;
      for (std::size_t i = 0; i < sizes.size(); ++i) at += index[i] * strides[i];
      for (std::int64_t b = 0; b < element; ++b) ++found[at * element + b];
      std::size_t dim = sizes.size();
      while (dim > 0 && ++index[dim - 1] == sizes[dim - 1]) index[--dim] = 0;
      if (dim == 0) return found;
    }
  }
};

/// Whether the check of an op that writes `out` and reads `input` refuses them.
bool is_refused(const TensorArg& out, const TensorArg& input) {
  const ArgumentCheck check("package", "op");
  try {
    check.overlap(out, check.writable_rows(out), input, check.rows(input),
                  ArgumentCheck::Alias::kForbidden);
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

int wrong = 0;

void expect(bool verdict, bool truth, int (&counts)[2]) {
  ++counts[verdict];
  if (verdict != truth) ++wrong;
}

}  // namespace

int main() {
  constexpr int kCases = 20000;
  std::mt19937 random(0);
  const auto pick = [&random](int first, int last) {
    return std::uniform_int_distribution<int>(first, last)(random);
  };
  std::vector<char> memory(1 << 16), far(1 << 23);
  int injective[2] = {}, shared[2] = {};
  for (int i = 0; i < kCases; ++i) {
    const auto draw = [&] {
      Layout layout{{}, {}, pick(0, 40)};
      for (int rank = pick(1, 4); rank > 0; --rank) {
        layout.sizes.push_back(pick(1, 4));
        layout.strides.push_back(pick(0, 20));
      }
      return layout;
    };
    const Layout a = draw(), b = draw();
    const std::uint8_t element[2] = {static_cast<std::uint8_t>(2 * pick(1, 2)),
                                     static_cast<std::uint8_t>(2 * pick(1, 2))};
    const TensorArg args[2] = {a.arg(memory.data(), element[0]), b.arg(memory.data(), element[1])};
    const StridedRegion first(args[0]), second(args[1]);
    const auto bytes = a.bytes(element[0]), other = b.bytes(element[1]);
    bool is_injective = true, is_shared = false;
    for (const auto& [byte, count] : bytes) {
      is_injective = is_injective && count == 1;
      is_shared = is_shared || other.count(byte) != 0;
    }
    expect(first.is_injective(), is_injective, injective);
    expect(first.intersects(second), is_shared, shared);
    expect(second.intersects(first), is_shared, shared);
  }
  // Rows of multiples of one pitch, so that many share nothing, and of any.
  int rows_shared[2] = {};
  for (int i = 0; i < kCases / 10; ++i) {
    const int unit = pick(1, 40), most = i % 20 == 0 ? 1500 : 12;
    const auto draw = [&](int least_pitch) {
      Layout layout{{pick(1, most), pick(1, unit)}, {0, 1}, 0};
      layout.strides[0] = unit * pick(least_pitch, 6) + (pick(0, 3) == 0 ? pick(0, 2) : 0);
      if (layout.strides[0] < 0) layout.offset = -layout.strides[0] * (layout.sizes[0] - 1);
      layout.offset += pick(0, 200);
      return layout;
    };
    const Layout a = draw(1), b = draw(-6);
    const std::uint8_t element[2] = {static_cast<std::uint8_t>(2 * pick(1, 2)),
                                     static_cast<std::uint8_t>(2 * pick(1, 2))};
    const TensorArg out = a.arg(far.data(), element[0]), input = b.arg(far.data(), element[1]);
    const auto bytes = a.bytes(element[0]), other = b.bytes(element[1]);
    bool is_shared = false;
    for (const auto& [byte, count] : bytes) is_shared = is_shared || other.count(byte) != 0;
    expect(is_refused(out, input), is_shared, rows_shared);
    if (b.strides[0] < 0) continue;
    expect(StridedRegion(out).intersects(StridedRegion(input)), is_shared, rows_shared);
    expect(StridedRegion(input).intersects(StridedRegion(out)), is_shared, rows_shared);
  }
  // A search over as many rows would be given up.
  const std::int64_t long_sizes[] = {1 << 20, 8}, pitches[] = {64, 1}, other_pitches[] = {48, 1};
  const DTypeCode half{DTypeCode::kFloat, 16, 1};
  for (int shift = 0; shift < 16; ++shift) {
    const TensorArg a{"a", far.data(), half, kCpuDevice, 0, {long_sizes, 2}, {pitches, 2}, {}};
    const TensorArg b{
        "b", far.data() + 2 * shift, half, kCpuDevice, 0, {long_sizes, 2}, {other_pitches, 2}, {}};
    expect(is_refused(a, b), shift != 8, rows_shared);
  }
  // More sums than are tried: taken for sharing, though odd elements never meet even ones.
  const std::int64_t sizes[] = {1000, 1000, 1000, 1000}, strides[] = {10006, 10004, 10002, 10000};
  const TensorArg even{
      "even", memory.data(), {DTypeCode::kFloat, 16, 1}, kCpuDevice, 0, {sizes, 4}, {strides, 4},
      {}};
  const TensorArg odd{
      "odd", memory.data() + 2, {DTypeCode::kFloat, 16, 1}, kCpuDevice, 0, {sizes, 1}, {strides, 1},
      {}};
  const bool is_given_up = StridedRegion(even).intersects(StridedRegion(odd));
  std::printf(
      "cases %d injective %d shared %d apart %d rows shared %d apart %d given up %d wrong %d\n",
      kCases, injective[1], shared[1], shared[0], rows_shared[1], rows_shared[0], is_given_up,
      wrong);
}
