// SPDX-License-Identifier: Apache-2.0
// Where things lie: tiles in shared memory, and matrix fragments in the registers of a warp
// (PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix"). Pure arithmetic.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

namespace kernelhub::flash_attention::cuda {

constexpr int kWarp = 32;
constexpr int kChunk = 8;  // 16-bit elements that one 16-byte access moves

struct alignas(16) Bits128 {
  std::uint32_t word[4];
};

/// A [rows, kCols] tile of 16-bit elements in shared memory. The 16-byte chunks of a row are
/// permuted so that eight rows of one chunk column lie in eight different bank groups: ldmatrix
/// then reads 128 bytes in one pass, without padding. All results count bytes.
template <int kCols>
struct SharedTile {
  static_assert(kCols % 32 == 0, "the permutation moves chunks within groups of four or eight");
  static constexpr int kChunks = kCols / kChunk;
  static constexpr int kPitch = kCols * 2;

  /// The bits of a column's byte offset that are flipped in `row`; repeats every eight rows.
  __host__ __device__ static constexpr int flips(int row) {
    return (kCols % 64 == 0 ? row & 7 : (row >> 1) & 3) * 16;
  }
  __host__ __device__ static constexpr int at(int row, int chunk) {
    return row * kPitch + ((chunk * 16) ^ flips(row));
  }
};

/// Coordinates in a fragment, by lane.
struct Fragment {
  /// Accumulator c[2 * half + i] of lane: row 8 * half + row(lane), column column(lane) + i.
  __host__ __device__ static constexpr int row(int lane) { return lane / 4; }
  __host__ __device__ static constexpr int column(int lane) { return lane % 4 * 2; }

  /// ldmatrix.x4 address of `lane` for 16 x 16 elements that become the A operand, or, transposed
  /// from [k, n] storage, two B operands: row of the tile, and which half of the 16 columns.
  __host__ __device__ static constexpr int row_by_16(int lane) { return lane % 16; }
  __host__ __device__ static constexpr int half_by_16(int lane) { return lane / 16; }

  /// ldmatrix.x4 address of `lane` for [n = 16, k = 16] storage that becomes two B operands.
  __host__ __device__ static constexpr int row_by_pairs(int lane) {
    return lane / 16 * 8 + lane % 8;
  }
  __host__ __device__ static constexpr int half_by_pairs(int lane) { return lane / 8 % 2; }
};

}  // namespace kernelhub::flash_attention::cuda
