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

#include <limits>
#include <type_traits>

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
HWY_INLINE double squares_of(const typename X::Storage* x, std::int64_t cols) {
  const auto add = [&](auto part, V(&sums)[1]) {
    const V value = part.template load<X>(x);
    sums[0] = hn::MulAdd(value, value, sums[0]);
  };
  return simd::folded_sums<1, X>(cols, add).of[0];
}

/// x + residual, not rounded yet.
template <class X, class Part>
HWY_INLINE V sum_of(const Part& part, const typename X::Storage* x,
                    const typename X::Storage* residual) {
  return hn::Add(part.template load<X>(x), part.template load<X>(residual));
}

/// The sum of the squares of x + residual, rounded; the sum itself is stored where `sum` is given.
template <class X, bool kIsStored>
HWY_INLINE double squares_of_sum(const typename X::Storage* x, const typename X::Storage* residual,
                                 typename X::Storage* sum, std::int64_t cols) {
  simd::RowWriter<X, X> writer(sum, false);
  const auto add = [&](auto part, V(&sums)[1]) {
    const V value = sum_of<X>(part, x, residual);
    const V rounded = X::round(value);
    if constexpr (kIsStored) writer.put(part, value);
    sums[0] = hn::MulAdd(rounded, rounded, sums[0]);
  };
  return simd::folded_sums<1, X>(cols, add).of[0];
}

/// `kIsSumStreamed`: x + residual is written past the caches together with the result, so it is
/// made twice; otherwise it is written first and read again.
template <class X, class Weight, class Out, bool kIsRoundedFirst, bool kIsSumStreamed>
inline void normalize_rows(const Params& params, const primitives::Streaming& streaming,
                           std::int64_t begin, std::int64_t end) {
  using Order = OrderOf<X, Weight, Out>;
  using Storage = typename X::Storage;
  const auto* weight = static_cast<const typename Weight::Storage*>(params.weight);
  const V offset = lanes_of_offset(params.offset);
  const std::int64_t cols = params.cols;
  for (std::int64_t row = begin; row < end; ++row) {
    const auto* x = static_cast<const Storage*>(params.x) + row * params.x_stride;
    auto* out = static_cast<typename Out::Storage*>(params.out) + row * params.out_stride;
    const Storage* residual = nullptr;
    Storage* sum = nullptr;
    double squares;
    if (kIsSumStreamed || params.residual != nullptr) {
      residual = static_cast<const Storage*>(params.residual) + row * params.residual_stride;
      sum = static_cast<Storage*>(params.sum) + row * params.sum_stride;
      squares = squares_of_sum<X, !kIsSumStreamed>(x, residual, sum, cols);
      if (!kIsSumStreamed) x = sum;
    } else {
      squares = squares_of<X>(x, cols);
    }
    const float rstd = reciprocal_rms_fp32(squares, cols, params.eps);
    if (params.rstd != nullptr) params.rstd[row] = rstd;
    const V scale = hn::Set(F32(), rstd);
    simd::RowWriter<X, Order> sum_writer(sum, streaming.is_on(sum));
    simd::RowWriter<Out, Order> writer(out, streaming.is_on(out));
    simd::for_each_part<Out, Order>(cols, [&](auto part) {
      V value;
      if constexpr (kIsSumStreamed) {
        value = sum_of<X>(part, x, residual);
        sum_writer.put(part, value);
        value = X::round(value);
      } else {
        value = part.template load<X>(x);
      }
      value = hn::Mul(value, scale);
      if constexpr (kIsRoundedFirst) value = X::round(value);
      if constexpr (!std::is_same_v<Weight, Ones>) {
        value = hn::Mul(value, factor_of<Weight>(part, weight, offset));
      }
      writer.put(part, simd::storable<Out, Weight>(value));
    });
  }
}

template <class X, class Weight, class Out, bool kIsRoundedFirst>
inline void normalize_formats(const Params& params, std::int64_t begin, std::int64_t end) {
  // In 16 bits arithmetic is the limit. Making the sum twice costs more than it saves, as do, of
  // fp16 with its slow conversions, stores past the caches.
  const bool is_streamed = params.out != params.x && !std::is_same_v<Out, Float16>;
  const auto streaming =
      primitives::Streaming::of<typename Out::Storage>(is_streamed ? params.rows : 0, params.cols);
  if constexpr (std::is_same_v<X, Float32>) {
    if (params.residual != nullptr && params.sum != params.residual && streaming.is_on()) {
      return normalize_rows<X, Weight, Out, kIsRoundedFirst, true>(params, streaming, begin, end);
    }
  }
  normalize_rows<X, Weight, Out, kIsRoundedFirst, false>(params, streaming, begin, end);
}

/// `sums`: of grad_weight over these rows, empty where nobody asks for them.
template <class X, class Weight, class GradOut>
inline void differentiate_rows(const BackwardParams& params, std::int64_t begin, std::int64_t end,
                               simd::ChunkSums sums) {
  using Order = OrderOf<X, Weight, GradOut>;
  using Storage = typename X::Storage;
  using GradStorage = typename GradOut::Storage;
  const auto* weight = static_cast<const typename Weight::Storage*>(params.weight);
  const V offset = lanes_of_offset(params.offset);
  const std::int64_t cols = params.cols;
  const auto bytes = cols * static_cast<std::int64_t>(sizeof(GradStorage));  // of the wider one
  const bool has_sums = sums.totals != nullptr;
  const simd::PendingSums pending = sums.row();
  const bool has_grad_x = params.grad_x != nullptr;
  const auto streaming = primitives::Streaming::of<Storage>(has_grad_x ? params.rows : 0, cols);
  for (std::int64_t row = begin; row < end; ++row) {
    const auto* x = static_cast<const Storage*>(params.x) + row * params.x_stride;
    const auto* grad =
        static_cast<const GradStorage*>(params.grad_out) + row * params.grad_out_stride;
    const V scale = hn::Set(F32(), params.rstd[row]);
    if (!has_grad_x) {
      simd::for_each_part<X, Order>(cols, [&](auto part) {
        pending.add_product(part, part.template load<GradOut>(grad),
                            hn::Mul(part.template load<X>(x), scale));
      });
      sums.template end_row<Order>();
      continue;
    }
    const auto add = [&](auto part, V(&products)[1]) {
      const V g =
          hn::Mul(part.template load<GradOut>(grad), factor_of<Weight>(part, weight, offset));
      const V n = hn::Mul(part.template load<X>(x), scale);
      products[0] = hn::MulAdd(g, n, products[0]);
    };
    const double total = simd::folded_sums<1, Order>(cols, add).of[0];
    const V mean = hn::Set(F32(), static_cast<float>(total / static_cast<double>(cols)));
    auto* grad_x = static_cast<Storage*>(params.grad_x) + row * params.grad_x_stride;
    simd::RowWriter<X, Order> writer(grad_x, streaming.is_on(grad_x));
    // While results are computed and written, memory would idle, and the next row's first pass
    // wait.
    const bool has_next = row + 1 < end && bytes <= simd::kMostFetchedBytes;
    const Storage* next_x = has_next ? x + params.x_stride : x;
    const GradStorage* next_grad = has_next ? grad + params.grad_out_stride : grad;
    simd::for_each_part<X, Order>(cols, [&](auto part) {
      simd::fetch_columns(part, next_x);
      simd::fetch_columns(part, next_grad);
      const V go = part.template load<GradOut>(grad);
      const V n = hn::Mul(part.template load<X>(x), scale);
      pending.add_product(part, go, n);
      const V g = hn::Mul(go, factor_of<Weight>(part, weight, offset));
      const V value = hn::Mul(scale, hn::NegMulAdd(n, mean, g));
      writer.put(part, simd::storable<X, Weight, GradOut>(value));
    });
    if (has_sums) sums.template end_row<Order>();
  }
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
          return normalize_formats<X, Weight, Out, true>(params, begin, end);
        normalize_formats<X, Weight, Out, false>(params, begin, end);
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
