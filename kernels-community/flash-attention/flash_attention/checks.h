// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "flash_attention/params.h"
#include "primitives/tensor_check.h"

namespace kernelhub::flash_attention {

using OptionalArg = std::optional<primitives::TensorArg>;

/// Arguments of `attention_forward` as a binding received them.
struct ForwardArguments {
  primitives::TensorArg out;  // [batch, rows, heads_q, dim_v], varlen [total, heads_q, dim_v]
  primitives::TensorArg lse;  // fp32 [batch, heads_q, rows], varlen [heads_q, total]
  primitives::TensorArg q;    // as out, with dim
  primitives::TensorArg
      k;  // [batch, rows, heads_k, dim], varlen without batch, paged [page, row, ...]
  primitives::TensorArg v;
  OptionalArg cu_seqlens_q;     // int32 [batch + 1]
  OptionalArg cu_seqlens_k;     // int32 [batch + 1]
  OptionalArg seqused_q;        // int32 [batch]
  OptionalArg seqused_k;        // int32 [batch]
  OptionalArg leftpad_k;        // int32 [batch]
  OptionalArg block_table;      // int32 [batch, pages]
  OptionalArg cache_batch_idx;  // int32 [batch]
  OptionalArg alibi_slopes;     // fp32 [heads_q] or [batch, heads_q]
  OptionalArg s_aux;            // fp32 [heads_q]
  OptionalArg rotary_cos;       // [positions, pairs], dtype of q or fp32
  OptionalArg rotary_sin;
  OptionalArg rotary_seqlens;  // int32 [batch], position of a sequence's first query
  double softmax_scale;
  bool causal;
  std::int64_t window_left;
  std::int64_t window_right;
  double softcap;
  bool rotary_interleaved;
  std::int64_t num_splits;
};

/// Arguments of `append_kv`, and what `attention_with_cache` has beyond `attention_forward`.
struct AppendArguments {
  primitives::TensorArg k_cache;
  primitives::TensorArg v_cache;
  primitives::TensorArg k;  // [batch, rows, heads_k, dim], varlen [total, heads_k, dim]
  primitives::TensorArg v;
  primitives::TensorArg cache_seqlens;  // int32 [batch]
  OptionalArg cu_seqlens_k_new;         // int32 [batch + 1]
  OptionalArg block_table;
  OptionalArg cache_batch_idx;
  OptionalArg rotary_cos;
  OptionalArg rotary_sin;
  OptionalArg rotary_seqlens;  // int32 [batch], position of a sequence's first new row
  bool rotary_interleaved;
};

/// A call that appends to a cache and then attends over it.
struct CacheParams {
  AppendParams append;
  Params forward;
};

/// Checks every argument and describes the call to compute code. Integer tensors on the host are
/// read; what they hold on a device is the caller's promise, for reading it would wait for the
/// device. Throws std::runtime_error "<package>.attention_forward: ...".
Params checked_forward(const ForwardArguments& arguments);

/// The same for "<package>.append_kv: ...".
AppendParams checked_append(const AppendArguments& arguments);

/// The same for "<package>.attention_with_cache: ...", all of it before anything is written. `k`
/// and `v` of `forward` are the caches of `append`, and it has `seqused_k`, the rows that they have
/// afterwards.
CacheParams checked_cache(const AppendArguments& append, ForwardArguments forward);

}  // namespace kernelhub::flash_attention
