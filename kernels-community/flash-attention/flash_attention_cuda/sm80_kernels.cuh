// SPDX-License-Identifier: Apache-2.0
// The kernel of one tile shape and its launch. The heavy translation units make ForwardKernels from
// it (sm80_forward_*.cu).
#pragma once

#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/launch_grid.cuh"
#include "flash_attention_cuda/sm80_forward.cuh"
#include "flash_attention_cuda/sm80_instructions.cuh"

namespace kernelhub::flash_attention::cuda {

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    sm80_forward_kernel(const __grid_constant__ ForwardCall call, std::int64_t first_work) {
  extern __shared__ __align__(128) unsigned char shared[];
  ForwardBlock<T, Tile, Sm80Instructions>(call, shared).run(first_work + blockIdx.x);
}

template <class T, class Tile>
cudaError_t launch_sm80_forward(const ForwardCall& call, cudaStream_t stream) {
  const auto kernel = sm80_forward_kernel<T, Tile>;
  cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kSharedBytes);
  // Without room for pages two wide blocks of 64 columns share the 100 KiB of sm_86 and sm_89.
  const bool is_paged = call.params.lengths.block_table != nullptr;
  const int bytes = Tile::kSharedBytes - (is_paged ? 0 : Tile::kOffsetBytes);
  const std::int64_t works = block_works(call);
  for (std::int64_t first = 0; first < works && status == cudaSuccess; first += kMaxGrid) {
    const unsigned blocks = static_cast<unsigned>(std::min(works - first, kMaxGrid));
    status = launch_grid(kernel, blocks, Tile::kThreads, bytes, stream, call, first);
  }
  return status;
}

template <class T, int kDim>
constexpr ForwardKernels sm80_forward_kernels() {
  using Wide = typename TilesFor<kDim>::Wide;
  using Narrow = typename TilesFor<kDim>::Narrow;
  return {{tile_shape<Wide>(), &launch_sm80_forward<T, Wide>},
          {tile_shape<Narrow>(), &launch_sm80_forward<T, Narrow>}};
}

}  // namespace kernelhub::flash_attention::cuda
