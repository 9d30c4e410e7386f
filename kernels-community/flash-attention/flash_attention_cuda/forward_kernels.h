// SPDX-License-Identifier: Apache-2.0
// The forward kernels of one dtype and padded head dimension, and the table of all of them.
#pragma once

#include <cuda_runtime_api.h>

#include "flash_attention_cuda/forward_plan.h"

namespace kernelhub::flash_attention::cuda {

struct ForwardKernel {
  TileShape tile;
  cudaError_t (*launch)(const ForwardCall& call, cudaStream_t stream);
};

struct ForwardKernels {
  ForwardKernel wide;    // prefill and training
  ForwardKernel narrow;  // decode: few query rows share a key head
};

/// A call and the kernel that it is for.
struct ForwardLaunch {
  ForwardKernel kernel;
  ForwardCall call;
};

/// A forward call, ready for the device that it was planned on.
struct Forward {
  cudaError_t status = cudaSuccess;  // of the plan; nothing is launched after a failure
  int count = 0;                     // of launches; none where out is empty
  ForwardLaunch launches[2]{};       // of one workspace
  const char* why_not_sm90 = "";     // null where an sm_90a kernel is launched, else in words
};

/// Which kernels attend to what. A sequence takes the narrow one where one of its row blocks holds
/// all its rows, whatever the batch around it is: the two add up in different orders. Of varlen
/// sequences only the device knows the rows, so that each kernel leaves out what is the other's.
inline Forward planned_launches(const ForwardKernels& kernels, const Params& params,
                                std::int64_t processors) {
  const std::int64_t narrow_rows = kernels.narrow.tile.rows;
  const ForwardKernel& usual = packed_rows(params) <= narrow_rows ? kernels.narrow : kernels.wide;
  const ForwardCall call = forward_call(params, usual.tile, processors);
  Forward forward;
  if (call.tokens == 0 || params.heads_q == 0) return forward;
  if (!is_varlen(params)) {
    forward.launches[forward.count++] = {usual, call};
    return forward;
  }
  if (params.total_q * (params.heads_q / params.heads_k) > narrow_rows) {
    forward.launches[forward.count++] = {
        kernels.wide, restricted(call, kernels.wide.tile.rows, narrow_rows + 1, kAnyRows)};
  }
  forward.launches[forward.count++] = {kernels.narrow,
                                       restricted(call, narrow_rows, 0, narrow_rows)};
  return forward;
}

inline std::int64_t workspace_bytes(const Forward& forward) {
  return forward.count == 0 ? 0 : workspace_bytes(forward.launches[0].call);
}

template <class Tile>
constexpr TileShape tile_shape() {
  return {Tile::kRows, Tile::kKeys, Tile::kBlocksPerSm};
}

extern const ForwardKernels kSm80Fp16Dim32, kSm80Fp16Dim64, kSm80Fp16Dim96, kSm80Fp16Dim128,
    kSm80Fp16Dim192, kSm80Fp16Dim256;
extern const ForwardKernels kSm80Bf16Dim32, kSm80Bf16Dim64, kSm80Bf16Dim96, kSm80Bf16Dim128,
    kSm80Bf16Dim192, kSm80Bf16Dim256;
// As the wide ones, for calls that why_not_sm90 lets through.
extern const ForwardKernel kSm90Fp16Dim64, kSm90Fp16Dim96, kSm90Fp16Dim128, kSm90Fp16Dim192V128,
    kSm90Fp16Dim192, kSm90Fp16Dim256;
extern const ForwardKernel kSm90Bf16Dim64, kSm90Bf16Dim96, kSm90Bf16Dim128, kSm90Bf16Dim192V128,
    kSm90Bf16Dim192, kSm90Bf16Dim256;

}  // namespace kernelhub::flash_attention::cuda
