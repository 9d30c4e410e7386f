// SPDX-License-Identifier: Apache-2.0
// Checks the index arithmetic of the forward, of CUDA and CPU, against brute force. Prints one line
// "<check> <wrong> <tried>" per check.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "flash_attention/schedule.h"
#include "flash_attention_cuda/forward_kernels.h"
#include "flash_attention_cuda/forward_tiles.h"
#include "flash_attention_cuda/key_tiles.h"
#include "flash_attention_cuda/sm90_plan.h"

namespace attention = kernelhub::flash_attention;
namespace cuda = kernelhub::flash_attention::cuda;

namespace {

struct Tally {
  const char* name;
  long wrong = 0;
  long tried = 0;

  explicit Tally(const char* check) : name(check) {}
  ~Tally() { std::printf("%s %ld %ld\n", name, wrong, tried); }
  void expect(bool holds) {
    ++tried;
    wrong += holds ? 0 : 1;
  }
};

using Generator = std::mt19937;

std::int64_t between(Generator& random, std::int64_t first, std::int64_t last) {
  return std::uniform_int_distribution<std::int64_t>(first, last)(random);
}

/// Tiles of every rule against the visibility of single keys.
void check_tiles(Tally& visible, Tally& whole, Tally& split) {
  Generator random(1);
  for (int i = 0; i < 4000; ++i) {
    attention::Params params{};
    params.window_left = between(random, -1, 40);
    params.window_right = between(random, -1, 40);
    attention::Sequence sequence{};
    sequence.q_rows = between(random, 0, 60);
    sequence.k_rows = between(random, 0, 90);
    const std::int64_t first = between(random, 0, 60);
    const std::int64_t last = first + between(random, 0, 20);
    const int tile_keys = 16;
    const auto tiles = cuda::visible_tiles(params, sequence, first, last, tile_keys);
    const auto open = cuda::whole_tiles(params, sequence, first, last, tile_keys);
    const std::int64_t all = (sequence.k_rows + tile_keys - 1) / tile_keys;
    for (std::int64_t tile = 0; tile < all; ++tile) {
      bool is_any = false;
      bool is_all = true;
      for (std::int64_t row = first; row <= last; ++row) {
        const auto seen = attention::visible_keys(params, sequence, row);
        for (std::int64_t key = tile * tile_keys; key < (tile + 1) * tile_keys; ++key) {
          const bool is_seen = key >= seen.begin && key < seen.end;
          is_any = is_any || is_seen;
          is_all = is_all && is_seen;
        }
      }
      const bool is_visited = tile >= tiles.begin && tile < tiles.end;
      visible.expect(!is_any || is_visited);
      const bool is_unmasked = tile >= open.begin && tile < open.end;
      if (is_visited) whole.expect(is_unmasked == is_all);
    }
    const std::int64_t splits = between(random, 1, 9);
    std::int64_t next = tiles.begin;
    for (std::int64_t s = 0; s < splits; ++s) {
      const auto share = cuda::split_tiles(tiles, s, splits);
      split.expect(share.begin == next && share.end >= share.begin && share.end <= tiles.end);
      next = share.end;
    }
    split.expect(next == tiles.end);
  }
}

/// Every row of every sequence belongs to exactly one block, of the kernel that fits its sequence.
void check_works(Tally& dense, Tally& varlen, Tally& kernel_of_its_own) {
  Generator random(2);
  for (int i = 0; i < 300; ++i) {
    const bool is_varlen = i % 2 == 1;
    attention::Params params{};
    params.heads_k = between(random, 1, 3);
    params.heads_q = params.heads_k * between(random, 1, 5);
    const std::int64_t group = params.heads_q / params.heads_k;
    params.batch = between(random, 1, 6);
    params.head_dim = params.head_dim_v = 64;
    params.lengths.q = between(random, 1, 70);
    params.lengths.k = between(random, 1, 1 << 20);
    params.num_splits = between(random, 1, 3);
    std::vector<std::int32_t> starts(static_cast<std::size_t>(params.batch) + 1, 0);
    if (is_varlen) {
      for (std::size_t b = 1; b < starts.size(); ++b) {
        starts[b] = starts[b - 1] + static_cast<std::int32_t>(between(random, 0, 50));
      }
      params.lengths.cu_q = starts.data();
      params.total_q = starts.back() + between(random, 0, 40);
    }
    const cuda::ForwardKernels kernels{{{32, 64, 1}, nullptr}, {{16, 64, 1}, nullptr}};
    const cuda::Forward forward = cuda::planned_launches(kernels, params, 108);
    std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> rows;
    bool is_once = true;
    for (int launch = 0; launch < forward.count; ++launch) {
      const cuda::ForwardCall& call = forward.launches[launch].call;
      const std::int64_t tile = forward.launches[launch].kernel.tile.rows;
      for (std::int64_t work = 0; work < cuda::block_works(call); ++work) {
        const cuda::BlockWork at = cuda::block_work(call, work);
        const attention::Sequence sequence = cuda::sequence_at(call, at.sequence);
        const std::int64_t count = sequence.q_allocated * group;
        if (count > 0) kernel_of_its_own.expect((tile == 16) == (count <= 16));
        for (std::int64_t row = at.row_block * tile; row < (at.row_block + 1) * tile && row < count;
             ++row) {
          const std::int64_t token =
              sequence.q_batch * params.lengths.q + sequence.q_begin + row / group;
          is_once =
              is_once && rows.emplace(token, at.head_k * group + row % group, at.split).second;
        }
      }
    }
    const cuda::ForwardCall& call = forward.launches[0].call;
    (is_varlen ? varlen : dense)
        .expect(is_once &&
                static_cast<std::int64_t>(rows.size()) ==
                    (forward.count == 0 ? 0 : call.tokens * params.heads_q * call.splits));
  }
}

/// Every work is dealt out once, however many blocks there are.
void check_dealing(Tally& dealt) {
  Generator random(5);
  for (int i = 0; i < 400; ++i) {
    attention::Params params{};
    params.batch = between(random, 1, 6);
    params.heads_q = params.heads_k = between(random, 1, 9);
    params.head_dim = params.head_dim_v = 64;
    params.lengths.q = between(random, 1, 700);
    params.lengths.k = between(random, 1, 1 << 17);
    params.num_splits = between(random, 1, 3);
    const std::vector<std::int32_t> starts(static_cast<std::size_t>(params.batch) + 1, 0);
    if (i % 3 == 0) {
      params.lengths.cu_q = starts.data();
      params.total_q = between(random, 1, 2000);
    }
    const cuda::ForwardCall call = cuda::forward_call(params, {128, 128, 1}, 132);
    const std::int64_t blocks = between(random, 1, 200);
    std::vector<int> times(static_cast<std::size_t>(cuda::block_works(call)), 0);
    for (std::int64_t turn = 0; turn < cuda::deal_turns(call, blocks); ++turn) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t work = cuda::dealt_work(call, block, blocks, turn);
        if (work != cuda::kNoWork) ++times.at(static_cast<std::size_t>(work));
      }
    }
    dealt.expect(std::all_of(times.begin(), times.end(), [](int count) { return count == 1; }));
  }
}

/// Tiles that a work visits, and one more for its start and end.
std::int64_t work_time(const cuda::ForwardCall& call, std::int64_t work, int tile_keys) {
  const cuda::BlockWork at = cuda::block_work(call, work);
  const attention::Sequence sequence = cuda::sequence_at(call, at.sequence);
  const std::int64_t first = at.row_block * call.tile_rows;
  if (first >= sequence.q_allocated) return 0;
  const std::int64_t last = first + call.tile_rows - 1;
  const auto tiles = cuda::visible_tiles(call.params, sequence, first, last, tile_keys);
  return tiles.end - tiles.begin + 1;
}

/// The time of the mean block over that of the one that takes longest. Works are dealt out, or each
/// is taken by the block that is free first.
double balance(const cuda::ForwardCall& call, std::int64_t blocks, int tile_keys) {
  std::vector<std::int64_t> times(static_cast<std::size_t>(blocks), 0);
  if (call.takes_works) {
    for (std::int64_t work = 0; work < cuda::block_works(call); ++work) {
      *std::min_element(times.begin(), times.end()) += work_time(call, work, tile_keys);
    }
  } else {
    for (std::int64_t turn = 0; turn < cuda::deal_turns(call, blocks); ++turn) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t work = cuda::dealt_work(call, block, blocks, turn);
        if (work == cuda::kNoWork) continue;
        times[static_cast<std::size_t>(block)] += work_time(call, work, tile_keys);
      }
    }
  }
  const std::int64_t all = std::accumulate(times.begin(), times.end(), std::int64_t{0});
  const std::int64_t most = *std::max_element(times.begin(), times.end());
  return static_cast<double>(all) / static_cast<double>(most * blocks);
}

/// Blocks that stay resident have about as much to do as each other: in the settings of the
/// published figures, 16k tokens of 2048 columns, and with lengths that are no powers of two.
void check_balance(Tally& powers, Tally& others) {
  struct Setting {
    std::int64_t dim;
    int tile_keys;
  };
  for (const Setting setting : {Setting{64, 128}, {128, 128}, {256, 80}}) {
    for (const std::int64_t length : {512, 1024, 2048, 4096, 8192, 16384, 1500, 3000, 5000}) {
      for (const std::int64_t keys : {length, 4 * length}) {
        for (const std::int64_t right : {-1, 0}) {
          attention::Params params{};
          params.batch = 16384 / length;
          params.heads_q = params.heads_k = 2048 / setting.dim;
          params.head_dim = params.head_dim_v = setting.dim;
          params.lengths.q = length;
          params.lengths.k = keys;
          params.window_left = -1;
          params.window_right = right;
          params.num_splits = 1;
          const auto call = cuda::forward_call(params, {128, setting.tile_keys, 1}, 132);
          const bool is_power = (length & (length - 1)) == 0;
          const double reached = balance(call, 132, setting.tile_keys);
          (is_power ? powers : others).expect(reached >= (is_power ? 0.955 : 0.885));
        }
      }
    }
  }
}

/// As check_balance, with sequences of one length or of lengths up to it, as the plan has them.
void check_varlen_balance(Tally& balanced) {
  Generator random(6);
  for (const std::int64_t length : {2048, 4096, 8192}) {
    for (const std::int64_t heads : {8, 16, 32}) {
      for (int i = 0; i < 12; ++i) {
        std::vector<std::int32_t> starts(1, 0);
        while (starts.back() < 16384) {
          const std::int64_t rows = i % 4 == 0 ? length : between(random, 1, length);
          starts.push_back(starts.back() + static_cast<std::int32_t>(rows));
        }
        attention::Params params{};
        params.batch = static_cast<std::int64_t>(starts.size()) - 1;
        params.heads_q = params.heads_k = heads;
        params.head_dim = params.head_dim_v = 128;
        params.q_strides = params.k_strides = params.v_strides = {0, heads * 128, 128};
        params.total_q = params.total_k = starts.back();
        params.lengths.cu_q = params.lengths.cu_k = starts.data();
        params.window_left = -1;
        params.window_right = i % 2 - 1;
        const cuda::ForwardKernels kernels{{{128, 64, 1}, nullptr}, {{16, 64, 1}, nullptr}};
        const cuda::ForwardKernel sm90{{128, 128, 1}, nullptr};
        const auto forward = cuda::planned_launches(kernels, &sm90, params, {90, 132, true});
        const cuda::ForwardCall& call = forward.launches[0].call;
        balanced.expect(forward.why_not_sm90 == nullptr && call.takes_works &&
                        balance(call, 132, 128) >= 0.88);
      }
    }
  }
}

/// The keys that rows of a sequence see, from a tile's start on.
attention::KeyRange tiles_seen(const attention::Params& params, const attention::Sequence& s) {
  attention::KeyRange seen{s.k_rows, 0};
  for (std::int64_t row = 0; row < s.q_rows; ++row) {
    const attention::KeyRange keys = attention::visible_keys(params, s, row);
    if (keys.begin == keys.end) continue;
    seen = {std::min(seen.begin, keys.begin), std::max(seen.end, keys.end)};
  }
  if (seen.begin >= seen.end) return {0, 0};
  return {seen.begin / attention::kTileKeys * attention::kTileKeys, seen.end};
}

/// CPU: pieces cover every row of every key head and split once, with all keys that its sequence
/// sees, and their partial results lie apart; each is merged once. They are small where a call is,
/// and heads are dealt out where rows are few and so are pieces.
void check_pieces(Tally& cover, Tally& small, Tally& dealt, Tally& merged, Tally& memory) {
  Generator random(4);
  for (int i = 0; i < 600; ++i) {
    attention::Params params{};
    params.dtype = kernelhub::primitives::DType::kFloat32;
    params.heads_k = between(random, 1, 80);
    params.heads_q = params.heads_k * between(random, 1, 3);
    params.batch = between(random, 1, 6);
    params.head_dim = params.head_dim_v = 8 * between(random, 1, 16);
    params.lengths.k = between(random, 0, i % 7 == 0 ? 300000 : 3000);
    params.num_splits = between(random, 0, 2);
    params.window_left = between(random, 0, 2) > 0 ? -1 : between(random, 0, 2000);
    params.window_right = between(random, 0, 1) > 0 ? -1 : 0;
    const std::int64_t group = params.heads_q / params.heads_k;
    // One length for all, or none, few and many rows beside each other.
    const bool is_mixed = i % 3 == 0;
    const std::int64_t common = i % 2 == 0 ? between(random, 0, 3) : between(random, 0, 400);
    std::vector<std::int32_t> starts(1, 0);
    for (std::int64_t b = 0; b < params.batch; ++b) {
      const std::int64_t most = between(random, 0, 2) * between(random, 1, 100);
      const std::int64_t rows = is_mixed ? between(random, 0, most) : common;
      starts.push_back(starts.back() + static_cast<std::int32_t>(rows));
    }
    params.lengths.cu_q = starts.data();
    params.total_q = starts.back();
    const attention::Schedule schedule(params);
    const auto row_at = [&](const attention::Piece& piece, std::int64_t row) {
      const std::int64_t head_rows = piece.rows / piece.heads;
      const std::int64_t head = piece.head_k + row / head_rows;
      return (piece.sequence.q_begin * params.heads_k + head * piece.sequence.q_allocated) * group +
             piece.row_begin + row % head_rows;
    };
    std::vector<std::int64_t> keys(static_cast<std::size_t>(params.total_q * params.heads_q), -1);
    std::vector<int> partials(static_cast<std::size_t>(schedule.workspace_rows()), 0);
    bool is_inside = true;
    std::int64_t largest = 0;
    std::int64_t most_heads = 0;
    for (std::int64_t number = 0; number < schedule.pieces(); ++number) {
      const attention::Piece piece = schedule.piece(number);
      const attention::KeyRange seen = tiles_seen(params, piece.sequence);
      for (std::int64_t row = 0; row < piece.rows; ++row) {
        std::int64_t& next = keys[static_cast<std::size_t>(row_at(piece, row))];
        is_inside = is_inside && piece.keys.begin == (next < 0 ? seen.begin : next);
        next = piece.keys.end;
        if (piece.splits > 1) ++partials[static_cast<std::size_t>(piece.workspace + row)];
        if (piece.split + 1 == piece.splits) is_inside = is_inside && next == seen.end;
      }
      is_inside = is_inside && piece.head_k + piece.heads <= params.heads_k;
      largest = std::max(largest, piece.rows);
      most_heads = std::max(most_heads, piece.heads);
    }
    for (const std::int64_t end : keys) is_inside = is_inside && end >= 0;
    for (const int count : partials) is_inside = is_inside && count == 1;
    cover.expect(is_inside && largest <= schedule.most_rows());
    std::vector<int> merges(keys.size(), 0);
    std::size_t split_rows = 0;
    for (std::int64_t number = 0; number < schedule.split_heads(); ++number) {
      const attention::SplitHead split = schedule.split_head(number);
      const std::int64_t rows = split.block.rows / split.block.heads;
      for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t at = row_at(split.block, split.head * rows + row);
        merged.expect(++merges[static_cast<std::size_t>(at)] == 1 && split.block.split == 0);
      }
      split_rows += static_cast<std::size_t>(rows * split.block.splits);
    }
    merged.expect(split_rows == partials.size());
    memory.expect(schedule.workspace_rows() <=
                  params.total_q * params.heads_q * attention::kMostSplits);
    if (is_mixed) continue;
    const std::int64_t rows = common * group;
    const std::int64_t pairs = params.batch * params.heads_k;
    if (rows > attention::kFewRows) {
      const bool is_small = pairs * attention::ceil_div(rows, 64) < 256;
      small.expect(largest == std::min<std::int64_t>(rows, is_small ? 64 : 256));
    } else if (rows > 0) {
      const attention::KeyRange seen = tiles_seen(params, attention::sequence_of(params, 0));
      const std::int64_t elements = 2 * params.head_dim * (seen.end - seen.begin) * pairs;
      dealt.expect(2 * schedule.pieces() >= attention::kFewPieces || most_heads == 1 ||
                   elements <= 2 * attention::kFewElements * schedule.pieces());
      small.expect(largest <= attention::kPieceRows);
    }
  }
}

/// CPU: sequences without rows leave the pieces of the others as they are, and fp64 splits nothing.
void check_pieces_of_others(Tally& others) {
  attention::Params params{};
  params.dtype = kernelhub::primitives::DType::kFloat32;
  params.heads_k = 8;
  params.heads_q = 32;
  params.head_dim = params.head_dim_v = 128;
  params.window_left = params.window_right = -1;
  const std::int32_t starts[] = {0, 1, 1, 1, 1, 1, 1, 1, 1};
  params.lengths.cu_q = starts;
  params.total_q = 1;
  for (params.batch = 1; params.batch <= 8; ++params.batch) {
    params.lengths.k = 256;
    params.dtype = kernelhub::primitives::DType::kFloat32;
    others.expect(attention::Schedule(params).pieces() == 8);
    params.lengths.k = 100000;
    others.expect(attention::Schedule(params).split_heads() == 8);
    params.dtype = kernelhub::primitives::DType::kFloat64;
    const attention::Schedule fp64(params);
    others.expect(fp64.split_heads() == 0 && fp64.pieces() == 8);
  }
}

/// A tile holds every chunk once, and eight rows of a chunk column lie in eight bank groups.
template <int kCols>
void check_layout(Tally& places, Tally& banks) {
  using Layout = cuda::SharedTile<kCols>;
  std::set<int> offsets;
  for (int row = 0; row < 64; ++row) {
    for (int chunk = 0; chunk < Layout::kChunks; ++chunk) offsets.insert(Layout::at(row, chunk));
  }
  places.expect(offsets.size() == std::size_t{64} * Layout::kChunks &&
                *offsets.rbegin() < 64 * kCols * 2);
  for (int row = 0; row < 64; row += 8) {
    for (int chunk = 0; chunk < Layout::kChunks; ++chunk) {
      std::set<int> groups;
      for (int i = 0; i < 8; ++i) groups.insert(Layout::at(row + i, chunk) / 16 % 8);
      banks.expect(groups.size() == 8);
    }
  }
}

void check_splits(Tally& splits, Tally& workspace) {
  Generator random(3);
  for (int i = 0; i < 2000; ++i) {
    const std::int64_t blocks = between(random, 1, 300);
    const std::int64_t tiles = between(random, 1, 2000);
    const std::int64_t best = cuda::best_splits(blocks, tiles, 132);
    const auto time = [&](std::int64_t s) {
      return attention::ceil_div(blocks * s, 132) *
             (attention::ceil_div(tiles, s) + (s > 1 ? cuda::kSplitOverheadTiles : 0));
    };
    bool is_least = best >= 1 && best <= cuda::kMaxSplits && best <= tiles;
    for (std::int64_t s = 1; s <= cuda::kMaxSplits && s <= tiles; ++s) {
      is_least = is_least && time(best) <= time(s);
    }
    splits.expect(is_least);
    attention::Params params{};
    params.heads_k = between(random, 1, 8);
    params.heads_q = params.heads_k * between(random, 1, 8);
    params.batch = between(random, 1, 8);
    params.head_dim = params.head_dim_v = 8 * between(random, 1, 32);
    params.lengths.q = between(random, 1, 100);
    params.lengths.k = between(random, 1, 1 << 20);
    params.num_splits = between(random, 0, 9);
    const auto call = cuda::forward_call(params, {128, 64, 2}, 132);
    const std::int64_t rows = params.batch * params.lengths.q * params.heads_q;
    const std::int64_t bound =
        call.splits == 1 ? 0 : 4 * rows * (params.head_dim + 1) * call.splits;
    workspace.expect(cuda::workspace_bytes(call) == bound);
  }
}

/// A decode step is split alike whether its queries come as varlen sequences or dense.
void check_varlen_splits(Tally& splits) {
  Generator random(7);
  for (int i = 0; i < 400; ++i) {
    attention::Params dense{};
    dense.batch = between(random, 1, 300);
    dense.heads_k = between(random, 1, 16);
    dense.heads_q = dense.heads_k * between(random, 1, 16);
    dense.head_dim = dense.head_dim_v = 128;
    dense.lengths.q = 1;
    dense.lengths.k = between(random, 1, 1 << 17);
    const std::int32_t starts[] = {0};  // known to the device alone
    attention::Params varlen = dense;
    varlen.lengths.q = 0;
    varlen.lengths.cu_q = starts;
    varlen.total_q = varlen.batch;
    const cuda::TileShape tile{16, 64, 2};
    splits.expect(cuda::forward_call(varlen, tile, 132).splits ==
                  cuda::forward_call(dense, tile, 132).splits);
  }
}

struct Width {
  cuda::Sm90Tile tile;
  int dim;
  int dim_v;
};

template <cuda::Sm90Tile kTile>
constexpr Width width() {
  using Tile = typename cuda::WarpgroupTileFor<kTile>::Tile;
  return {kTile, Tile::kDim, Tile::kDimV};
}

/// Of the sm_90a tiles that hold the head dimensions of a call, the one with the least arithmetic.
void check_sm90_tiles(Tally& tiles) {
  using cuda::Sm90Tile;
  const Width widths[] = {width<Sm90Tile::kDim64>(),  width<Sm90Tile::kDim96>(),
                          width<Sm90Tile::kDim128>(), width<Sm90Tile::kDim192V128>(),
                          width<Sm90Tile::kDim192>(), width<Sm90Tile::kDim256>()};
  for (int dim = 8; dim <= attention::kMaxHeadDim; dim += 8) {
    for (int dim_v = 8; dim_v <= attention::kMaxHeadDim; dim_v += 8) {
      Width best{Sm90Tile::kNone, 1 << 10, 1 << 10};
      for (const Width& one : widths) {
        const bool holds = one.dim >= dim && one.dim_v >= dim_v;
        if (holds && one.dim + one.dim_v < best.dim + best.dim_v) best = one;
      }
      const bool is_narrow = dim <= 32 && dim_v <= 32;  // left to sm_80's tile of 32
      tiles.expect(cuda::sm90_tile(dim, dim_v) == (is_narrow ? Sm90Tile::kNone : best.tile));
    }
  }
}

}  // namespace

int main() {
  Tally visible("visible_tiles");
  Tally whole("whole_tiles");
  Tally split("split_tiles");
  check_tiles(visible, whole, split);
  Tally dense("dense_works");
  Tally varlen("varlen_works");
  Tally kernel_of_its_own("kernel_of_its_own");
  check_works(dense, varlen, kernel_of_its_own);
  Tally dealt_once("works_dealt_once");
  check_dealing(dealt_once);
  Tally balanced("balance_of_powers");
  Tally balanced_others("balance_of_others");
  check_balance(balanced, balanced_others);
  Tally balanced_varlen("balance_of_varlen");
  check_varlen_balance(balanced_varlen);
  Tally places("tile_places");
  Tally banks("tile_banks");
  check_layout<32>(places, banks);
  check_layout<64>(places, banks);
  check_layout<96>(places, banks);
  check_layout<128>(places, banks);
  check_layout<192>(places, banks);
  check_layout<256>(places, banks);
  Tally sm90_tiles("sm90_tiles");
  check_sm90_tiles(sm90_tiles);
  Tally cover("pieces");
  Tally small("small_pieces");
  Tally dealt("heads_dealt_out");
  Tally merged("heads_merged");
  Tally memory("partial_results");
  check_pieces(cover, small, dealt, merged, memory);
  Tally others("pieces_beside_others");
  check_pieces_of_others(others);
  Tally splits("best_splits");
  Tally workspace("workspace");
  check_splits(splits, workspace);
  Tally varlen_splits("splits_of_varlen");
  check_varlen_splits(varlen_splits);
}
