// SPDX-License-Identifier: Apache-2.0
// Sums over a row on Highway lanes, and sums over rows, for translation units that are compiled
// once per instruction set. Lanes are fp32, totals fp64; as in simd_float.h no symbol is shared.
#pragma once

#include <cmath>
#include <limits>

#include "primitives/column_sums.h"
#include "primitives/simd_float.h"
#include "primitives/simd_streaming.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

constexpr std::int64_t kUnroll = 4;  // independent sums hide the latency of the adds

// A lane takes this many additions before it is folded into fp64: more would cost digits in long
// rows (2.4e-7 relative error at 96 additions), fewer time (a fold is worth about eight additions).
constexpr std::int64_t kAddsPerFold = 32;

HWY_INLINE std::int64_t lane_count() { return static_cast<std::int64_t>(hn::Lanes(F32())); }

/// As many columns as there are lanes, from column `first`.
struct Whole {
  std::int64_t first;

  template <class Format>
  HWY_INLINE V load(const typename Format::Storage* row) const {
    return Format::load(row + first);
  }
  template <class Format>
  HWY_INLINE void store(V value, typename Format::Storage* row) const {
    Format::store(value, row + first);
  }
  /// `streams`: past the caches, for a row that Streaming allows it to.
  template <class Format>
  HWY_INLINE void store(V value, typename Format::Storage* row, bool streams) const {
    HWY_NAMESPACE::store<Format>(value, row + first, streams);
  }
  /// `value`, zero in lanes that hold no column.
  HWY_INLINE V columns_of(V value) const { return value; }
};

/// The last columns of a row, fewer than there are lanes. `load` gives zero in the other lanes.
struct Rest {
  std::int64_t first;
  std::size_t count;

  template <class Format>
  HWY_INLINE V load(const typename Format::Storage* row) const {
    return load_first<Format>(row + first, count);
  }
  template <class Format>
  HWY_INLINE void store(V value, typename Format::Storage* row) const {
    store_first<Format>(value, row + first, count);
  }
  template <class Format>
  HWY_INLINE void store(V value, typename Format::Storage* row, bool) const {
    store<Format>(value, row);
  }
  HWY_INLINE V columns_of(V value) const {
    return hn::IfThenElseZero(hn::FirstN(F32(), count), value);
  }
};

/// `visit(part)` for every Whole part of [begin, end), then for the Rest.
template <class Visit>
HWY_INLINE void for_each_part(std::int64_t begin, std::int64_t end, const Visit& visit) {
  const std::int64_t lanes = lane_count();
  std::int64_t i = begin;
  for (; i + lanes <= end; i += lanes) visit(Whole{i});
  if (i < end) visit(Rest{i, static_cast<std::size_t>(end - i)});
}

template <int kCount>
struct Totals {
  double of[kCount];
};

/// `add(part, sums)` for every part of a row adds to kCount fp32 sums, which are folded into fp64
/// totals. Which additions meet in which lane depends on `cols` only.
template <int kCount, class Add>
HWY_INLINE Totals<kCount> folded_sums(std::int64_t cols, const Add& add) {
  const std::int64_t lanes = lane_count();
  const std::int64_t block = kAddsPerFold * kUnroll * lanes;
  Totals<kCount> totals{};
  for (std::int64_t begin = 0; begin < cols; begin += block) {
    const std::int64_t end = begin + block < cols ? begin + block : cols;
    V sums[kUnroll][kCount];
    for (auto& sum : sums) {
      for (V& lane_sums : sum) lane_sums = hn::Zero(F32());
    }
    std::int64_t i = begin;
    for (; i + kUnroll * lanes <= end; i += kUnroll * lanes) {
      add(Whole{i}, sums[0]);
      add(Whole{i + lanes}, sums[1]);
      add(Whole{i + 2 * lanes}, sums[2]);
      add(Whole{i + 3 * lanes}, sums[3]);
    }
    for (; i + lanes <= end; i += lanes) add(Whole{i}, sums[0]);
    if (i < end) add(Rest{i, static_cast<std::size_t>(end - i)}, sums[1]);
    for (int k = 0; k < kCount; ++k) {
      const V all = hn::Add(hn::Add(sums[0][k], sums[1][k]), hn::Add(sums[2][k], sums[3][k]));
      totals.of[k] += static_cast<double>(hn::GetLane(hn::SumOfLanes(F32(), all)));
    }
  }
  return totals;
}

/// The sums of one chunk of rows for one column sum: Real (fp32, for fp64 rows fp64) over at most
/// kRowsPerFold rows, then fp64.
template <class Real>
struct ColumnSums {
  double* totals = nullptr;  // [cols]; null: nobody asks for this sum
  Real* pending = nullptr;   // [cols]
  std::int64_t cols = 0;
  int rows = 0;
  bool is_first = true;  // totals hold nothing yet

  ColumnSums() = default;
  ColumnSums(double* all, Real* recent, std::int64_t count)
      : totals(all), pending(recent), cols(count) {
    for (std::int64_t i = 0; i < cols; ++i) pending[i] = Real{0};
  }

  HWY_INLINE void end_row() {
    if (++rows == kRowsPerFold) fold();
  }

  void fold() {
    for (std::int64_t i = 0; i < cols; ++i) {
      const auto sum = static_cast<double>(pending[i]);
      totals[i] = is_first ? sum : totals[i] + sum;
      pending[i] = Real{0};
    }
    is_first = false;
    rows = 0;
  }
};

/// Those of fp32 lanes.
struct ChunkSums : ColumnSums<float> {
  ChunkSums() = default;

  /// Sum `index` of chunk `chunk` in a workspace for `count` sums a chunk.
  ChunkSums(void* workspace, const ColumnChunks& chunks, std::int64_t chunk, std::int64_t index,
            std::int64_t count)
      : ColumnSums(static_cast<double*>(workspace) + (chunk * count + index) * chunks.cols,
                   reinterpret_cast<float*>(static_cast<double*>(workspace) +
                                            chunks.count * count * chunks.cols) +
                       (chunk * count + index) * chunks.cols,
                   chunks.cols) {}

  /// Adds a product to the columns of a part.
  template <class Part>
  HWY_INLINE void add_product(const Part& part, V a, V b) {
    const V sum = part.template load<Float32>(pending);
    part.template store<Float32>(hn::MulAdd(a, b, sum), pending);
  }
  template <class Part>
  HWY_INLINE void add(const Part& part, V value) {
    const V sum = part.template load<Float32>(pending);
    part.template store<Float32>(hn::Add(value, sum), pending);
  }
};

/// Sums over `count` rows of totals, which lie `pitch` numbers apart: `store(first, columns, sums)`
/// for some of the columns [begin, end) at a time. Rows lie whole pages apart: of each, several
/// lines are read one after the other.
template <class Store>
inline void add_up_totals(const double* totals, std::int64_t pitch, std::int64_t count,
                          std::int64_t begin, std::int64_t end, const Store& store) {
  constexpr std::int64_t kColumns = 64;
  for (std::int64_t first = begin; first < end; first += kColumns) {
    const std::int64_t columns = end - first < kColumns ? end - first : kColumns;
    double sums[kColumns] = {};
    for (std::int64_t row = 0; row < count; ++row) {
      const double* from = totals + row * pitch + first;
      for (std::int64_t i = 0; i < columns; ++i) sums[i] += from[i];
    }
    store(first, columns, sums);
  }
}

/// As add_up_totals, rounded into the columns [begin, end) of out.
template <class Format>
inline void store_totals(typename Format::Storage* out, const double* totals, std::int64_t pitch,
                         std::int64_t count, std::int64_t begin, std::int64_t end) {
  const auto store = [out](std::int64_t first, std::int64_t columns, const double* sums) {
    for_each_part(0, columns, [&](auto part) {
      HWY_ALIGN float rounded[hn::MaxLanes(F32())] = {};
      const std::int64_t lanes = lane_count();
      for (std::int64_t i = 0; i < lanes && part.first + i < columns; ++i) {
        rounded[i] = static_cast<float>(sums[part.first + i]);
      }
      // The default NaN, as BFloat16::store wants it.
      const V value = hn::Load(F32(), rounded);
      const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
      part.template store<Format>(hn::IfThenElse(hn::IsNaN(value), nan, value), out + first);
    });
  };
  add_up_totals(totals, pitch, count, begin, end, store);
}

/// out[c] = sum `index` of column c over all chunks, for the columns [begin, end).
template <class Format>
inline void add_up_chunks(typename Format::Storage* out, const void* workspace,
                          const ColumnChunks& chunks, std::int64_t index, std::int64_t count,
                          std::int64_t begin, std::int64_t end) {
  store_totals<Format>(out, static_cast<const double*>(workspace) + index * chunks.cols,
                       count * chunks.cols, chunks.count, begin, end);
}

}  // namespace
}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
