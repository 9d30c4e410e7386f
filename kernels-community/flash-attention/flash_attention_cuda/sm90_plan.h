// SPDX-License-Identifier: Apache-2.0
// Which calls the sm_90a kernel takes, how it cuts them, and the tensors that it copies in boxes.
// Decided from sizes on the host; pure arithmetic, testable on any host.
#pragma once

#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/sm90_layout.h"
#include "flash_attention_cuda/sm90_tiles.h"

namespace kernelhub::flash_attention::cuda {

/// The device that a call is planned for.
struct Device {
  int capability;  // 90 for 9.0
  std::int64_t processors;
  bool encodes_tensor_maps;  // its driver, which the sm_90a kernel needs
};

/// Packed rows of a block: whole tokens with all heads of a group, so that one box holds the rows
/// of a warpgroup.
inline std::int64_t sm90_tile_rows(const Params& params) {
  const std::int64_t group = params.heads_q / params.heads_k;
  return kConsumers * (kWarpgroupRows / group * group);
}

// A batch that repeats one entry (stride 0) is one entry to TMA, which the kernel knows: whether a
// sequence goes to the sm_90a kernel must not depend on the batch around it.

inline BoxedTensor boxed_q(const ForwardCall& call, int panel_cols) {
  const Params& params = call.params;
  const std::int64_t group = params.heads_q / params.heads_k;
  const std::int64_t rows = is_varlen(params) ? params.total_q : params.lengths.q;
  const std::int64_t batch = is_varlen(params) || params.q_strides.batch == 0 ? 1 : params.batch;
  return boxed_tensor(params.q, params.q_strides,
                      {params.head_dim, group, rows, params.heads_k, batch}, panel_cols,
                      call.tile_rows / kConsumers / group);
}

/// `panel_cols` columns of `tile_keys` rows of k or v, which has `cols` columns.
inline BoxedTensor boxed_keys(const ForwardCall& call, const void* data, const Strides& strides,
                              std::int64_t cols, int panel_cols, int tile_keys) {
  const Params& params = call.params;
  const std::int64_t batch =
      params.lengths.cu_k != nullptr || strides.batch == 0 ? 1 : params.batch;
  return boxed_tensor(data, strides, {cols, 1, key_rows(params), params.heads_k, batch}, panel_cols,
                      tile_keys);
}

/// The tensors of a call as a kernel copies them.
struct BoxedCall {
  BoxedTensor q;
  BoxedTensor k;
  BoxedTensor v;
};

inline BoxedCall boxed_call(const ForwardCall& call, int panel_cols, int tile_keys) {
  const Params& params = call.params;
  return {boxed_q(call, panel_cols),
          boxed_keys(call, params.k, params.k_strides, params.head_dim, panel_cols, tile_keys),
          boxed_keys(call, params.v, params.v_strides, params.head_dim_v, panel_cols, tile_keys)};
}

/// Whether the driver takes the tensor: positive strides below 2^40 bytes, coordinates of 31 bits.
inline bool is_copied_in_boxes(const BoxedTensor& tensor) {
  for (const std::uint64_t size : tensor.sizes) {
    if (size == 0 || size >= std::uint64_t{1} << 31) return false;
  }
  for (const std::uint64_t stride : tensor.byte_strides) {
    if (stride == 0 || stride >= std::uint64_t{1} << 40) return false;
  }
  return true;
}

/// Why a call goes to the sm_80 kernels, in words, or null: `call`, cut for the sm_90a kernel,
/// suits it.
inline const char* why_not_sm90(const ForwardCall& call) {
  const Params& params = call.params;
  if (params.lengths.block_table != nullptr) return "the keys are paged";
  if (params.lengths.cache_batch != nullptr) return "sequences name their entries of the cache";
  if (params.rotary.pairs > 0) return "queries are rotated";
  if (call.splits > 1) return "the keys are split";
  if (!call.is_vectorized) return "rows are not aligned to 16 bytes";
  const BoxedCall boxed = boxed_call(call, 1, 1);  // whatever the boxes
  if (!is_copied_in_boxes(boxed.q) || !is_copied_in_boxes(boxed.k) ||
      !is_copied_in_boxes(boxed.v)) {
    return "a tensor is empty, repeats rows or is too large to copy in boxes";
  }
  return nullptr;
}

/// Tiles of keys that wgmma takes in the time in which mma.sync takes one.
constexpr std::int64_t kSm90Speedup = 2;

/// Whether `standing`, whose keys are split, is left sooner than the sm_90a kernel of `tile`, which
/// takes all keys of a row in one block. Few rows are bound by memory: there all of the device must
/// read.
inline bool is_split_sooner(const ForwardKernels& kernels, const Forward& standing,
                            const Params& params, TileShape tile, std::int64_t processors) {
  if (standing.launches[0].call.splits == 1) return false;
  if (packed_rows(params) <= kernels.narrow.tile.rows) return true;
  const std::int64_t blocks = expected_blocks(params, tile.rows);
  const std::int64_t tiles = ceil_div(expected_keys(params), tile.keys);
  const std::int64_t best = best_splits(blocks, tiles, processors);
  return split_time(blocks, tiles, processors, 1) >
         kSm90Speedup * split_time(blocks, tiles, processors, best);
}

/// As planned_launches, with `sm90` (null where there is none) in place of the wide kernel wherever
/// device and call allow it. The narrow kernel stays: few rows are bound by memory. Where the
/// number of splits is the plan's to choose, the sm_90a kernel has one, unless splits are sooner
/// done.
inline Forward planned_launches(const ForwardKernels& kernels, const ForwardKernel* sm90,
                                const Params& params, const Device& device) {
  Forward standing = planned_launches(kernels, params, device.processors);
  const auto keep = [&](const char* reason) {
    standing.why_not_sm90 = reason;
    return standing;
  };
  if (standing.count == 0) return keep("there are no queries");
  if (device.capability != 90) return keep("the device is not of compute capability 9.0");
  if (!device.encodes_tensor_maps) return keep("the driver encodes no tensor maps");
  if (sm90 == nullptr) return keep("no kernel of the head dimension");
  if (sm90_tile_rows(params) == 0) return keep("more than 64 query heads share a key head");
  ForwardKernels fast = kernels;
  fast.wide = *sm90;
  fast.wide.tile.rows = sm90_tile_rows(params);
  Params whole = params;
  if (params.num_splits == 0) {
    if (is_split_sooner(kernels, standing, params, fast.wide.tile, device.processors)) {
      return keep("the keys are split");
    }
    whole.num_splits = 1;
  }
  Forward forward = planned_launches(fast, whole, device.processors);
  const ForwardLaunch& first = forward.launches[0];
  if (first.kernel.tile.rows == kernels.narrow.tile.rows) return keep("all rows are few");
  forward.why_not_sm90 = why_not_sm90(first.call);
  if (forward.why_not_sm90 != nullptr) return keep(forward.why_not_sm90);
  // No order that the host could choose fits lengths that it does not know.
  ForwardCall& call = forward.launches[0].call;
  call.takes_works = is_varlen(params) && block_works(call) > device.processors;
  return forward;
}

}  // namespace kernelhub::flash_attention::cuda
