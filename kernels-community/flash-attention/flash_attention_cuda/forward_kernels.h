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

/// The kernel for a call: narrow where one of its row blocks holds all rows of a sequence.
inline const ForwardKernel& kernel_for(const ForwardKernels& kernels, const Params& params) {
  return packed_rows(params) <= kernels.narrow.tile.rows ? kernels.narrow : kernels.wide;
}

template <class Tile>
constexpr TileShape tile_shape() {
  return {Tile::kRows, Tile::kKeys, Tile::kBlocksPerSm};
}

extern const ForwardKernels kSm80Fp16Dim32, kSm80Fp16Dim64, kSm80Fp16Dim96, kSm80Fp16Dim128,
    kSm80Fp16Dim192, kSm80Fp16Dim256;
extern const ForwardKernels kSm80Bf16Dim32, kSm80Bf16Dim64, kSm80Bf16Dim96, kSm80Bf16Dim128,
    kSm80Bf16Dim192, kSm80Bf16Dim256;

}  // namespace kernelhub::flash_attention::cuda
