// SPDX-License-Identifier: Apache-2.0
// The CUDA forward of flash-attention on the host: the kernels' own source, plan and combine step,
// with emulated instructions.
#include "warp_emulator.h"
#include "warpgroup_emulator.h"

#include <algorithm>
#include <type_traits>

#include "flash_attention_cuda/append_rows.cuh"
#include "flash_attention_cuda/combine.cuh"
#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/sm80_forward.cuh"
#include "flash_attention_cuda/sm90_forward.cuh"
#include "flash_attention_cuda/sm90_plan.h"

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

/// Calls `visit(tile)` with the sm_90a tile of a call; false where there is none.
template <class Visit>
bool with_sm90_tile(const Params& params, const Visit& visit) {
  using cuda::Sm90Tile;
  using cuda::WarpgroupTileFor;
  switch (cuda::sm90_tile(params.head_dim, params.head_dim_v)) {
    case Sm90Tile::kDim64:
      return visit(WarpgroupTileFor<Sm90Tile::kDim64>::Tile{}), true;
    case Sm90Tile::kDim96:
      return visit(WarpgroupTileFor<Sm90Tile::kDim96>::Tile{}), true;
    case Sm90Tile::kDim128:
      return visit(WarpgroupTileFor<Sm90Tile::kDim128>::Tile{}), true;
    case Sm90Tile::kDim192V128:
      return visit(WarpgroupTileFor<Sm90Tile::kDim192V128>::Tile{}), true;
    case Sm90Tile::kDim192:
      return visit(WarpgroupTileFor<Sm90Tile::kDim192>::Tile{}), true;
    case Sm90Tile::kDim256:
      return visit(WarpgroupTileFor<Sm90Tile::kDim256>::Tile{}), true;
    case Sm90Tile::kNone:
      break;
  }
  return false;
}

template <class T, class Tile>
void run_warpgroups(const cuda::ForwardCall& call, std::int64_t processors, std::uint32_t seed) {
  using Kernel = cuda::WarpgroupForward<T, Tile, emulation::EmulatedSm90Instructions>;
  const cuda::BoxedCall boxed = cuda::boxed_call(call, Tile::kPanelCols, Tile::kKeys);
  const cuda::Sm90Call<cuda::BoxedTensor> one{call, boxed.q, boxed.k, boxed.v};
  emulation::WarpgroupBlock block(Tile::kThreads, cuda::kWarpgroupSharedBytes<Tile>, seed);
  const int blocks = static_cast<int>(std::min(cuda::block_works(call), processors));
  for (int b = 0; b < blocks; ++b) {
    block.run([&](unsigned char* shared) { Kernel(one, shared).run(b, blocks); });
  }
}

template <int kDim>
cuda::Forward planned(const Params& params, const cuda::Device& device) {
  using Wide = typename cuda::TilesFor<kDim>::Wide;
  using Narrow = typename cuda::TilesFor<kDim>::Narrow;
  cuda::ForwardKernel sm90{{0, 0, 1}, nullptr};
  const bool has_sm90 = with_sm90_tile(params, [&](auto tile) { sm90.tile.keys = tile.kKeys; });
  const cuda::ForwardKernels kernels{{cuda::tile_shape<Wide>(), nullptr},
                                     {cuda::tile_shape<Narrow>(), nullptr}};
  return cuda::planned_launches(kernels, has_sm90 ? &sm90 : nullptr, params, device);
}

template <class T, int kDim>
std::int64_t run_dim(const Params& params, const cuda::Device& device, std::uint32_t seed) {
  using Wide = typename cuda::TilesFor<kDim>::Wide;
  using Narrow = typename cuda::TilesFor<kDim>::Narrow;
  const cuda::Forward forward = planned<kDim>(params, device);
  std::vector<float> workspace(static_cast<std::size_t>(cuda::workspace_bytes(forward)) / 4, NAN);
  for (int i = 0; i < forward.count; ++i) {
    const cuda::ForwardCall call = cuda::with_workspace(forward.launches[i].call, workspace.data());
    if (call.works_taken != nullptr) *call.works_taken = 0;
    if (forward.launches[i].kernel.tile.rows == Narrow::kRows) {
      run_tiles<T, Narrow>(call, seed);
    } else if (forward.why_not_sm90 == nullptr) {
      with_sm90_tile(params, [&](auto tile) {
        run_warpgroups<T, decltype(tile)>(call, device.processors, seed);
      });
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

/// Calls `visit` with the padded head dimension of a call as a constant.
template <class Visit>
auto with_padded_dim(const Params& params, const Visit& visit) {
  switch (cuda::padded_dim(static_cast<int>(std::max(params.head_dim, params.head_dim_v)))) {
    case 32:
      return visit(std::integral_constant<int, 32>{});
    case 64:
      return visit(std::integral_constant<int, 64>{});
    case 96:
      return visit(std::integral_constant<int, 96>{});
    case 128:
      return visit(std::integral_constant<int, 128>{});
    case 192:
      return visit(std::integral_constant<int, 192>{});
    default:
      return visit(std::integral_constant<int, 256>{});
  }
}

template <class T>
std::int64_t run(const Params& params, const cuda::Device& device, std::uint32_t seed) {
  return with_padded_dim(params, [&](auto dim) { return run_dim<T, dim>(params, device, seed); });
}

}  // namespace

/// The splits that were used.
extern "C" std::int64_t emulate_forward(const Params* params, int capability,
                                        std::int64_t processors, bool encodes_tensor_maps,
                                        std::uint32_t seed) {
  const cuda::Device device{capability, processors, encodes_tensor_maps};
  return params->dtype == kernelhub::primitives::DType::kFloat16
             ? run<__half>(*params, device, seed)
             : run<__nv_bfloat16>(*params, device, seed);
}

/// Null where an sm_90a kernel is chosen.
extern "C" const char* emulate_why_not_sm90(const Params* params, int capability,
                                            std::int64_t processors, bool encodes_tensor_maps) {
  const cuda::Device device{capability, processors, encodes_tensor_maps};
  return with_padded_dim(*params, [&](auto dim) { return planned<dim>(*params, device); })
      .why_not_sm90;
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
