// SPDX-License-Identifier: Apache-2.0
// The CUDA forward of flash-attention on the host: the kernel's own source, plan and combine step,
// with emulated instructions.
#include "warp_emulator.h"

#include <algorithm>
#include <type_traits>

#include "flash_attention_cuda/append_rows.cuh"
#include "flash_attention_cuda/combine.cuh"
#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/sm80_forward.cuh"

namespace cuda = kernelhub::flash_attention::cuda;
namespace emulation = kernelhub::emulation;

namespace {

using kernelhub::flash_attention::Params;
using Hw = emulation::EmulatedInstructions;

template <class T, class Tile>
void run_tiles(const cuda::ForwardCall& call, std::uint32_t seed) {
  emulation::Block block(Tile::kThreads, Tile::kSharedBytes, seed);
  const std::int64_t works = cuda::block_works(call);
  for (std::int64_t work = 0; work < works; ++work) {
    block.run(
        [&](unsigned char* shared) { cuda::ForwardBlock<T, Tile, Hw>(call, shared).run(work); });
  }
}

template <class T, int kDim>
std::int64_t run_dim(const Params& params, std::int64_t processors, std::uint32_t seed) {
  using Wide = typename cuda::TilesFor<kDim>::Wide;
  using Narrow = typename cuda::TilesFor<kDim>::Narrow;
  const cuda::ForwardKernels kernels{{cuda::tile_shape<Wide>(), nullptr},
                                     {cuda::tile_shape<Narrow>(), nullptr}};
  const cuda::Forward forward = cuda::planned_launches(kernels, params, processors);
  std::vector<float> workspace(static_cast<std::size_t>(cuda::workspace_bytes(forward)) / 4, NAN);
  for (int i = 0; i < forward.count; ++i) {
    const cuda::ForwardCall call = cuda::with_workspace(forward.launches[i].call, workspace.data());
    if (forward.launches[i].kernel == &kernels.narrow) {
      run_tiles<T, Narrow>(call, seed);
    } else {
      run_tiles<T, Wide>(call, seed);
    }
  }
  if (forward.count == 0) return 1;
  const cuda::ForwardCall call = cuda::with_workspace(forward.launches[0].call, workspace.data());
  for (std::int64_t work = 0; call.splits > 1 && work < cuda::combine_works(call); ++work) {
    cuda::combine_columns<T, Hw>(call, work);
  }
  return call.splits;
}

template <class T>
std::int64_t run(const Params& params, std::int64_t processors, std::uint32_t seed) {
  switch (cuda::padded_dim(static_cast<int>(std::max(params.head_dim, params.head_dim_v)))) {
    case 32:
      return run_dim<T, 32>(params, processors, seed);
    case 64:
      return run_dim<T, 64>(params, processors, seed);
    case 96:
      return run_dim<T, 96>(params, processors, seed);
    case 128:
      return run_dim<T, 128>(params, processors, seed);
    case 192:
      return run_dim<T, 192>(params, processors, seed);
    default:
      return run_dim<T, 256>(params, processors, seed);
  }
}

}  // namespace

/// The splits that were used.
extern "C" std::int64_t emulate_forward(const Params* params, std::int64_t processors,
                                        std::uint32_t seed) {
  return params->dtype == kernelhub::primitives::DType::kFloat16
             ? run<__half>(*params, processors, seed)
             : run<__nv_bfloat16>(*params, processors, seed);
}

extern "C" void emulate_append(const kernelhub::flash_attention::AppendParams* params) {
  for (std::int64_t work = 0; work < cuda::append_works(*params); ++work) {
    if (params->dtype == kernelhub::primitives::DType::kFloat16) {
      cuda::append_element<__half>(*params, work);
    } else {
      cuda::append_element<__nv_bfloat16>(*params, work);
    }
  }
}
