// SPDX-License-Identifier: Apache-2.0
// Tile shapes and register budgets of the sm_90a forward kernel, and what its warps tell each
// other.
#pragma once

#include "flash_attention/sequence.h"
#include "flash_attention_cuda/sm90_layout.h"

namespace kernelhub::flash_attention::cuda {

constexpr int kWarpgroup = 128;     // threads that multiply together
constexpr int kWarpgroupRows = 64;  // rows of every wgmma
constexpr int kConsumers = 2;       // warpgroups that multiply

/// A block of two consumer warpgroups with 64 query rows each against tiles of kKeyCount keys, and
/// a producer warpgroup of which two warps work. Heads have kHeadDim columns in q and k, kHeadDimV
/// in v and out.
template <int kHeadDim, int kHeadDimV, int kKeyCount, int kStageCount>
struct WarpgroupTile {
  static constexpr int kDim = kHeadDim;
  static constexpr int kDimV = kHeadDimV;
  static constexpr int kKeys = kKeyCount;
  static constexpr int kStages = kStageCount;  // of K and of V
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;

  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kPanelCols = kDim % 64 == 0 && kDimV % 64 == 0 ? 64 : 32;
  static constexpr int kPanelRowBytes = kPanelCols * 2;
  static constexpr int kPanels = kDim / kPanelCols;  // of Q and K
  static constexpr int kPanelsV = kDimV / kPanelCols;
  static constexpr int kQPanelBytes = kWarpgroupRows * kPanelRowBytes;  // of one warpgroup
  static constexpr int kQBytes = kConsumers * kPanels * kQPanelBytes;
  static constexpr int kKeyPanelBytes = kKeys * kPanelRowBytes;
  static constexpr int kKBytes = kPanels * kKeyPanelBytes;  // of one stage
  static constexpr int kVBytes = kPanelsV * kKeyPanelBytes;
  static constexpr int kTileBytes = kQBytes + kStages * (kKBytes + kVBytes);

  static_assert(kDim % kPanelCols == 0 && kDimV % kPanelCols == 0);
  static_assert(kKeys % 16 == 0 && kKeys <= 256 && kDimV <= 256);
  static_assert(kQPanelBytes % swizzle_bytes(kPanelCols) == 0);
  static_assert(kKeyPanelBytes % swizzle_bytes(kPanelCols) == 0);
  // What the warpgroups share is what a block gets at its start: as many registers for every
  // thread, a multiple of 8.
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <=
                    65536 / kThreads / 8 * 8 * (1 + kConsumers),
                "registers of a multiprocessor");
};

/// One piece of work as the producer hands it to the consumers, in shared memory.
struct WorkFacts {
  Sequence sequence;
  int head_k;
  int group;       // query heads of a key head
  int first_row;   // packed row of the block's row 0
  int row_count;   // packed rows of the sequence
  int first_tile;  // tiles of keys to visit
  int end_tile;
  int first_whole;  // those without a mask
  int end_whole;
  int kept_rows;   // of the last tile of V; those behind are cleared
  float exponent;  // scores times this are in units of log2
  bool is_shaped;  // scores take more than a positive scale
  bool is_end;     // no work: the consumers are done
};

/// While the producer writes the facts of a work, consumers may still be at the end of the last
/// work but one.
constexpr int kFactSlots = 3;

/// What lies behind the tiles in shared memory. A barrier `full` opens when its bytes have landed,
/// `empty` when every consumer warp is done with them; q_empty also when the warp that clears knows
/// the facts that come with Q.
template <class Tile>
struct Mailbox {
  static constexpr int kStages = Tile::kStages;
  std::uint64_t q_full;
  std::uint64_t q_empty;
  std::uint64_t k_full[kStages];
  std::uint64_t k_empty[kStages];
  std::uint64_t v_full[kStages];
  std::uint64_t v_empty[kStages];
  std::uint64_t v_landed[kStages];  // of V whose last rows are cleared before it is full
  WorkFacts facts[kFactSlots];      // of works in turn
};

/// Bytes of a block; panels start at multiples of their swizzle, wherever the memory does.
template <class Tile>
constexpr int kWarpgroupSharedBytes = swizzle_bytes(Tile::kPanelCols) + Tile::kTileBytes +
                                      static_cast<int>(sizeof(Mailbox<Tile>));

/// The tiles by the head dimensions that they hold: of q and k, and of v and out where they differ.
enum class Sm90Tile { kDim64, kDim96, kDim128, kDim192V128, kDim192, kDim256, kNone };

/// The tile that holds the head dimensions of a call. Copies fill the columns that a head lacks
/// with zeros.
constexpr Sm90Tile sm90_tile(std::int64_t head_dim, std::int64_t head_dim_v) {
  const std::int64_t dim = head_dim > head_dim_v ? head_dim : head_dim_v;
  if (dim <= 32 || dim > 256) return Sm90Tile::kNone;
  if (dim <= 64) return Sm90Tile::kDim64;
  if (dim <= 96) return Sm90Tile::kDim96;
  if (dim <= 128) return Sm90Tile::kDim128;
  if (dim <= 192) return head_dim_v <= 128 ? Sm90Tile::kDim192V128 : Sm90Tile::kDim192;
  return Sm90Tile::kDim256;
}

// Registers of a consumer thread: fp32 scores kKeys / 2 and output dim / 2, P kKeys / 4; the rest
// is row sums and addresses. Producer + 2 consumers <= 3 * 168, what a block has at its start. In
// all of them the next S is under way while O += P V is.
//
//   dim, of v | rows x keys, stages, KiB | panels | scores + output + P
//      64     |  128 x 128      3   112  |   64   |   64 +  32 + 32
//      96     |  128 x 128      3   168  |   32   |   64 +  48 + 32
//     128     |  128 x 128      2   160  |   64   |   64 +  64 + 32
//     192 128 |  128 x 128      2   208  |   64   |   64 +  64 + 32
//     192     |  128 x 112      2   216  |   64   |   56 +  96 + 28
//     256     |  128 x  80      2   224  |   64   |   40 + 128 + 20
template <Sm90Tile>
struct WarpgroupTileFor;
template <>
struct WarpgroupTileFor<Sm90Tile::kDim64> {
  using Tile = WarpgroupTile<64, 64, 128, 3>;
};
template <>
struct WarpgroupTileFor<Sm90Tile::kDim96> {
  using Tile = WarpgroupTile<96, 96, 128, 3>;
};
template <>
struct WarpgroupTileFor<Sm90Tile::kDim128> {
  using Tile = WarpgroupTile<128, 128, 128, 2>;
};
template <>
struct WarpgroupTileFor<Sm90Tile::kDim192V128> {
  using Tile = WarpgroupTile<192, 128, 128, 2>;
};
template <>
struct WarpgroupTileFor<Sm90Tile::kDim192> {
  using Tile = WarpgroupTile<192, 192, 112, 2>;
};
template <>
struct WarpgroupTileFor<Sm90Tile::kDim256> {
  using Tile = WarpgroupTile<256, 256, 80, 2>;
};

}  // namespace kernelhub::flash_attention::cuda
