// SPDX-License-Identifier: Apache-2.0
// Adds up what the splits of the keys gave: out = sum_s w_s out_s, w_s = exp(lse_s - lse). fp32
// until the store; the sink of a head joins here.
// Source: T. Dao et al., "Flash-Decoding", 2023.
#pragma once

#include "flash_attention_cuda/forward_plan.h"
#include "flash_attention_cuda/softmax_rows.cuh"

namespace kernelhub::flash_attention::cuda {

constexpr int kCombineColumns = 4;

/// Threads that combine_columns is called for.
KERNELHUB_HOST_DEVICE inline std::int64_t combine_works(const ForwardCall& call) {
  return call.tokens * call.params.heads_q * (call.partial_pitch / kCombineColumns);
}

/// Four columns of one row of out, and with the first ones its lse.
template <class T, class Hw>
__device__ __forceinline__ void combine_columns(const ForwardCall& call, std::int64_t work) {
  const Params& params = call.params;
  const std::int64_t groups = call.partial_pitch / kCombineColumns;
  const std::int64_t rows = call.tokens * params.heads_q;
  const std::int64_t row = work / groups;
  const std::int64_t column = work % groups * kCombineColumns;
  const std::int64_t token = row / params.heads_q;
  const std::int64_t head = row % params.heads_q;

  // Weights relative to the largest share.
  float top2 = kMinusInf;
  for (std::int64_t split = 0; split < call.splits; ++split) {
    top2 = fmaxf(top2, call.partial_lse[split * rows + row] * kLog2E);
  }
  const float shift2 = top2 == kMinusInf ? 0.0f : top2;
  float total = 0.0f;
  float sums[kCombineColumns] = {};
  for (std::int64_t split = 0; split < call.splits; ++split) {
    const float weight = Hw::exp2(call.partial_lse[split * rows + row] * kLog2E - shift2);
    total += weight;
    const float* from = call.partial_out + (split * rows + row) * call.partial_pitch + column;
#pragma unroll
    for (int i = 0; i < kCombineColumns; ++i) sums[i] += weight * from[i];
  }
  const float sink2 = params.sinks != nullptr ? params.sinks[head] * kLog2E : kMinusInf;
  const RowResult result = finish_row<Hw>(shift2, total, sink2);

  const std::int64_t sequence = is_varlen(params) ? 0 : token / params.lengths.q;
  const std::int64_t query = is_varlen(params) ? token : token % params.lengths.q;
  T* out = static_cast<T*>(params.out) + sequence * params.out_strides.batch +
           query * params.out_strides.row + head * params.out_strides.head + column;
#pragma unroll
  for (int i = 0; i < kCombineColumns; ++i) {
    if (column + i < params.head_dim_v) out[i] = static_cast<T>(result.of(sums[i]));
  }
  if (column == 0) {
    params.lse[sequence * params.lse_batch_stride + head * params.lse_head_stride + query] =
        result.lse;
  }
}

}  // namespace kernelhub::flash_attention::cuda
