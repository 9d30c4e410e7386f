// SPDX-License-Identifier: Apache-2.0
// Attention in fp32 on Highway lanes; the includer's flags choose the instruction set. Products of
// bf16 are exact in fp32: every dtype is widened when it is loaded. Sequences of a few rows have a
// file of their own, few_rows_simd.h.
#pragma once

#include "flash_attention_cpu/blocks_simd.h"
#include "flash_attention_cpu/few_rows_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

// --------------------------------------------------------- operands that were widened to fp32

/// fp32 weights in place of the scores; the queries hold the factor already.
struct WideWeights {
  static HWY_INLINE V score(V product, V) { return product; }
  static HWY_INLINE V below(V score, V, V offset) { return hn::Sub(score, offset); }

  static HWY_INLINE void store(V first, V second, std::int64_t key, float* column) {
    hn::Store(first, F32(), column + key * kBlockRows);
    hn::Store(second, F32(), column + (key + 1) * kBlockRows);
  }

  static float at(const Scratch& s, std::int64_t key, std::int64_t row) {
    return s.scores[key * kBlockRows + row];
  }
};

template <class StorageFormat>
struct WideOperands {
  using Format = StorageFormat;
  using Weights = WideWeights;

  static ScoreRule rule(const Params& params) { return score_rule(params); }

  static void load_queries(const Params& params, const Piece& rows, const Scratch& s) {
    for (std::int64_t i = 0; i < params.head_dim * kBlockRows; ++i) s.q[i] = 0.0f;
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      if (s.end[r] == 0.0f) continue;  // sees nothing; may be no query at all
      load_query<Format>(params, rows, r, s.k);
      for (std::int64_t i = 0; i < params.head_dim; ++i) s.q[i * kBlockRows + r] = s.k[i];
    }
  }

  static void load_tile(const Params& params, const Piece& piece, std::int64_t tile,
                        std::int64_t keys, const Scratch& s) {
    const auto load = [&](const void* base, const Strides& strides, std::int64_t dim,
                          std::int64_t pitch, float* to) HWY_ATTR {
      const auto* rows = static_cast<const typename Format::Storage*>(base);
      for (std::int64_t j = 0; j < keys; ++j) {
        widen<Format>(rows + key_element(params, piece, strides, tile + j), dim, to + j * pitch);
      }
    };
    load(params.k, params.k_strides, params.head_dim, params.head_dim, s.k);
    load(params.v, params.v_strides, params.head_dim_v, value_pitch(params.head_dim_v), s.v);
  }

  static HWY_NOINLINE KeyList without_odd_values(const Params& params, const Piece&, std::int64_t,
                                                 std::int64_t keys, const Scratch& s) {
    const std::int64_t dim = params.head_dim_v;
    const std::int64_t pitch = value_pitch(dim);
    KeyList odd;
    odd.count = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      if (is_finite<simd::Float32>(s.v + j * pitch, dim)) continue;
      odd.key[odd.count++] = j;
      for (std::int64_t i = 0; i < dim; ++i) s.v[j * pitch + i] = 0.0f;
    }
    return odd;
  }

  static void multiply_keys(const Params& params, std::int64_t keys, std::int64_t rows,
                            const Scratch& s) {
    const std::int64_t dim = params.head_dim;
    product<Fp32Arithmetic>({s.k, dim, 1, keys, dim, s.q, s.scores, nullptr}, rows);
  }

  static void multiply_values(const Params& params, std::int64_t keys, std::int64_t rows,
                              const Scratch& s) {
    const std::int64_t dim = params.head_dim_v;
    product<Fp32Arithmetic>({s.v, 1, value_pitch(dim), dim, keys, s.scores, s.values, s.correction},
                            rows);
  }
};

// ------------------------------------------------------------------- a piece, start to end

template <class Format>
inline void attend_format(const Params& params, const Piece& piece, float* scratch,
                          const Partial& result) {
  // By the rows of the sequence, not of the piece: a row's result depends on its sequence only.
  const std::int64_t rows = piece.sequence.q_allocated * (params.heads_q / params.heads_k);
  if (rows > kFewRows) return attend_blocks<WideOperands<Format>>(params, piece, scratch, result);
  switch (padded_few(rows)) {
    case 1:
      return attend_few<Format, 1>(params, piece, scratch, result);
    case 2:
      return attend_few<Format, 2>(params, piece, scratch, result);
    case 4:
      return attend_few<Format, 4>(params, piece, scratch, result);
    default:
      return attend_few<Format, kFewRows>(params, piece, scratch, result);
  }
}

inline void attend(const Params& params, const Piece& piece, float* scratch,
                   const Partial& result) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return attend_format<simd::Float16>(params, piece, scratch, result);
    case primitives::DType::kBFloat16:
      return attend_format<simd::BFloat16>(params, piece, scratch, result);
    default:
      return attend_format<simd::Float32>(params, piece, scratch, result);
  }
}

template <class Format>
inline void finish_format(const Params& params, const Piece& piece, const Partial& result) {
  using T = typename Format::Storage;
  for (std::int64_t r = 0; r < piece.rows; ++r) {
    const RowOf row = row_of(params, piece, r);
    T* const to = static_cast<T*>(params.out) + element_of(params.out_strides, piece.sequence, row);
    float* const lse = lse_of(params, piece.sequence, row);
    if (result.sum[r] == 0.0f) {  // not by the largest score: a NaN among them is none
      for (std::int64_t i = 0; i < params.head_dim_v; ++i) to[i] = T{};
      *lse = kMinusInfinity;
      continue;
    }
    float weight = 1.0f;  // of what was summed, next to the sink
    float sum = result.sum[r];
    float largest = result.largest[r];
    if (params.sinks != nullptr) {
      const float sink = params.sinks[row.head] * static_cast<float>(kLog2E);
      if (sink > largest) {
        weight = exp2_of_negative(largest - sink);
        largest = sink;
        sum = sum * weight + 1.0f;
      } else {
        sum += exp2_of_negative(sink - largest);
      }
    }
    store_row<Format>(result.values + r * params.head_dim_v, weight / sum, params.head_dim_v, to);
    *lse = static_cast<float>((static_cast<double>(largest) + std::log2(sum)) / kLog2E);
  }
}

inline void finish(const Params& params, const Piece& piece, const Partial& result) {
  switch (params.dtype) {
    case primitives::DType::kFloat16:
      return finish_format<simd::Float16>(params, piece, result);
    case primitives::DType::kBFloat16:
      return finish_format<simd::BFloat16>(params, piece, result);
    default:
      return finish_format<simd::Float32>(params, piece, result);
  }
}

}  // namespace
}  // namespace kernelhub::flash_attention::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
