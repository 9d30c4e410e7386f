// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "primitives/dtype.h"

namespace kernelhub::flash_attention {

/// Largest dimension of a head, of q and k as of v.
constexpr std::int64_t kMaxHeadDim = 256;

/// Distances in elements of a tensor [batch, row, head, dim] whose last stride is 1. Varlen tensors
/// have one batch entry; of a paged cache `batch` goes from page to page.
struct Strides {
  std::int64_t batch;
  std::int64_t row;
  std::int64_t head;
};

/// Rotation of dimension pairs by angles that grow with the position. `pairs` = 0: no rotation.
struct Rotary {
  const void* cos;  // [positions, pairs]
  const void* sin;
  primitives::DType dtype;  // of cos and sin
  std::int64_t positions;   // rows of both
  std::int64_t row_stride;  // elements from one position to the next
  std::int64_t pairs;
  const std::int32_t* first_positions;  // [batch], position of the first row of a sequence
  bool is_interleaved;                  // pairs (2i, 2i + 1), else (i, i + pairs)
  bool advances;                        // row i lies at first + i, else all rows at first
};

/// How many rows a sequence has and where they are: see sequence_of.
struct Lengths {
  std::int64_t q;                   // rows of a dense q
  std::int64_t k;                   // rows of a dense k or v
  const std::int32_t* cu_q;         // [batch + 1], or null: dense
  const std::int32_t* cu_k;         // [batch + 1], or null: dense or paged
  const std::int32_t* used_q;       // [batch], or null: all
  const std::int32_t* used_k;       // [batch], or null: all
  const std::int32_t* leftpad_k;    // [batch], or null: none
  const std::int32_t* cache_batch;  // [batch], or null: the sequence's own entry of k and v
  const std::int32_t* block_table;  // [batch, table_stride], or null: not paged
  std::int64_t table_stride;
  std::int64_t page_size;
};

/// One forward call, already checked. All tensors but the fp32 ones have one dtype.
struct Params {
  primitives::DType dtype;
  const void* q;  // [batch, row, heads_q, head_dim]
  const void* k;  // [batch, row, heads_k, head_dim]
  const void* v;  // [batch, row, heads_k, head_dim_v]
  void* out;      // [batch, row, heads_q, head_dim_v]
  float* lse;     // natural logarithm of the softmax denominator, -inf where no key is visible
  Strides q_strides;
  Strides k_strides;
  Strides v_strides;
  Strides out_strides;
  std::int64_t lse_batch_stride;  // rows are adjacent
  std::int64_t lse_head_stride;
  std::int64_t batch;
  std::int64_t heads_q;  // a multiple of heads_k
  std::int64_t heads_k;
  std::int64_t head_dim;
  std::int64_t head_dim_v;
  std::int64_t total_q;  // rows of a varlen out
  std::int64_t total_k;  // rows of a varlen k
  Lengths lengths;
  Rotary rotary;              // of q
  const float* alibi_slopes;  // [batch or 1, heads_q], or null
  std::int64_t alibi_batch_stride;
  const float* sinks;  // [heads_q], logits that join the denominator only, or null
  double scale;
  double softcap;             // 0: none
  std::int64_t window_left;   // -1: unlimited
  std::int64_t window_right;  // -1: unlimited; causal is 0
  std::int64_t num_splits;    // 0: as the backend chooses
};

/// New rows of a key-value cache, already checked.
struct AppendParams {
  primitives::DType dtype;
  void* k_cache;  // [batch or page, row, heads_k, head_dim]
  void* v_cache;
  const void* k;  // [batch, row, heads_k, head_dim]
  const void* v;
  Strides k_cache_strides;
  Strides v_cache_strides;
  Strides k_strides;
  Strides v_strides;
  std::int64_t batch;
  std::int64_t heads_k;
  std::int64_t head_dim;
  std::int64_t head_dim_v;
  std::int64_t new_rows;              // of a dense k
  std::int64_t total_new_rows;        // of a varlen k
  std::int64_t cache_entries;         // sequences or pages that the cache has
  std::int64_t cache_rows;            // that the cache of a sequence has
  const std::int32_t* cu_k_new;       // [batch + 1], or null: dense
  const std::int32_t* cache_seqlens;  // [batch], rows that are there already
  const std::int32_t* cache_batch;    // [batch], or null
  const std::int32_t* block_table;    // or null
  std::int64_t table_stride;
  std::int64_t page_size;
  Rotary rotary;  // of k
};

}  // namespace kernelhub::flash_attention
