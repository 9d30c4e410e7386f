// SPDX-License-Identifier: Apache-2.0
// The arguments of the ops with their names, whatever tensors a binding has: its `describe` turns a
// name and a tensor into a TensorArg, and a tensor that may be absent into an OptionalArg.
#pragma once

#include "flash_attention/checks.h"

namespace kernelhub::flash_attention {

/// What decides about scores and splits, in the order of the schemas.
struct Numbers {
  double softmax_scale;
  bool causal;
  std::int64_t window_left;
  std::int64_t window_right;
  double softcap;
  bool rotary_interleaved;
  std::int64_t num_splits;
};

template <class Describe, class Tensor, class Optional>
ForwardArguments forward_arguments(const Describe& describe, const Tensor& out, const Tensor& lse,
                                   const Tensor& q, const Tensor& k, const Tensor& v,
                                   const Optional& cu_seqlens_q, const Optional& cu_seqlens_k,
                                   const Optional& seqused_q, const Optional& seqused_k,
                                   const Optional& leftpad_k, const Optional& block_table,
                                   const Optional& cache_batch_idx, const Optional& alibi_slopes,
                                   const Optional& s_aux, const Optional& rotary_cos,
                                   const Optional& rotary_sin, const Optional& rotary_seqlens,
                                   const Numbers& numbers) {
  return {describe("out", out),
          describe("lse", lse),
          describe("q", q),
          describe("k", k),
          describe("v", v),
          describe("cu_seqlens_q", cu_seqlens_q),
          describe("cu_seqlens_k", cu_seqlens_k),
          describe("seqused_q", seqused_q),
          describe("seqused_k", seqused_k),
          describe("leftpad_k", leftpad_k),
          describe("block_table", block_table),
          describe("cache_batch_idx", cache_batch_idx),
          describe("alibi_slopes", alibi_slopes),
          describe("s_aux", s_aux),
          describe("rotary_cos", rotary_cos),
          describe("rotary_sin", rotary_sin),
          describe("rotary_seqlens", rotary_seqlens),
          numbers.softmax_scale,
          numbers.causal,
          numbers.window_left,
          numbers.window_right,
          numbers.softcap,
          numbers.rotary_interleaved,
          numbers.num_splits};
}

template <class Describe, class Tensor, class Optional>
AppendArguments append_arguments(const Describe& describe, const Tensor& k_cache,
                                 const Tensor& v_cache, const Tensor& k, const Tensor& v,
                                 const Tensor& cache_seqlens, const Optional& cu_seqlens_k_new,
                                 const Optional& block_table, const Optional& cache_batch_idx,
                                 const Optional& rotary_cos, const Optional& rotary_sin,
                                 const Optional& rotary_seqlens, bool rotary_interleaved) {
  return {describe("k_cache", k_cache),
          describe("v_cache", v_cache),
          describe("k", k),
          describe("v", v),
          describe("cache_seqlens", cache_seqlens),
          describe("cu_seqlens_k_new", cu_seqlens_k_new),
          describe("block_table", block_table),
          describe("cache_batch_idx", cache_batch_idx),
          describe("rotary_cos", rotary_cos),
          describe("rotary_sin", rotary_sin),
          describe("rotary_seqlens", rotary_seqlens),
          rotary_interleaved};
}

}  // namespace kernelhub::flash_attention
