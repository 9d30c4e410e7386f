// SPDX-License-Identifier: Apache-2.0
// Tile shapes of the sm_80 forward kernel and what they cost.
#pragma once

#include "flash_attention/sequence.h"
#include "flash_attention_cuda/tile_layout.h"

namespace kernelhub::flash_attention::cuda {

/// What all threads of a block know about its work; lies in shared memory, so that none of it costs
/// registers while the tiles are multiplied.
struct BlockFacts {
  Sequence sequence;
  const void* k;  // key 0 of the sequence, head of the block; page 0 when paged
  const void* v;
  const std::int32_t* pages;  // or null
  std::int64_t head_k;
  std::int64_t split;
  int group;       // query heads of a key head
  int first_row;   // packed row of the block's row 0
  int row_count;   // packed rows of the sequence
  int first_tile;  // tiles of keys to visit
  int end_tile;
  int end_copied;   // end of those that are copied in the background
  int first_whole;  // those without a mask
  int end_whole;
  float exponent;  // scores times this are in units of log2
  bool is_shaped;  // scores take more than a positive scale
};

/// A block of kRows query rows against tiles of kKeys keys. kWarpsM warps share the rows; with
/// kWarpsN > 1 the warps of one row group share the keys of a tile and merge at the end.
template <int kHeadDim, int kRowCount, int kKeyCount, int kWarpsAlongRows, int kWarpsAlongKeys,
          int kStageCount, int kResident>
struct ForwardTile {
  static constexpr int kDim = kHeadDim;
  static constexpr int kRows = kRowCount;
  static constexpr int kKeys = kKeyCount;
  static constexpr int kWarpsM = kWarpsAlongRows;
  static constexpr int kWarpsN = kWarpsAlongKeys;
  static constexpr int kStages = kStageCount;
  static constexpr int kBlocksPerSm = kResident;  // asked of the register allocator

  static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kRowTiles = kRows / (16 * kWarpsM);  // m16 tiles of a warp
  static constexpr int kWarpKeys = kKeys / kWarpsN;
  static constexpr int kKeyTiles = kWarpKeys / 8;  // n8 tiles of a warp's scores
  static constexpr int kDimTiles = kDim / 8;       // n8 tiles of a warp's output

  /// Steps of Q K^T that are unrolled. Next to 192 accumulators nvcc 13.0 loads the operands of all
  /// eight so early that it spills.
  static constexpr int kStepsAtOnce =
      kRowTiles * 4 * (kDimTiles + kKeyTiles) >= 192 ? 2 : kDim / 16;

  static constexpr int kQBytes = kRows * kDim * 2;
  static constexpr int kKeyBytes = kKeys * kDim * 2;  // of one stage of K or V
  /// fp32 rows that the warps exchange when they merge; shares the memory of K and V.
  static constexpr int kMergeRow = kDim + 4;
  static constexpr int kMergeBytes = kWarpsN > 1 ? kWarpsN* kRows*(kMergeRow + 2) * 4 : 0;
  static constexpr int kTileBytes =
      kQBytes + (2 * kStages * kKeyBytes > kMergeBytes ? 2 * kStages * kKeyBytes : kMergeBytes);
  /// Where the rows of two tiles of paged keys lie, in K and in V. Behind all else: only blocks of
  /// paged calls have it.
  static constexpr int kOffsetBytes = 2 * 2 * kKeys * 8;
  static constexpr int kSharedBytes =
      kTileBytes + static_cast<int>(sizeof(BlockFacts)) + kOffsetBytes;

  static_assert(kRows % (16 * kWarpsM) == 0 && kRowTiles >= 1);
  static_assert(kKeys <= kThreads, "a thread notes where a paged row lies");
  static_assert(kWarpKeys % 16 == 0, "P becomes an A operand 16 keys at a time");
  static_assert(kSharedBytes <= 99 * 1024, "sm_86 and sm_89 have 99 KiB a block");
};

// Registers of a thread: kRowTiles * 4 * (kDimTiles + kKeyTiles) accumulators, of 255 where one
// block and of 168 (256 threads) or 255 (128 threads) where two are resident.
//
//   dim | wide: rows x keys, warps, stages, KiB, accumulators | narrow (decode)
//    32 |       128 x 64    4 x 1  2  24   96                 | 16 x 128  1 x 4  2  33
//    64 |       128 x 64    4 x 1  2  48  128                 | 16 x 64   1 x 4  2  34
//    96 |       128 x 64    4 x 1  1  48  160                 | 16 x 64   1 x 4  2  51
//   128 |       128 x 64    4 x 1  1  64  192                 | 16 x 64   1 x 4  2  68
//   192 |       128 x 64    8 x 1  1  96  128                 | 16 x 64   1 x 4  1  54
//   256 |       128 x 32    8 x 1  1  96  144                 | 16 x 64   1 x 4  1  72
template <int kDim>
struct TilesFor;
template <>
struct TilesFor<32> {
  using Wide = ForwardTile<32, 128, 64, 4, 1, 2, 2>;
  using Narrow = ForwardTile<32, 16, 128, 1, 4, 2, 2>;
};
template <>
struct TilesFor<64> {
  using Wide = ForwardTile<64, 128, 64, 4, 1, 2, 2>;
  using Narrow = ForwardTile<64, 16, 64, 1, 4, 2, 2>;
};
template <>
struct TilesFor<96> {
  using Wide = ForwardTile<96, 128, 64, 4, 1, 1, 2>;
  using Narrow = ForwardTile<96, 16, 64, 1, 4, 2, 2>;
};
template <>
struct TilesFor<128> {
  using Wide = ForwardTile<128, 128, 64, 4, 1, 1, 2>;
  using Narrow = ForwardTile<128, 16, 64, 1, 4, 2, 2>;
};
template <>
struct TilesFor<192> {
  using Wide = ForwardTile<192, 128, 64, 8, 1, 1, 1>;
  using Narrow = ForwardTile<192, 16, 64, 1, 4, 1, 2>;
};
template <>
struct TilesFor<256> {
  using Wide = ForwardTile<256, 128, 32, 8, 1, 1, 1>;
  using Narrow = ForwardTile<256, 16, 64, 1, 4, 1, 2>;
};

/// The smallest tile width that holds `dim` columns; dim is at most 256.
constexpr int padded_dim(int dim) {
  return dim <= 32    ? 32
         : dim <= 64  ? 64
         : dim <= 96  ? 96
         : dim <= 128 ? 128
         : dim <= 192 ? 192
                      : 256;
}

}  // namespace kernelhub::flash_attention::cuda
