// SPDX-License-Identifier: Apache-2.0
// How a forward call is cut into thread blocks: chosen on the host from sizes alone, so that a call
// may be captured into a graph. Pure arithmetic, testable on any host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "flash_attention/params.h"
#include "flash_attention/sequence.h"

namespace kernelhub::flash_attention::cuda {

/// More splits than this gain nothing: combining them reads as much as they save.
constexpr std::int64_t kMaxSplits = 128;
/// What starting a block and combining its result cost, in tiles of keys.
constexpr std::int64_t kSplitOverheadTiles = 2;
/// Keys and values of a section stay in L2 (40 MiB on sm_80, 50 on sm_90) beside everything else.
constexpr std::int64_t kSectionBytes = std::int64_t{24} << 20;
/// Blocks per launch; more work takes more launches.
constexpr std::int64_t kMaxGrid = std::int64_t{1} << 30;
constexpr std::int64_t kAnyRows = std::numeric_limits<std::int64_t>::max();

/// What a kernel's tiles look like from the host.
struct TileShape {
  std::int64_t rows;
  std::int64_t keys;
  std::int64_t blocks_per_sm;
};

/// One forward call as a kernel sees it.
struct ForwardCall {
  Params params;
  bool is_vectorized;       // all of q, k, v and out allow 16-byte accesses
  std::int64_t tile_rows;   // packed rows of a block
  std::int64_t least_rows;  // packed rows of the varlen sequences that the kernel attends to
  std::int64_t most_rows;
  std::int64_t splits;         // of the keys of a row block
  std::int64_t row_blocks;     // of a dense sequence and key head; of all varlen sequences, at most
  std::int64_t section;        // (sequence, key head) pairs whose keys stay in L2 together
  std::int64_t tokens;         // rows of q and out in all
  bool takes_works;            // resident blocks take works when they are free, see next_work
  std::int64_t partial_pitch;  // floats of a row of partial_out
  float* partial_out;          // [splits, tokens, heads_q, partial_pitch], null without splits
  float* partial_lse;          // [splits, tokens, heads_q]
  std::uint64_t* works_taken;  // beyond the first of each block; zero at the start, or null
};

KERNELHUB_HOST_DEVICE inline bool is_varlen(const Params& params) {
  return params.lengths.cu_q != nullptr;
}

/// Query rows that share a key head; of varlen sequences, whose lengths only the device knows, as
/// many as they have on average.
inline std::int64_t packed_rows(const Params& params) {
  const std::int64_t rows = is_varlen(params)
                                ? ceil_div(params.total_q, std::max<std::int64_t>(params.batch, 1))
                                : params.lengths.q;
  return rows * (params.heads_q / params.heads_k);
}

/// Keys of a sequence, as well as the host knows them.
inline std::int64_t expected_keys(const Params& params) {
  const std::int64_t keys = params.lengths.cu_k != nullptr && params.lengths.block_table == nullptr
                                ? ceil_div(params.total_k, std::max<std::int64_t>(params.batch, 1))
                                : params.lengths.k;
  return std::max<std::int64_t>(keys, 1);
}

/// Blocks of a call before any splits, as well as the host knows them. A block has rows of one
/// sequence: of varlen sequences, each that has rows takes one at least.
inline std::int64_t expected_blocks(const Params& params, std::int64_t tile_rows) {
  const std::int64_t group = params.heads_q / params.heads_k;
  if (!is_varlen(params)) {
    return params.batch * params.heads_k * ceil_div(params.lengths.q * group, tile_rows);
  }
  return params.heads_k * std::max(ceil_div(params.total_q * group, tile_rows),
                                   std::min(params.batch, params.total_q));
}

/// Time in a model where every block takes as long as it has tiles, plus the overhead of splits,
/// and `slots` blocks run at once.
inline std::int64_t split_time(std::int64_t blocks, std::int64_t tiles, std::int64_t slots,
                               std::int64_t splits) {
  const std::int64_t overhead = splits > 1 ? kSplitOverheadTiles : 0;
  return ceil_div(blocks * splits, slots) * (ceil_div(tiles, splits) + overhead);
}

/// The number of splits with the least split_time, the smallest among equals. Of the numbers that
/// give the longest split as many tiles only the smallest is tried, and none once the rounds of
/// blocks alone take as long.
inline std::int64_t best_splits(std::int64_t blocks, std::int64_t tiles, std::int64_t slots) {
  std::int64_t best = 1;
  std::int64_t least = split_time(blocks, tiles, slots, 1);
  for (std::int64_t share = tiles; share > 1;) {
    const std::int64_t splits = ceil_div(tiles, share - 1);
    const std::int64_t rounds = ceil_div(blocks * splits, slots);
    if (splits > kMaxSplits || rounds * (1 + kSplitOverheadTiles) >= least) break;
    share = ceil_div(tiles, splits);
    const std::int64_t time = rounds * (share + kSplitOverheadTiles);
    if (time < least) {
      least = time;
      best = splits;
    }
  }
  return best;
}

inline bool allows_16_bytes(const void* data, const Strides& strides, std::int64_t dim) {
  const auto is_whole = [](std::int64_t elements) { return elements % 8 == 0; };
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && is_whole(strides.batch) &&
         is_whole(strides.row) && is_whole(strides.head) && is_whole(dim);
}

/// Row blocks of all varlen sequences, at most. One more for each, and for the rows behind the
/// last: see first_varlen_block.
inline std::int64_t varlen_row_blocks(const ForwardCall& call) {
  const std::int64_t sequences = call.params.batch + 1;
  if (call.most_rows <= call.tile_rows) return sequences;
  const std::int64_t group = call.params.heads_q / call.params.heads_k;
  return call.params.total_q * group / call.tile_rows + sequences;
}

/// Everything but the workspace. `processors`: of the device.
inline ForwardCall forward_call(const Params& params, TileShape tile, std::int64_t processors) {
  ForwardCall call{};
  call.params = params;
  call.is_vectorized = allows_16_bytes(params.q, params.q_strides, params.head_dim) &&
                       allows_16_bytes(params.k, params.k_strides, params.head_dim) &&
                       allows_16_bytes(params.v, params.v_strides, params.head_dim_v) &&
                       allows_16_bytes(params.out, params.out_strides, params.head_dim_v);
  const std::int64_t group = params.heads_q / params.heads_k;
  call.tile_rows = tile.rows;
  call.most_rows = kAnyRows;
  call.tokens = is_varlen(params) ? params.total_q : params.batch * params.lengths.q;
  call.row_blocks =
      is_varlen(params) ? varlen_row_blocks(call) : ceil_div(params.lengths.q * group, tile.rows);
  const std::int64_t keys = expected_keys(params);
  const std::int64_t pairs = params.batch * params.heads_k;
  const std::int64_t blocks = expected_blocks(params, tile.rows);
  call.splits = params.num_splits > 0 ? std::min(params.num_splits, kMaxSplits)
                                      : best_splits(blocks, ceil_div(keys, tile.keys),
                                                    processors * tile.blocks_per_sm);
  const std::int64_t pair_bytes = keys * (params.head_dim + params.head_dim_v) * 2;
  call.section =
      std::clamp<std::int64_t>(kSectionBytes / pair_bytes, 1, std::max<std::int64_t>(pairs, 1));
  call.partial_pitch = ceil_div(params.head_dim_v, 8) * 8;
  return call;
}

/// A varlen call for a kernel of `tile_rows`, which leaves out sequences of fewer than `least_rows`
/// packed rows and of more than `most_rows`.
inline ForwardCall restricted(ForwardCall call, std::int64_t tile_rows, std::int64_t least_rows,
                              std::int64_t most_rows) {
  call.tile_rows = tile_rows;
  call.least_rows = least_rows;
  call.most_rows = most_rows;
  call.row_blocks = varlen_row_blocks(call);
  return call;
}

/// Bytes of workspace: partial results of split keys, or the count of works that were taken.
inline std::int64_t workspace_bytes(const ForwardCall& call) {
  if (call.splits == 1) return call.takes_works ? sizeof(*call.works_taken) : 0;
  return call.splits * call.tokens * call.params.heads_q * (call.partial_pitch + 1) * 4;
}

inline ForwardCall with_workspace(ForwardCall call, void* workspace) {
  if (call.splits == 1) {
    if (call.takes_works) call.works_taken = static_cast<std::uint64_t*>(workspace);
    return call;
  }
  call.partial_out = static_cast<float*>(workspace);
  call.partial_lse =
      call.partial_out + call.splits * call.tokens * call.params.heads_q * call.partial_pitch;
  return call;
}

/// Rows of each entry of k and v, where they are not paged.
KERNELHUB_HOST_DEVICE inline std::int64_t key_rows(const Params& params) {
  return params.lengths.cu_k != nullptr ? params.total_k : params.lengths.k;
}

/// What one thread block works on.
struct BlockWork {
  std::int64_t sequence;
  std::int64_t head_k;
  std::int64_t row_block;
  std::int64_t split;
};

KERNELHUB_HOST_DEVICE inline std::int64_t block_works(const ForwardCall& call) {
  const std::int64_t pairs = call.params.heads_k * (is_varlen(call.params) ? 1 : call.params.batch);
  return pairs * call.row_blocks * call.splits;
}

/// First row block of varlen sequence `index`. The next sequence starts at least as many blocks
/// later as this one has: floor(b) - floor(a) + 1 > b - a; or one, where all have one.
KERNELHUB_HOST_DEVICE inline std::int64_t first_varlen_block(const ForwardCall& call,
                                                             std::int64_t index) {
  if (call.most_rows <= call.tile_rows) return index;
  const std::int64_t group = call.params.heads_q / call.params.heads_k;
  return call.params.lengths.cu_q[index] * group / call.tile_rows + index;
}

/// The sequence and row block that varlen row block `block` is, found by bisection. Sequence
/// `batch` stands for the rows behind the last sequence.
KERNELHUB_HOST_DEVICE inline BlockWork varlen_block(const ForwardCall& call, std::int64_t block) {
  std::int64_t low = 0;
  std::int64_t high = call.params.batch;
  while (low < high) {
    const std::int64_t middle = (low + high + 1) / 2;
    if (first_varlen_block(call, middle) <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return {low, 0, block - first_varlen_block(call, low), 0};
}

/// The rows of a sequence; of sequence `batch`, which has no queries, those that no other has. None
/// of a sequence that the call leaves out.
KERNELHUB_HOST_DEVICE inline Sequence sequence_at(const ForwardCall& call, std::int64_t index) {
  const Params& params = call.params;
  const std::int64_t group = params.heads_q / params.heads_k;
  Sequence sequence{};
  if (index < params.batch) {
    // Nobody but the device sees the lengths: keys beyond the cache are not read.
    sequence = sequence_of(params, index);
    const bool is_dense_k = params.lengths.cu_k == nullptr || params.lengths.block_table != nullptr;
    const std::int64_t room = params.lengths.k - (is_dense_k ? sequence.k_begin : 0);
    if (is_dense_k && sequence.k_rows > room) sequence.k_rows = room;
    if (sequence.k_rows < 0) sequence.k_rows = 0;
  } else {
    const std::int64_t begin = params.lengths.cu_q[index];
    sequence = {index, 0, begin, params.total_q - begin, 0, 0, 0, 0};
  }
  const std::int64_t rows = sequence.q_allocated * group;
  if (rows < call.least_rows || rows > call.most_rows) sequence.q_allocated = 0;
  return sequence;
}

/// Work number `index`. Dense: sections of (sequence, key head) pairs one after the other; in a
/// section, and of varlen sequences in all, the last row blocks first: under a causal mask they
/// have the most keys, and the short ones even out the ends of the blocks.
KERNELHUB_HOST_DEVICE inline BlockWork block_work(const ForwardCall& call, std::int64_t index) {
  const std::int64_t heads = call.params.heads_k;
  if (is_varlen(call.params)) {
    BlockWork work = varlen_block(call, call.row_blocks - 1 - index / (heads * call.splits));
    work.head_k = index / call.splits % heads;
    work.split = index % call.splits;
    return work;
  }
  const std::int64_t per_pair = call.row_blocks * call.splits;
  const std::int64_t pairs = call.params.batch * heads;
  const std::int64_t first_pair = index / (per_pair * call.section) * call.section;
  const std::int64_t in_section = index - first_pair * per_pair;
  const std::int64_t section_pairs =
      pairs - first_pair < call.section ? pairs - first_pair : call.section;
  const std::int64_t per_block = section_pairs * call.splits;
  const std::int64_t in_block = in_section % per_block;
  const std::int64_t pair = first_pair + in_block / call.splits;
  return {pair / heads, pair % heads, call.row_blocks - 1 - in_section / per_block,
          in_block % call.splits};
}

// ---- Works dealt out to blocks that stay resident.
//
// Under a causal mask the works of a section grow shorter from its first to its last, and the next
// section starts with long ones again. The works of a section are therefore taken in twos, from
// both of its ends inwards: all twos are equally long.

constexpr std::int64_t kNoWork = -1;

/// Twos of all works of a dense call.
KERNELHUB_HOST_DEVICE inline std::int64_t two_count(const ForwardCall& call) {
  const std::int64_t section = call.section * call.row_blocks * call.splits;
  const std::int64_t whole = block_works(call) / section;
  return whole * ceil_div(section, 2) + ceil_div(block_works(call) - whole * section, 2);
}

/// The first or second work of two number `two`. The middle one of a section may lack its second:
/// kNoWork.
KERNELHUB_HOST_DEVICE inline std::int64_t work_of_two(const ForwardCall& call, std::int64_t two,
                                                      bool is_second) {
  const std::int64_t section = call.section * call.row_blocks * call.splits;
  const std::int64_t twos = ceil_div(section, 2);
  const std::int64_t begin = two / twos * section;
  const std::int64_t left = block_works(call) - begin;
  const std::int64_t first = two % twos;
  const std::int64_t second = (left < section ? left : section) - 1 - first;
  if (!is_second) return begin + first;
  return second == first ? kNoWork : begin + second;
}

/// The work of `block` of `blocks` in a turn, or kNoWork. Dense: two after two, section by section.
/// The works of the last twos are dealt out one by one where blocks would be without otherwise.
/// Varlen sequences, of whose lengths nothing is known: one work for each block after the other,
/// there and back.
KERNELHUB_HOST_DEVICE inline std::int64_t dealt_work(const ForwardCall& call, std::int64_t block,
                                                     std::int64_t blocks, std::int64_t turn) {
  if (is_varlen(call.params)) {
    const std::int64_t work = turn * blocks + (turn % 2 == 0 ? block : blocks - 1 - block);
    return work < block_works(call) ? work : kNoWork;
  }
  const std::int64_t twos = two_count(call);
  const std::int64_t dealt = turn / 2 * blocks;
  const std::int64_t left = twos - dealt;
  const bool is_second = turn % 2 != 0;
  if (2 * left > blocks) {
    return block < left ? work_of_two(call, dealt + block, is_second) : kNoWork;
  }
  if (is_second || block >= 2 * left) return kNoWork;
  return block < left ? work_of_two(call, dealt + block, false)
                      : work_of_two(call, twos - 1 - (block - left), true);
}

/// Turns after which all works are dealt out.
KERNELHUB_HOST_DEVICE inline std::int64_t deal_turns(const ForwardCall& call, std::int64_t blocks) {
  return is_varlen(call.params) ? ceil_div(block_works(call), blocks)
                                : 2 * ceil_div(two_count(call), blocks);
}

}  // namespace kernelhub::flash_attention::cuda
