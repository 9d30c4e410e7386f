// SPDX-License-Identifier: Apache-2.0
// New rows of a cache. Bound by memory: the baseline instruction set serves every CPU.
#define HWY_COMPILE_ONLY_STATIC
#include <algorithm>
#include <vector>

#include "flash_attention/sequence.h"
#include "flash_attention_cpu/attention_cpu.h"
#include "flash_attention_cpu/rows_simd.h"

namespace kernelhub::flash_attention::cpu {
namespace {

using HWY_NAMESPACE::rotate;
using HWY_NAMESPACE::store_row;
using HWY_NAMESPACE::widen;

template <class Format>
void append_k(const AppendParams& params, std::int64_t position,
              const typename Format::Storage* from, typename Format::Storage* to) {
  if (params.rotary.pairs == 0) {
    std::copy(from, from + params.head_dim, to);
    return;
  }
  alignas(64) float row[kMaxHeadDim];
  widen<Format>(from, params.head_dim, row);
  rotate(params.rotary, position, row);
  store_row<Format>(row, 1.0f, params.head_dim, to);
}

void append_k(const AppendParams& params, std::int64_t position, const double* from, double* to) {
  std::copy(from, from + params.head_dim, to);
  rotate_fp64(params.rotary, position, to);
}

/// Row `row` of the new ones of a sequence, all heads. `copy_k(position, from, to)` writes k.
template <class T, class CopyK>
void append_row(const AppendParams& params, std::int64_t sequence, std::int64_t row,
                const CopyK& copy_k) {
  const NewRowPlace place = new_row_place(params, sequence, row);
  const T* const k = static_cast<const T*>(params.k) + place.k;
  const T* const v = static_cast<const T*>(params.v) + place.v;
  T* const k_cache = static_cast<T*>(params.k_cache) + place.k_cache;
  T* const v_cache = static_cast<T*>(params.v_cache) + place.v_cache;
  for (std::int64_t head = 0; head < params.heads_k; ++head) {
    copy_k(place.position, k + head * params.k_strides.head,
           k_cache + head * params.k_cache_strides.head);
    const T* const from = v + head * params.v_strides.head;
    std::copy(from, from + params.head_dim_v, v_cache + head * params.v_cache_strides.head);
  }
}

template <class Format>
void append_format(const AppendParams& params, std::int64_t sequence, std::int64_t row) {
  using T = typename Format::Storage;
  append_row<T>(params, sequence, row, [&params](std::int64_t position, const T* from, T* to) {
    append_k<Format>(params, position, from, to);
  });
}

void append_any(const AppendParams& params, std::int64_t sequence, std::int64_t row) {
  switch (params.dtype) {
    case primitives::DType::kFloat64:
      return append_row<double>(params, sequence, row,
                                [&params](std::int64_t position, const double* from, double* to) {
                                  append_k(params, position, from, to);
                                });
    case primitives::DType::kFloat16:
      return append_format<HWY_NAMESPACE::simd::Float16>(params, sequence, row);
    case primitives::DType::kBFloat16:
      return append_format<HWY_NAMESPACE::simd::BFloat16>(params, sequence, row);
    default:
      return append_format<HWY_NAMESPACE::simd::Float32>(params, sequence, row);
  }
}

}  // namespace

void append(const AppendParams& params, const primitives::ParallelFor& parallel_for) {
  std::vector<std::int64_t> rows_before{0};
  for (std::int64_t b = 0; b < params.batch; ++b) {
    const std::int64_t rows =
        params.cu_k_new == nullptr ? params.new_rows : params.cu_k_new[b + 1] - params.cu_k_new[b];
    rows_before.push_back(rows_before.back() + rows);
  }
  const std::int64_t row_elements = params.heads_k * (params.head_dim + params.head_dim_v);
  const std::int64_t grain =
      1 + primitives::kElementsPerThread / std::max<std::int64_t>(1, row_elements);
  parallel_for(0, rows_before.back(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto after = std::upper_bound(rows_before.begin(), rows_before.end(), i);
      append_any(params, after - rows_before.begin() - 1, i - *(after - 1));
    }
  });
}

}  // namespace kernelhub::flash_attention::cpu
