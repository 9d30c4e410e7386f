// SPDX-License-Identifier: Apache-2.0
// The kernel of one tile shape and its launch. The translation units sm90_forward_*.cu make
// ForwardKernels from it.
#pragma once

#include <type_traits>

#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/launch_grid.cuh"
#include "flash_attention_cuda/sm90_forward.cuh"
#include "flash_attention_cuda/sm90_instructions.cuh"
#include "flash_attention_cuda/sm90_plan.h"
#include "flash_attention_cuda/tensor_map.h"

namespace kernelhub::flash_attention::cuda {

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    sm90_forward_kernel(const __grid_constant__ Sm90Call<CUtensorMap> call) {
  extern __shared__ __align__(128) unsigned char shared[];
  WarpgroupForward<T, Tile, Sm90Instructions>(call, shared)
      .run(static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
}

/// One resident block per multiprocessor of the current device.
template <class T, class Tile>
cudaError_t launch_sm90_forward(const ForwardCall& call, cudaStream_t stream) {
  constexpr bool kIsHalf = std::is_same_v<T, __half>;
  constexpr int kSharedBytes = kWarpgroupSharedBytes<Tile>;
  const auto kernel = sm90_forward_kernel<T, Tile>;
  Sm90Call<CUtensorMap> one{};
  one.call = call;
  int device = 0;
  int processors = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (status != cudaSuccess) return status;
  // Before the maps: the first call of the runtime about a kernel binds the device's context to a
  // thread that has none, and the driver encodes in a context only.
  status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (status != cudaSuccess) return status;
  const BoxedCall boxed = boxed_call(call, Tile::kPanelCols, Tile::kKeys);
  status = encode(boxed.q, kIsHalf, one.q);
  if (status != cudaSuccess) return status;
  status = encode(boxed.k, kIsHalf, one.k);
  if (status != cudaSuccess) return status;
  status = encode(boxed.v, kIsHalf, one.v);
  if (status != cudaSuccess) return status;
  const std::int64_t blocks = std::min<std::int64_t>(block_works(call), processors);
  return launch_grid(kernel, static_cast<unsigned>(blocks), Tile::kThreads, kSharedBytes, stream,
                     one);
}

/// `tile.rows` is the most; a call has as many as hold whole tokens.
template <class T, Sm90Tile kTile>
constexpr ForwardKernel sm90_forward_kernel_of() {
  using Tile = typename WarpgroupTileFor<kTile>::Tile;
  return {{kConsumers * kWarpgroupRows, Tile::kKeys, 1}, &launch_sm90_forward<T, Tile>};
}

}  // namespace kernelhub::flash_attention::cuda
