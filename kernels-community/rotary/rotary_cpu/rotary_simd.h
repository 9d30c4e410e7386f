// SPDX-License-Identifier: Apache-2.0
// Rotation on Highway lanes; the includer's flags choose the instruction set. out1 = x1 c - x2 s
// and out2 = x1 s + x2 c in fp32, rounded once to the dtype. Build with -ffp-contract=off: both
// products are rounded before they are added, so that fp32 results are those of the composed
// formula.
#pragma once

#include <type_traits>

#include "primitives/simd_loop.h"
#include "rotary/params.h"
#include "rotary_cpu/row_walk.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::rotary::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using cpu::Row;
using primitives::Streaming;
using simd::Batch;
using simd::F32;
using simd::kBatch;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// fp32 cos and sin of bf16 tensors: a NaN loses its last bits, which BFloat16 asks for.
struct PlainNan {
  using Storage = float;
  static HWY_INLINE V plain(V value) {
    // hn::NaN has all of its last bits set.
    const V nan = hn::BitCast(F32(), hn::Set(simd::U32(), 0x7fc00000u));
    return hn::IfThenElse(hn::IsNaN(value), nan, value);
  }
  static HWY_INLINE V load(const float* HWY_RESTRICT from) { return plain(hn::LoadU(F32(), from)); }
};

/// Passed by value: behind a reference every store might change its pointers.
template <class Format, class Table>
using RowOf = Row<typename Format::Storage, typename Table::Storage>;

#if HWY_TARGET == HWY_SCALAR
template <class Format, class Table, std::int64_t kStep>
HWY_INLINE void rotate_row(const RowOf<Format, Table> row, std::int64_t half, V flip) {
  for (std::int64_t i = 0; i < half; ++i) {
    const V c = Table::load(row.cos + i);
    const V s = hn::Xor(Table::load(row.sin + i), flip);
    const V x1 = Format::load(row.x1 + kStep * i);
    const V x2 = Format::load(row.x2 + kStep * i);
    Format::store(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)), row.out1 + kStep * i);
    Format::store(hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), row.out2 + kStep * i);
  }
}

/// Halves. `flip` is the sign bit in every lane for conj.
template <class Format, class Table>
HWY_INLINE void rotate_halves(const RowOf<Format, Table> row, const Streaming&, std::int64_t half,
                              V flip) {
  rotate_row<Format, Table, 1>(row, half, flip);
}

/// Interleaved pairs.
template <class Format, class Table>
HWY_INLINE void rotate_interleaved(const RowOf<Format, Table> row, const Streaming&,
                                   std::int64_t half, V flip) {
  rotate_row<Format, Table, 2>(row, half, flip);
}
#else
template <class Format>
HWY_INLINE V load_some(const typename Format::Storage* from, std::int64_t count) {
  if (count >= static_cast<std::int64_t>(hn::Lanes(F32()))) return Format::load(from);
  return simd::load_first<Format>(from, static_cast<std::size_t>(count < 0 ? 0 : count));
}

template <class Format>
HWY_INLINE void store_some(V value, typename Format::Storage* to, std::int64_t count) {
  if (count >= static_cast<std::int64_t>(hn::Lanes(F32()))) return Format::store(value, to);
  simd::store_first<Format>(value, to, static_cast<std::size_t>(count < 0 ? 0 : count));
}

/// cos or sin of a batch of `Format`, in its order of elements.
template <class Format, class Table>
HWY_INLINE Batch<Format> load_table(const typename Table::Storage* from) {
  Batch<Format> batch;
  if constexpr (std::is_same_v<Format, Table>) {
    batch = Format::load_batch(from);
  } else if constexpr (std::is_same_v<Table, PlainNan>) {  // bf16's even and odd elements
    hn::LoadInterleaved2(F32(), from, batch.of[0], batch.of[1]);
    for (V& vector : batch.of) vector = PlainNan::plain(vector);
  } else {
    for (int v = 0; v < Format::kVectors; ++v) {
      batch.of[v] = Table::load(from + v * static_cast<std::int64_t>(hn::MaxLanes(F32())));
    }
  }
  return batch;
}

/// Results until the batches of a line are complete, as they will lie in memory: two batches of
/// fp32 lanes for each half, and what they are computed from, are more than AVX2 has registers.
template <class Format>
class Line {
 public:
  HWY_INLINE void set(std::size_t b, const Batch<Format>& batch) {
    if constexpr (std::is_same_v<Format, simd::Float32>) {
      batches_[b] = batch.of[0];
    } else {
      batches_[b] = Format::packed(batch);
    }
  }
  HWY_INLINE void stream(typename Format::Storage* to) const {
    for (std::size_t b = 0; b < kBatches; ++b) {
      hn::Stream(batches_[b], Memory(), to + static_cast<std::int64_t>(b) * kBatch<Format>);
    }
  }

 private:
  static constexpr std::size_t kBatches = simd::kBatchesAtOnce<Format>;
  using Memory = hn::Repartition<typename Format::Storage, F32>;

  hn::Vec<Memory> batches_[kBatches];
};

template <class Format>
struct Halves {
  Batch<Format> first, second;
};

/// A batch of either half from column i on.
template <class Format, class Table>
HWY_INLINE Halves<Format> rotated_halves(const RowOf<Format, Table> row, std::int64_t i, V flip) {
  const Batch<Format> c = load_table<Format, Table>(row.cos + i);
  const Batch<Format> s = load_table<Format, Table>(row.sin + i);
  const Batch<Format> x1 = Format::load_batch(row.x1 + i);
  const Batch<Format> x2 = Format::load_batch(row.x2 + i);
  Halves<Format> out;
  for (int v = 0; v < Format::kVectors; ++v) {
    const V sine = hn::Xor(s.of[v], flip);
    out.first.of[v] = hn::Sub(hn::Mul(x1.of[v], c.of[v]), hn::Mul(x2.of[v], sine));
    out.second.of[v] = hn::Add(hn::Mul(x2.of[v], c.of[v]), hn::Mul(x1.of[v], sine));
  }
  return out;
}

/// Halves. `flip` is the sign bit in every lane for conj.
template <class Format, class Table>
HWY_INLINE void rotate_halves(const RowOf<Format, Table> row, const Streaming& streaming,
                              std::int64_t half, V flip) {
  constexpr std::size_t kBatches = simd::kBatchesAtOnce<Format>;
  constexpr std::int64_t kLine = kBatches * kBatch<Format>;
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
  std::int64_t i = 0;
  if (streaming.is_on(row.out1) && streaming.is_on(row.out2) &&
      !primitives::is_same_in_page(row.out1, row.out2)) {
    for (; i + kLine <= half; i += kLine) {
      primitives::fetch(row.x1 + row.ahead1 + i);
      primitives::fetch(row.x2 + row.ahead2 + i);
      Line<Format> first, second;
      for (std::size_t b = 0; b < kBatches; ++b) {
        const auto out = rotated_halves<Format, Table>(
            row, i + static_cast<std::int64_t>(b) * kBatch<Format>, flip);
        first.set(b, out.first);
        second.set(b, out.second);
      }
      first.stream(row.out1 + i);
      second.stream(row.out2 + i);
    }
  }
  for (; i + kBatch<Format> <= half; i += kBatch<Format>) {
    const auto out = rotated_halves<Format, Table>(row, i, flip);
    Format::store_batch(out.first, row.out1 + i);
    Format::store_batch(out.second, row.out2 + i);
  }
  for (; i < half; i += kLanes) {
    const std::int64_t rest = half - i;
    const V c = load_some<Table>(row.cos + i, rest);
    const V s = hn::Xor(load_some<Table>(row.sin + i, rest), flip);
    const V x1 = load_some<Format>(row.x1 + i, rest);
    const V x2 = load_some<Format>(row.x2 + i, rest);
    store_some<Format>(hn::Sub(hn::Mul(x1, c), hn::Mul(x2, s)), row.out1 + i, rest);
    store_some<Format>(hn::Add(hn::Mul(x2, c), hn::Mul(x1, s)), row.out2 + i, rest);
  }
}

/// Two vectors: of neighbouring places, or a batch.
struct Both {
  V of[2];
};

/// Every value of a vector twice.
HWY_INLINE Both doubled(V value) {
  constexpr std::size_t kMost = hn::MaxLanes(F32());
  HWY_ALIGN std::int32_t low[kMost];
  HWY_ALIGN std::int32_t high[kMost];
  const std::size_t lanes = hn::Lanes(F32());
  for (std::size_t i = 0; i < lanes; ++i) {
    low[i] = static_cast<std::int32_t>(i / 2);
    high[i] = static_cast<std::int32_t>((lanes + i) / 2);
  }
  return {{hn::TableLookupLanes(value, hn::SetTableIndices(F32(), low)),
           hn::TableLookupLanes(value, hn::SetTableIndices(F32(), high))}};
}

/// Pairs (x1, x2) times c, plus swapped pairs times (-s, s).
HWY_INLINE V rotate_pairs(V x, V c, V s) {
  return hn::Add(hn::Mul(x, c), hn::Mul(hn::Reverse2(F32(), x), s));
}

HWY_INLINE V minus(V value) { return hn::Xor(value, hn::Set(F32(), -0.0f)); }

/// As many elements as two vectors have, in the order that suits the format.
template <class Format>
HWY_INLINE Both load_both(const typename Format::Storage* from) {
  if constexpr (Format::kVectors == 2) {
    const Batch<Format> batch = Format::load_batch(from);
    return {{batch.of[0], batch.of[1]}};
  } else {
    return {{Format::load(from), Format::load(from + hn::MaxLanes(F32()))}};
  }
}

/// Interleaved pairs as load_both gives them, with one value of c and s for each.
template <class Format>
HWY_INLINE Both rotate_both(Both x, V c, V s) {
  if constexpr (std::is_same_v<Format, simd::BFloat16>) {  // x1 and x2 apart
    return {{hn::Add(hn::Mul(x.of[0], c), hn::Mul(x.of[1], minus(s))),
             hn::Add(hn::Mul(x.of[1], c), hn::Mul(x.of[0], s))}};
  } else {
    const V signs = hn::OddEven(hn::Zero(F32()), hn::Set(F32(), -0.0f));
    const Both cs = doubled(c), ss = doubled(s);
    return {{rotate_pairs(x.of[0], cs.of[0], hn::Xor(ss.of[0], signs)),
             rotate_pairs(x.of[1], cs.of[1], hn::Xor(ss.of[1], signs))}};
  }
}

/// A vector of columns from column i on, which are as many pairs, in batches.
template <class Format, class Table>
HWY_INLINE void rotated_pairs(const RowOf<Format, Table> row, std::int64_t i, V flip,
                              Batch<Format> (&batches)[2 / Format::kVectors]) {
  const Both out = rotate_both<Format>(load_both<Format>(row.x1 + 2 * i), Table::load(row.cos + i),
                                       hn::Xor(Table::load(row.sin + i), flip));
  for (int v = 0; v < 2; ++v) batches[v / Format::kVectors].of[v % Format::kVectors] = out.of[v];
}

/// Interleaved pairs.
template <class Format, class Table>
HWY_INLINE void rotate_interleaved(const RowOf<Format, Table> row, const Streaming& streaming,
                                   std::int64_t half, V flip) {
  constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(F32()));
  constexpr std::int64_t kPairs = primitives::kLineBytes / sizeof(typename Format::Storage) / 2;
  // Of pairs that are a vector of columns, and of whole lines.
  constexpr std::size_t kBatches = 2 / Format::kVectors;
  constexpr std::int64_t kVectors = kPairs > kLanes ? kPairs / kLanes : 1;
  constexpr std::int64_t kLines = kVectors * kLanes / kPairs;
  Batch<Format> batches[kBatches];
  std::int64_t i = 0;
  // Pairs of fp16 take longer to compute than to write: past the caches they were slower.
  constexpr bool kStreams = !std::is_same_v<Format, simd::Float16>;
  if (kStreams && streaming.is_on(row.out1)) {
    for (; i + kVectors * kLanes <= half; i += kVectors * kLanes) {
      Line<Format> lines[kLines];
      for (std::int64_t line = 0; line < kLines; ++line) {
        primitives::fetch(row.x1 + row.ahead1 + 2 * (i + line * kPairs));
      }
      for (std::int64_t v = 0; v < kVectors; ++v) {
        rotated_pairs<Format, Table>(row, i + v * kLanes, flip, batches);
        for (std::size_t b = 0; b < kBatches; ++b) {
          const std::size_t at = static_cast<std::size_t>(v) * kBatches + b;
          lines[at / simd::kBatchesAtOnce<Format>].set(at % simd::kBatchesAtOnce<Format>,
                                                       batches[b]);
        }
      }
      for (std::int64_t line = 0; line < kLines; ++line) {
        lines[line].stream(row.out1 + 2 * (i + line * kPairs));
      }
    }
  }
  for (; i + kLanes <= half; i += kLanes) {
    rotated_pairs<Format, Table>(row, i, flip, batches);
    for (std::size_t b = 0; b < kBatches; ++b) {
      Format::store_batch(batches[b],
                          row.out1 + 2 * i + static_cast<std::int64_t>(b) * kBatch<Format>);
    }
  }
  const V signs = hn::Xor(flip, hn::OddEven(hn::Zero(F32()), hn::Set(F32(), -0.0f)));
  for (; i < half; i += kLanes) {
    const std::int64_t rest = half - i;
    const Both c = doubled(load_some<Table>(row.cos + i, rest));
    const Both s = doubled(load_some<Table>(row.sin + i, rest));
    for (int v = 0; v < 2; ++v) {
      const std::int64_t at = 2 * i + v * kLanes, left = 2 * rest - v * kLanes;
      const V x = load_some<Format>(row.x1 + at, left);
      store_some<Format>(rotate_pairs(x, c.of[v], hn::Xor(s.of[v], signs)), row.out1 + at, left);
    }
  }
}
#endif

/// Rows of results that were not read shortly before; none where there are no vectors to stream.
inline std::int64_t rows_apart(const Params& params) {
  std::int64_t rows = 0;
  for (int i = 0; i < params.count; ++i) {
    const Part& part = params.parts[i];
    if (part.out1.data == part.x1.data || part.out2.data == part.x2.data) return 0;
    rows += part.rows();
  }
  return HWY_TARGET == HWY_SCALAR ? 0 : rows;
}

template <class Format, class Table>
HWY_NOINLINE void apply_formats(const Params& params, std::int64_t begin, std::int64_t end) {
  using T = typename Format::Storage;
  using S = typename Table::Storage;
  const std::int64_t half = params.half;
  const V flip = params.conj ? hn::Set(F32(), -0.0f) : hn::Zero(F32());
  const std::int64_t cols = 2 * half;
  const Streaming streaming = Streaming::of<T>(rows_apart(params), cols);
  const std::int64_t ahead =
      streaming.is_on() ? 1 + (primitives::kAheadBytes - 1) / (cols * sizeof(T)) : 0;
  const auto interleaved = [&](const Row<T, S>& row) __attribute__((always_inline)) {
    rotate_interleaved<Format, Table>(row, streaming, half, flip);
  };
  const auto halves = [&](const Row<T, S>& row) __attribute__((always_inline)) {
    rotate_halves<Format, Table>(row, streaming, half, flip);
  };
  if (params.interleaved) return cpu::walk_rows<T, S>(params, begin, end, ahead, interleaved);
  cpu::walk_rows<T, S>(params, begin, end, ahead, halves);
}

/// dtype is fp32, fp16 or bf16.
inline void apply(const Params& params, std::int64_t begin, std::int64_t end) {
  const bool has_fp32_table = params.table_dtype == primitives::DType::kFloat32;
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      if (has_fp32_table) return apply_formats<simd::Float16, simd::Float32>(params, begin, end);
      return apply_formats<simd::Float16, simd::Float16>(params, begin, end);
    case primitives::DType::kBFloat16:
      if (has_fp32_table) return apply_formats<simd::BFloat16, PlainNan>(params, begin, end);
      return apply_formats<simd::BFloat16, simd::BFloat16>(params, begin, end);
    default:
      return apply_formats<simd::Float32, simd::Float32>(params, begin, end);
  }
}

}  // namespace
}  // namespace kernelhub::rotary::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
