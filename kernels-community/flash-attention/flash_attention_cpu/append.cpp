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

constexpr std::int64_t kMaxHeadDim = 256;

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
  const Rotary& rotary = params.rotary;
  const double* cos = static_cast<const double*>(rotary.cos) + position * rotary.row_stride;
  const double* sin = static_cast<const double*>(rotary.sin) + position * rotary.row_stride;
  for (std::int64_t i = 0; i < rotary.pairs; ++i) {
    double& first = to[rotary.is_interleaved ? 2 * i : i];
    double& second = to[rotary.is_interleaved ? 2 * i + 1 : i + rotary.pairs];
    const double x = first;
    const double y = second;
    first = x * cos[i] - y * sin[i];
    second = x * sin[i] + y * cos[i];
  }
}

/// Row `row` of the new ones of a sequence, all heads. `copy(position, from, to)` writes k.
template <class T, class CopyK>
void append_row(const AppendParams& params, std::int64_t sequence, std::int64_t row,
                const CopyK& copy_k) {
  const bool is_varlen = params.cu_k_new != nullptr;
  const std::int64_t from_batch = is_varlen ? 0 : sequence;
  const std::int64_t from_row = row + (is_varlen ? params.cu_k_new[sequence] : 0);
  const std::int64_t cache_row = params.cache_seqlens[sequence] + row;
  const std::int64_t batch =
      params.cache_batch != nullptr ? params.cache_batch[sequence] : sequence;
  const std::int32_t* const table =
      params.block_table == nullptr ? nullptr : params.block_table + sequence * params.table_stride;
  const std::int64_t position =
      params.rotary.pairs > 0 ? params.rotary.first_positions[sequence] + row : 0;
  const auto start = [&](const void* base, const Strides& strides) {
    return static_cast<const T*>(base) + from_batch * strides.batch + from_row * strides.row;
  };
  const auto target = [&](void* base, const Strides& strides) {
    return static_cast<T*>(base) + cache_offset(table, params.page_size, strides, batch, cache_row);
  };
  const T* const k = start(params.k, params.k_strides);
  const T* const v = start(params.v, params.v_strides);
  T* const k_cache = target(params.k_cache, params.k_cache_strides);
  T* const v_cache = target(params.v_cache, params.v_cache_strides);
  for (std::int64_t head = 0; head < params.heads_k; ++head) {
    copy_k(position, k + head * params.k_strides.head,
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
