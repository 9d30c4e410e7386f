// SPDX-License-Identifier: Apache-2.0
// Walks over a row on Highway lanes, sums over it, and sums over rows, for translation units that
// are compiled once per instruction set. Lanes are fp32, totals fp64; as in simd_float.h no symbol
// is shared.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "primitives/column_sums.h"
#include "primitives/simd_float.h"
#include "primitives/streaming.h"
#include "primitives/stretches.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// Independent sums of each kind: they hide the latency of the adds, as long as registers hold
/// them.
template <int kCount>
constexpr std::int64_t kUnroll = kCount <= 2 ? 4 : 2;

// A lane takes this many additions before it is folded into fp64: more would cost digits in long
// rows (2.4e-7 relative error at 96 additions), fewer time (a fold is worth about eight additions).
constexpr std::int64_t kAddsPerFold = 32;

HWY_INLINE std::int64_t lane_count() { return static_cast<std::int64_t>(hn::Lanes(F32())); }

/// No vector of factors: all of them are 1.
struct Ones {
  using Storage = std::uint16_t;
};

/// The order of a walk over X and Others: that of their batches where all are alike.
template <class X, class... Others>
using OrderOf =
    std::conditional_t<((std::is_same_v<X, Others> || std::is_same_v<Others, Ones>)&&...), X,
                       Float32>;

/// What may hold a NaN whose last bits a bf16 has no room for.
template <class Format>
constexpr bool kHasWideNans = !std::is_same_v<Format, BFloat16> && !std::is_same_v<Format, Ones>;

/// A result that follows from memory of the formats From, as RowWriter takes it: BFloat16 wants the
/// default NaN.
template <class Format, class... From>
HWY_INLINE V storable(V value) {
  if constexpr ((kHasWideNans<From> || ...) && std::is_same_v<Format, BFloat16>) {
    // Highway's own NaN has all bits set.
    const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
    value = hn::IfThenElse(hn::IsNaN(value), nan, value);
  }
  return value;
}

/// As many columns as there are lanes: vector kVector of the Order's batch that starts at column
/// `first`. Order is the format whose batches are walked over: other formats are loaded and stored
/// beside it only where its batches are one vector, which holds columns in order.
template <class Order, int kVector>
struct Whole {
  std::int64_t first;
  bool is_in_line;  // together with a whole line of columns

  template <class Format>
  HWY_INLINE V load(const typename Format::Storage* row) const {
    if constexpr (std::is_same_v<Format, Order>) {
      return Format::load_batch(row + first).of[kVector];
    } else {
      static_assert(Order::kVectors == 1);
      return Format::load(row + first);
    }
  }
  /// fp32 values in the Order's own order.
  HWY_INLINE V load_sums(const float* row) const { return hn::LoadU(F32(), row + place()); }
  HWY_INLINE void store_sums(V sums, float* row) const { hn::StoreU(sums, F32(), row + place()); }
  /// `value`, zero in lanes that hold no column.
  HWY_INLINE V columns_of(V value) const { return value; }

 private:
  HWY_INLINE std::int64_t place() const { return first + kVector * lane_count(); }
};

/// Columns behind the last batch, in order, at most as many as there are lanes. `load` gives zero
/// in the other lanes.
struct Rest {
  std::int64_t first;
  std::size_t count;

  template <class Format>
  HWY_INLINE V load(const typename Format::Storage* row) const {
    return load_first<Format>(row + first, count);
  }
  HWY_INLINE V load_sums(const float* row) const { return load<Float32>(row); }
  HWY_INLINE void store_sums(V sums, float* row) const { store<Float32>(sums, row); }
  template <class Format>
  HWY_INLINE void store(V value, typename Format::Storage* row) const {
    store_first<Format>(value, row + first, count);
  }
  HWY_INLINE V columns_of(V value) const {
    return hn::IfThenElseZero(hn::FirstN(F32(), count), value);
  }
};

/// Rows longer than this do not stay in L2 beside others until their turn comes.
constexpr std::int64_t kMostFetchedBytes = 64 * 1024;

/// Fetches the columns of a part in another row, to be read: of `kStreams` rows at a time. Several
/// fetched straight into the first level take up the few misses that it can wait for. Not one
/// column at a time: that would keep the compiler from its own vectors.
template <int kStreams, class Order, int kVector, class T>
HWY_INLINE void fetch_columns(const Whole<Order, kVector>& part, const T* row) {
  if constexpr (kVector == 0 && HWY_TARGET != HWY_SCALAR) {
    kStreams == 1 ? fetch(row + part.first) : fetch_to_second_level(row + part.first);
  }
}
template <int kStreams>
inline void fetch_columns(const Rest&, const void*) {}

/// A row that is written part by part.
template <class Format, class Order>
class RowWriter {
  using Storage = typename Format::Storage;

 public:
  /// Whether any line can be written past the caches.
  static constexpr bool kStreams = std::is_same_v<Format, Order> || std::is_same_v<Format, Float32>;

  /// `streams`: whole lines past the caches.
  HWY_INLINE RowWriter(Storage* row, bool streams) : row_(row), streams_(streams) {}

  template <int kVector>
  HWY_INLINE void put(const Whole<Order, kVector>& part, V value) {
    const bool streams = HWY_TARGET != HWY_SCALAR && streams_ && part.is_in_line;
    if constexpr (std::is_same_v<Format, Order>) {
      batch_.of[kVector] = value;
      if constexpr (kVector + 1 < Order::kVectors) return;
      streams ? Format::stream_batch(batch_, row_ + part.first)
              : Format::store_batch(batch_, row_ + part.first);
    } else if constexpr (std::is_same_v<Format, Float32>) {
      streams ? Format::stream(value, row_ + part.first) : Format::store(value, row_ + part.first);
    } else {
      Format::store(value, row_ + part.first);
    }
  }
  HWY_INLINE void put(const Rest& part, V value) { part.template store<Format>(value, row_); }

 private:
  Storage* row_;
  bool streams_;
  Batch<Format> batch_;
};

template <class Order, int kVector = 0, class Visit>
HWY_INLINE void for_each_vector(std::int64_t first, bool is_in_line, const Visit& visit) {
  if constexpr (kVector < Order::kVectors) {
    visit(Whole<Order, kVector>{first, is_in_line});
    for_each_vector<Order, kVector + 1>(first, is_in_line, visit);
  }
}

template <class Visit>
HWY_INLINE void for_each_rest(std::int64_t begin, std::int64_t end, const Visit& visit) {
  for (; begin < end; begin += lane_count()) {
    const std::int64_t count = end - begin < lane_count() ? end - begin : lane_count();
    visit(Rest{begin, static_cast<std::size_t>(count)});
  }
}

/// `visit(part)` for all columns, by lines of Format, in the order of their columns.
template <class Format, class Order, class Visit>
HWY_INLINE void for_each_part(std::int64_t cols, const Visit& visit) {
  constexpr auto kLine = kLineBytes / static_cast<std::int64_t>(sizeof(typename Format::Storage));
  static_assert(kLine % kBatch<Order> == 0);
  std::int64_t i = 0;
  for (; i + kLine <= cols; i += kLine) {
    for (std::int64_t j = i; j < i + kLine; j += kBatch<Order>) {
      for_each_vector<Order>(j, true, visit);
    }
  }
  for (; i + kBatch<Order> <= cols; i += kBatch<Order>) for_each_vector<Order>(i, false, visit);
  for_each_rest(i, cols, visit);
}

template <int kCount>
struct Totals {
  double of[kCount];
};

/// `add(part, sums[k])` for kVectors vectors from column `first` on.
template <class Order, int kVectors, int k = 0, class Sums, class Add>
HWY_INLINE void add_vectors(std::int64_t first, Sums& sums, const Add& add) {
  if constexpr (k < kVectors) {
    const std::int64_t batch = k / Order::kVectors * kBatch<Order>;
    add(Whole<Order, k % Order::kVectors>{first + batch, true}, sums[k]);
    add_vectors<Order, kVectors, k + 1>(first, sums, add);
  }
}

/// `add(part, sums)` for every part of a row adds to kCount fp32 sums, which are folded into fp64
/// totals. Which additions meet in which lane depends on `cols` only.
template <int kCount, class Order, class Add>
HWY_INLINE Totals<kCount> folded_sums(std::int64_t cols, const Add& add) {
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
  constexpr auto kSums = static_cast<int>(kUnroll<kCount>);
  constexpr std::int64_t kStep = kSums * kLanes;
  constexpr std::int64_t kBlock = kAddsPerFold * kStep;
  static_assert(kSums % Order::kVectors == 0);
  Totals<kCount> totals{};
  for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
    const std::int64_t end = begin + kBlock < cols ? begin + kBlock : cols;
    V sums[kSums][kCount];
    for (auto& sum : sums) {
      for (V& lane_sums : sum) lane_sums = hn::Zero(F32());
    }
    std::int64_t i = begin;
    for (; i + kStep <= end; i += kStep) {
      add_vectors<Order, kSums>(i, sums, add);
    }
    for (; i + kBatch<Order> <= end; i += kBatch<Order>) {
      add_vectors<Order, Order::kVectors>(i, sums, add);
    }
    for_each_rest(i, end, [&](const Rest& part) { add(part, sums[kSums - 1]); });
    for (int k = 0; k < kCount; ++k) {
      V all = hn::Add(sums[0][k], sums[1][k]);
      if constexpr (kSums == 4) all = hn::Add(all, hn::Add(sums[2][k], sums[3][k]));
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

/// Where parts of a row are added to sums over rows; null: nowhere. A copy of it stays in a
/// register.
struct PendingSums {
  float* sums;

  /// The products of several rows, one after the other.
  template <class Part, int kRows>
  HWY_INLINE void add_products(const Part& part, const V (&a)[kRows], const V (&b)[kRows]) const {
    if (sums == nullptr) return;
    V sum = part.load_sums(sums);
    for (int k = 0; k < kRows; ++k) sum = hn::MulAdd(a[k], b[k], sum);
    part.store_sums(sum, sums);
  }
  template <class Part>
  HWY_INLINE void add_product(const Part& part, V a, V b) const {
    add_products(part, {a}, {b});
  }
  template <class Part>
  HWY_INLINE void add(const Part& part, V value) const {
    if (sums == nullptr) return;
    part.store_sums(hn::Add(value, part.load_sums(sums)), sums);
  }
};

/// Those of fp32 lanes.
struct ChunkSums : ColumnSums<float> {
  ChunkSums() = default;

  /// Sum `index` of chunk `chunk` in a workspace for `count` sums a chunk.
  ChunkSums(void* workspace, const ColumnChunks& chunks, std::int64_t chunk, std::int64_t index,
            std::int64_t count)
      : ChunkSums(column_totals(workspace), chunks.count * count * chunks.pitch(),
                  (chunk * count + index) * chunks.pitch(), chunks.cols) {}

  /// To be added to row by row. Between two folds the sums have the order of the parts.
  HWY_INLINE PendingSums row() const { return {pending}; }

  /// For parts of batches of Order.
  template <class Order>
  HWY_INLINE void end_row() {
    if (++rows == kRowsPerFold) fold<Order>();
  }
  template <class Order>
  void fold() {
    if constexpr (Order::kVectors > 1) {
      for (std::int64_t i = 0; i + kBatch<Order> <= cols; i += kBatch<Order>) {
        Batch<Order> batch;
        for (int k = 0; k < Order::kVectors; ++k) {
          batch.of[k] = hn::LoadU(F32(), pending + i + k * lane_count());
        }
        Order::store_fp32(batch, pending + i);
      }
    }
    ColumnSums::fold();
  }

 private:
  ChunkSums(double* all_totals, std::int64_t all, std::int64_t place, std::int64_t columns)
      : ColumnSums(all_totals + place, reinterpret_cast<float*>(all_totals + all) + place,
                   columns) {}
};

constexpr std::int64_t kTotalsAtOnce = 64;

/// Sums over `count` rows of totals, which lie `pitch` numbers apart: `store(first, columns, sums)`
/// for at most kTotalsAtOnce of the columns [begin, end). Rows lie whole pages apart: of each,
/// several lines are read one after the other.
template <class Store>
inline void add_up_totals(const double* totals, std::int64_t pitch, std::int64_t count,
                          std::int64_t begin, std::int64_t end, const Store& store) {
  for (std::int64_t first = begin; first < end; first += kTotalsAtOnce) {
    const std::int64_t columns = end - first < kTotalsAtOnce ? end - first : kTotalsAtOnce;
    double sums[kTotalsAtOnce] = {};
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
    float rounded[kTotalsAtOnce];
    for (std::int64_t i = 0; i < columns; ++i) rounded[i] = static_cast<float>(sums[i]);
    RowWriter<Format, Float32> writer(out + first, false);
    for_each_rest(0, columns, [&](const Rest& part) {
      // The default NaN, as BFloat16::store wants it.
      const V value = part.load<Float32>(rounded);
      const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
      writer.put(part, hn::IfThenElse(hn::IsNaN(value), nan, value));
    });
  };
  add_up_totals(totals, pitch, count, begin, end, store);
}

/// out[c] = sum `index` of column c over all chunks, for the columns [begin, end).
template <class Format>
inline void add_up_chunks(typename Format::Storage* out, void* workspace,
                          const ColumnChunks& chunks, std::int64_t index, std::int64_t count,
                          std::int64_t begin, std::int64_t end) {
  store_totals<Format>(out, column_totals(workspace) + index * chunks.pitch(),
                       count * chunks.pitch(), chunks.count, begin, end);
}

}  // namespace
}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
