// SPDX-License-Identifier: Apache-2.0
// RMS normalisation of rows on Highway lanes, and its gradients; the includer's flags choose the
// instruction set.
//   n = x * rstd, out = (offset + weight) * n, rstd = 1 / sqrt(mean(x^2) + eps)
//   rounding: n to the dtype of x where params ask for it, then out; B. Zhang, R. Sennrich,
//   arXiv:1910.07467, eq. 4
//   grad_x = rstd * (g - n * mean(g * n)), g = (offset + weight) * grad_out; grad_weight = the sum
//   of grad_out * n over rows
// Lanes are fp32, totals fp64. Reads each element twice, from L1 or L2 the second time.
#pragma once

#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "primitives/simd_rows.h"
#include "rmsnorm/params.h"
#include "rmsnorm_cpu/reciprocal_rms.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::rmsnorm::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace simd = primitives::HWY_NAMESPACE;
using primitives::DType;
using simd::BFloat16;
using simd::F32;
using simd::Float16;
using simd::Float32;
using simd::Ones;
using simd::OrderOf;
using simd::V;

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// The offset is -0.0 where there is none: the addition that changes no bit.
HWY_INLINE V lanes_of_offset(double offset) {
  return hn::Set(F32(), offset == 0.0 ? -0.0f : static_cast<float>(offset));
}

template <class Weight, class Part>
HWY_INLINE V factor_of(const Part& part, const typename Weight::Storage* weight, V offset) {
  if constexpr (std::is_same_v<Weight, Ones>) return hn::Set(F32(), 1.0f);
  if constexpr (!std::is_same_v<Weight, Ones>) {
    return hn::Add(part.template load<Weight>(weight), offset);
  }
}

template <class X>
inline double squares_of(const typename X::Storage* x, std::int64_t cols) {
  const auto add = [&](auto part, V(&sums)[1]) {
    const V value = part.template load<X>(x);
    sums[0] = hn::MulAdd(value, value, sums[0]);
  };
  return simd::folded_sums<1, X>(cols, add).of[0];
}

/// Sums that are written past the caches are kept in memory of this size until they are normalised.
constexpr std::int64_t kKeptBytes = 16 * 1024;

/// The sum of the squares of x + residual, rounded. The sum itself goes to `sum`; kIsKept: past the
/// caches, and to `kept`, too.
template <class X, bool kIsKept>
inline double squares_of_sum(const typename X::Storage* x, const typename X::Storage* residual,
                             typename X::Storage* sum, typename X::Storage* kept,
                             std::int64_t cols) {
  simd::RowWriter<X, X> writer(sum, kIsKept);
  simd::RowWriter<X, X> keeper(kept, false);
  const auto add = [&](auto part, V(&sums)[1]) {
    const V value = hn::Add(part.template load<X>(x), part.template load<X>(residual));
    writer.put(part, value);
    if constexpr (kIsKept) keeper.put(part, value);
    const V rounded = X::round(value);
    sums[0] = hn::MulAdd(rounded, rounded, sums[0]);
  };
  return simd::folded_sums<1, X>(cols, add).of[0];
}

/// A row whose squares are added up.
template <class X, class Out, class Order>
struct ScaledRow {
  using Storage = typename X::Storage;
  const Storage* x;  // or x + residual
  V scale;
  simd::RowWriter<Out, Order> writer;
  const Storage* next_x;  // of a row to come; the row's own where there is none
  const Storage* next_residual = nullptr;

  /// `next`: how far it is to the row to come. `kept`: room for x + residual, or null.
  HWY_INLINE ScaledRow(const Params& params, const primitives::Streaming& streaming,
                       std::int64_t row, std::int64_t next, Storage* kept)
      : x(static_cast<const Storage*>(params.x) + row * params.x_stride),
        writer(out_of(params, row), streaming.is_on(out_of(params, row))),
        next_x(x + next * params.x_stride) {
    double squares;
    if (params.residual != nullptr) {
      const auto* residual =
          static_cast<const Storage*>(params.residual) + row * params.residual_stride;
      next_residual = residual + next * params.residual_stride;
      auto* sum = static_cast<Storage*>(params.sum) + row * params.sum_stride;
      const bool is_kept = kept != nullptr && streaming.is_on(sum);
      squares = is_kept ? squares_of_sum<X, true>(x, residual, sum, kept, params.cols)
                        : squares_of_sum<X, false>(x, residual, sum, kept, params.cols);
      x = is_kept ? kept : sum;
    } else {
      squares = squares_of<X>(x, params.cols);
    }
    const float rstd = reciprocal_rms_fp32(squares, params.cols, params.eps);
    if (params.rstd != nullptr) params.rstd[row] = rstd;
    scale = hn::Set(F32(), rstd);
  }

  /// Fetches a part's columns of the row to come.
  template <class Part>
  HWY_INLINE void fetch(const Part& part) const {
    if (next_residual == nullptr) return simd::fetch_columns<1>(part, next_x);
    simd::fetch_columns<2>(part, next_x);
    simd::fetch_columns<2>(part, next_residual);
  }

 private:
  static HWY_INLINE auto* out_of(const Params& params, std::int64_t row) {
    return static_cast<typename Out::Storage*>(params.out) + row * params.out_stride;
  }
};

/// factor_of for a pass without spare instructions.
template <class Weight>
class Factors {
 public:
  HWY_INLINE explicit Factors(const Params& params)
      : weight_(static_cast<const typename Weight::Storage*>(params.weight)),
        offset_(lanes_of_offset(params.offset)) {
    std::memcpy(&offset_bits_, &params.offset, sizeof offset_bits_);
  }

  template <class Part>
  HWY_INLINE V load(const Part& part) const {
    if constexpr (std::is_same_v<Weight, Ones>) return hn::Set(F32(), 1.0f);
    if constexpr (!std::is_same_v<Weight, Ones>) {
      const V factor = part.template load<Weight>(weight_);
      const bool is_sum = std::is_same_v<Weight, Float32> || offset_bits_ != 0;
      return is_sum ? hn::Add(factor, offset_) : factor;
    }
  }

 private:
  const typename Weight::Storage* weight_;
  V offset_;
  std::uint64_t offset_bits_;  // a comparison of fp64 would be made again for every part
};

/// Writes rows together: the weight is widened once for all of them.
template <class X, class Weight, class Out, bool kIsRoundedFirst, class... Row>
HWY_INLINE void write_rows(const Params& params, bool fetches, Row... rows) {
  const Factors<Weight> factors(params);
  simd::for_each_part<Out, OrderOf<X, Weight, Out>>(params.cols, [&](auto part) {
    if (fetches) (rows.fetch(part), ...);
    const V factor = factors.load(part);
    const auto value_of = [&](const auto& row) {
      V value = hn::Mul(part.template load<X>(row.x), row.scale);
      if constexpr (kIsRoundedFirst) value = X::round(value);
      if constexpr (!std::is_same_v<Weight, Ones>) value = hn::Mul(value, factor);
      return simd::storable<Out, Weight>(value);
    };
    // Steps of several rows depend on each other only behind the first store.
    const V values[] = {value_of(rows)...};
    int k = 0;
    (rows.writer.put(part, values[k++]), ...);
  });
}

/// Rows `row` + k for every k.
template <class X, class Weight, class Out, bool kIsRoundedFirst, int... k>
HWY_INLINE void normalize_together(const Params& params, const primitives::Streaming& streaming,
                                   std::int64_t row, std::int64_t end,
                                   std::integer_sequence<int, k...>) {
  using Storage = typename X::Storage;
  constexpr std::int64_t kRows = sizeof...(k);
  constexpr auto kKept = kKeptBytes / static_cast<std::int64_t>(sizeof(Storage));
  // While results are computed and written past the caches, memory would idle, and the first pass
  // over the next rows wait.
  const auto bytes = params.cols * static_cast<std::int64_t>(sizeof(Storage));
  const bool fetches =
      streaming.is_on() && row + 2 * kRows <= end && bytes <= simd::kMostFetchedBytes;
  const std::int64_t next = fetches ? kRows : 0;
  alignas(primitives::kLineBytes) Storage kept[kRows][kKept];
  const bool keeps = bytes <= kKeptBytes && params.sum != params.residual;
  write_rows<X, Weight, Out, kIsRoundedFirst>(
      params, fetches,
      ScaledRow<X, Out, OrderOf<X, Weight, Out>>(params, streaming, row + k, next,
                                                 keeps ? kept[k] : nullptr)...);
}

template <class X, class Weight, class Out, bool kIsRoundedFirst>
inline void normalize_rows(const Params& params, std::int64_t begin, std::int64_t end) {
  const auto streaming = primitives::Streaming::of<typename Out::Storage>(
      params.out != params.x ? params.rows : 0, params.cols);
  const auto normalize = [&](auto rows) {
    constexpr auto kRows = static_cast<std::int64_t>(rows.size());
    for (; begin + kRows <= end; begin += kRows) {
      normalize_together<X, Weight, Out, kIsRoundedFirst>(params, streaming, begin, end, rows);
    }
  };
  // Where a weight is widened, arithmetic is the limit; elsewhere, and of large sums, memory, which
  // follows fewer rows better. A row's bits do not depend on its company.
  constexpr bool kWidensWeight =
      HWY_TARGET != HWY_SCALAR && !std::is_same_v<Weight, Ones> && !std::is_same_v<Weight, Float32>;
  if constexpr (kWidensWeight) {
    const bool is_large_sum = params.residual != nullptr && streaming.is_on();
    constexpr auto kSize = static_cast<std::int64_t>(sizeof(typename Out::Storage));
    const bool suits_turns = !simd::RowWriter<Out, OrderOf<X, Weight, Out>>::kStreams ||
                             streaming.suits_turns(params.out_stride * kSize);
    if (!is_large_sum && suits_turns) normalize(std::make_integer_sequence<int, 2>());
  }
  normalize(std::make_integer_sequence<int, 1>());
}

/// A row of a call of the backward.
template <class X, class GradOut, class Order>
struct GradientRow {
  using Storage = typename X::Storage;
  using GradStorage = typename GradOut::Storage;
  const Storage* x;
  const GradStorage* grad;
  V scale;
  simd::RowWriter<X, Order> writer;
  const Storage* next_x;  // of a row to come; the row's own where there is none
  const GradStorage* next_grad;

  /// `next`: how far it is to the row to come.
  HWY_INLINE GradientRow(const BackwardParams& params, const primitives::Streaming& streaming,
                         std::int64_t row, std::int64_t next)
      : x(static_cast<const Storage*>(params.x) + row * params.x_stride),
        grad(static_cast<const GradStorage*>(params.grad_out) + row * params.grad_out_stride),
        scale(hn::Set(F32(), params.rstd[row])),
        writer(grad_x_of(params, row), streaming.is_on(grad_x_of(params, row))),
        next_x(x + next * params.x_stride),
        next_grad(grad + next * params.grad_out_stride) {}

  template <class Part>
  HWY_INLINE V load_grad(const Part& part) const {
    return part.template load<GradOut>(grad);
  }
  template <class Part>
  HWY_INLINE V normalized(const Part& part) const {
    return hn::Mul(part.template load<X>(x), scale);
  }

 private:
  static HWY_INLINE Storage* grad_x_of(const BackwardParams& params, std::int64_t row) {
    auto* grad_x = static_cast<Storage*>(params.grad_x);
    return grad_x == nullptr ? grad_x : grad_x + row * params.grad_x_stride;
  }
};

/// Rows together: weight and sums over rows are read once for all of them. grad_x where it is asked
/// for, and into `pending` what the rows add to grad_weight, one after the other.
template <class X, class Weight, class GradOut, class... Row>
HWY_INLINE void differentiate_together(const BackwardParams& params,
                                       const simd::PendingSums& pending, Row... rows) {
  using Order = OrderOf<X, Weight, GradOut>;
  constexpr int kRows = sizeof...(rows);
  const auto* weight = static_cast<const typename Weight::Storage*>(params.weight);
  const V offset = lanes_of_offset(params.offset);
  const std::int64_t cols = params.cols;
  if (params.grad_x == nullptr) {
    simd::for_each_part<X, Order>(cols, [&](auto part) {
      const V grads[] = {rows.load_grad(part)...};
      const V normalized[] = {rows.normalized(part)...};
      pending.add_products(part, grads, normalized);
    });
    return;
  }
  const auto add = [&](auto part, V(&products)[kRows]) {
    const V factor = factor_of<Weight>(part, weight, offset);
    const V grads[] = {hn::Mul(rows.load_grad(part), factor)...};
    const V normalized[] = {rows.normalized(part)...};
    for (int k = 0; k < kRows; ++k) {
      products[k] = hn::MulAdd(grads[k], normalized[k], products[k]);
    }
  };
  const auto totals = simd::folded_sums<kRows, Order>(cols, add);
  V means[kRows];
  for (int k = 0; k < kRows; ++k) {
    means[k] = hn::Set(F32(), static_cast<float>(totals.of[k] / static_cast<double>(cols)));
  }
  simd::for_each_part<X, Order>(cols, [&](auto part) {
    // While results are computed and written, memory would idle, and the next rows' first pass
    // wait.
    (simd::fetch_columns<2>(part, rows.next_x), ...);
    (simd::fetch_columns<2>(part, rows.next_grad), ...);
    const V factor = factor_of<Weight>(part, weight, offset);
    const V grads[] = {rows.load_grad(part)...};
    const V normalized[] = {rows.normalized(part)...};
    pending.add_products(part, grads, normalized);
    int k = 0;
    const auto write = [&](auto& row) {
      const V centered = hn::NegMulAdd(normalized[k], means[k], hn::Mul(grads[k], factor));
      row.writer.put(part, simd::storable<X, Weight, GradOut>(hn::Mul(row.scale, centered)));
      ++k;
    };
    (write(rows), ...);
  });
}

/// `sums`: of grad_weight over these rows, empty where nobody asks for them.
template <class X, class Weight, class GradOut>
inline void differentiate_rows(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                               simd::ChunkSums sums) {
  using Order = OrderOf<X, Weight, GradOut>;
  const auto bytes =  // of the wider one
      params.cols * static_cast<std::int64_t>(sizeof(typename GradOut::Storage));
  const auto streaming = primitives::Streaming::of<typename X::Storage>(
      params.grad_x != nullptr ? params.rows : 0, params.cols);
  const bool has_sums = sums.totals != nullptr;
  const simd::PendingSums pending = sums.row();
  const auto differentiate = [&](auto... k) {
    constexpr std::int64_t kRows = sizeof...(k);
    for (; begin + kRows <= end; begin += kRows) {
      const bool has_next = begin + 2 * kRows <= end && bytes <= simd::kMostFetchedBytes;
      const std::int64_t next = has_next ? kRows : 0;
      differentiate_together<X, Weight, GradOut>(
          params, pending, GradientRow<X, GradOut, Order>(params, streaming, begin + k, next)...);
      for (std::int64_t row = 0; has_sums && row < kRows; ++row) sums.template end_row<Order>();
    }
  };
  // kRowsPerFold is even: no pair of rows lies across two folds.
  static_assert(primitives::kRowsPerFold % 2 == 0);
  if constexpr (HWY_TARGET != HWY_SCALAR) {
    constexpr auto kSize = static_cast<std::int64_t>(sizeof(typename X::Storage));
    const bool suits_turns =
        !simd::RowWriter<X, Order>::kStreams || streaming.suits_turns(params.grad_x_stride * kSize);
    if (suits_turns) differentiate(0, 1);
  }
  differentiate(0);
  if (has_sums) sums.template fold<Order>();
}

/// visit(Format{}) for the storage format of a dtype other than fp64.
template <class Visit>
HWY_INLINE void with_format(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kFloat16:
      return visit(Float16());
    case DType::kBFloat16:
      return visit(BFloat16());
    default:
      return visit(Float32());
  }
}

template <class Visit>
HWY_INLINE void with_weight_format(const void* weight, DType dtype, const Visit& visit) {
  if (weight == nullptr) return visit(Ones());
  with_format(dtype, visit);
}

/// visit(Format{}) for what a result or its gradient may be: X, or fp32.
template <class X, class Visit>
HWY_INLINE void with_result_format(DType x, DType dtype, const Visit& visit) {
  if (dtype == x) return visit(X());
  visit(Float32());
}

inline void normalize(const Params& params, std::int64_t begin, std::int64_t end) {
  with_format(params.dtype, [&](auto x) {
    with_weight_format(params.weight, params.weight_dtype, [&](auto weight) {
      with_result_format<decltype(x)>(params.dtype, params.out_dtype, [&](auto out) {
        using X = decltype(x);
        using Weight = decltype(weight);
        using Out = decltype(out);
        if (params.is_rounded_first)
          return normalize_rows<X, Weight, Out, true>(params, begin, end);
        normalize_rows<X, Weight, Out, false>(params, begin, end);
      });
    });
  });
}

inline void differentiate_formats(const BackwardParams& params, std::int64_t begin,
                                  std::int64_t end, const simd::ChunkSums& sums) {
  with_format(params.dtype, [&](auto x) {
    with_weight_format(params.weight, params.weight_dtype, [&](auto weight) {
      with_result_format<decltype(x)>(params.dtype, params.grad_dtype, [&](auto grad) {
        differentiate_rows<decltype(x), decltype(weight), decltype(grad)>(params, begin, end, sums);
      });
    });
  });
}

inline void differentiate(const BackwardParams& params, std::int64_t begin, std::int64_t end) {
  differentiate_formats(params, begin, end, {});
}

inline void differentiate_chunk(const BackwardParams& params,
                                const primitives::ColumnChunks& chunks, std::int64_t chunk) {
  differentiate_formats(params, chunks.begin(chunk), chunks.end(chunk),
                        simd::ChunkSums(params.workspace, chunks, chunk, 0, 1));
}

inline void add_up(const BackwardParams& params, const primitives::ColumnChunks& chunks,
                   std::int64_t begin, std::int64_t end) {
  with_format(params.weight_dtype, [&](auto weight) {
    using Format = decltype(weight);
    simd::add_up_chunks<Format>(static_cast<typename Format::Storage*>(params.grad_weight),
                                params.workspace, chunks, 0, 1, begin, end);
  });
}

}  // namespace
}  // namespace kernelhub::rmsnorm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
