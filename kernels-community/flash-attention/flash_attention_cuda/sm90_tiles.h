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

/// A block of two consumer warpgroups with 64 query rows each against tiles of kKeys keys, and a
/// producer warpgroup of which one warp works.
template <int kHeadDim, int kKeyCount, int kStageCount, int kProducer, int kConsumer>
struct WarpgroupTile {
  static constexpr int kDim = kHeadDim;
  static constexpr int kKeys = kKeyCount;
  static constexpr int kStages = kStageCount;  // of K and of V
  static constexpr int kProducerRegisters = kProducer;
  static constexpr int kConsumerRegisters = kConsumer;

  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kPanels = kDim / kPanelCols;
  static constexpr int kQPanelBytes = kWarpgroupRows * kPanelRowBytes;  // of one warpgroup
  static constexpr int kQBytes = kConsumers * kPanels * kQPanelBytes;
  static constexpr int kKeyPanelBytes = kKeys * kPanelRowBytes;
  static constexpr int kKeyBytes = kPanels * kKeyPanelBytes;  // of one stage of K or V
  static constexpr int kTileBytes = kQBytes + 2 * kStages * kKeyBytes;

  static_assert(kDim % kPanelCols == 0 && kKeys % 16 == 0 && kKeys <= 256);
  static_assert(kQPanelBytes % kSwizzleBytes == 0 && kKeyPanelBytes % kSwizzleBytes == 0);
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
  float exponent;  // scores times this are in units of log2
  bool is_shaped;  // scores take more than a positive scale
  bool is_end;     // no work: the consumers are done
};

/// What lies behind the tiles in shared memory. A barrier `full` opens when its bytes have landed,
/// `empty` when every consumer warp is done with them.
template <class Tile>
struct Mailbox {
  static constexpr int kStages = Tile::kStages;
  std::uint64_t q_full;
  std::uint64_t q_empty;
  std::uint64_t k_full[kStages];
  std::uint64_t k_empty[kStages];
  std::uint64_t v_full[kStages];
  std::uint64_t v_empty[kStages];
  std::uint64_t v_landed;  // of a V tile whose last rows the producer clears
  WorkFacts facts[2];      // of works of even and odd number
};

/// Bytes of a block; panels start at multiples of kSwizzleBytes, wherever the memory does.
template <class Tile>
constexpr int kWarpgroupSharedBytes = kSwizzleBytes + Tile::kTileBytes +
                                      static_cast<int>(sizeof(Mailbox<Tile>));

// Registers of a consumer thread: fp32 scores kKeys / 2 and output dim / 2, P kKeys / 4; the rest
// is row sums and addresses. Producer + 2 consumers <= 3 * 168, what a block has at its start.
//
//   dim | rows x keys, stages, KiB | scores + output + P | registers: producer, consumer
//    64 |  128 x 128      3   112  |   64 + 32 + 32      |   40  232
//   128 |  128 x 128      2   160  |   64 + 64 + 32      |   40  232
template <int kDim>
struct WarpgroupTileFor;
template <>
struct WarpgroupTileFor<64> {
  using Tile = WarpgroupTile<64, 128, 3, 40, 232>;
};
template <>
struct WarpgroupTileFor<128> {
  using Tile = WarpgroupTile<128, 128, 2, 40, 232>;
};

}  // namespace kernelhub::flash_attention::cuda
