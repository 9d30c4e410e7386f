// SPDX-License-Identifier: Apache-2.0
// What TMA and wgmma are told of tiles (PTX ISA, "Tensors" and "Asynchronous Warpgroup Level Matrix
// Shared Memory Layout"). Pure arithmetic.
//
// A tile lies in panels of 64 or 32 columns, 128 or 64 bytes a row, one behind the other. TMA
// writes them with the swizzle of a row's bytes: chunks of 16 bytes are flipped by bits of the
// address, bits 4 to 6 by bits 7 to 9 in rows of 128 bytes, bits 4 and 5 by bits 7 and 8 in rows
// of 64. wgmma undoes it by the same bits. Either way eight rows of a chunk column lie in eight
// bank groups.
#pragma once

#include <cuda_runtime_api.h>

#include "flash_attention/params.h"

namespace kernelhub::flash_attention::cuda {

constexpr int kBoxDims = 5;

/// Bytes after which the swizzle of panels of 64 or 32 columns repeats: they start at multiples.
__host__ __device__ constexpr int swizzle_bytes(int panel_cols) { return 8 * panel_cols * 2; }

/// A 16-bit tensor [batch, key head, row, head within the key head's group, column] and the box of
/// it that one copy moves; innermost first. What a box has beyond the tensor becomes zero.
struct BoxedTensor {
  const void* data;
  std::uint64_t sizes[kBoxDims];
  std::uint64_t byte_strides[kBoxDims - 1];  // of dimensions 1 and up; multiples of 16
  std::uint32_t box[kBoxDims];
};

/// Sizes of a tensor that is copied in boxes.
struct BoxedSizes {
  std::int64_t cols;
  std::int64_t group;  // query heads of a key head; 1 of keys and values
  std::int64_t rows;
  std::int64_t heads;  // groups
  std::int64_t batch;
};

/// The box of a copy is a panel: `box_cols` columns of `box_rows` rows with all heads of a group.
inline BoxedTensor boxed_tensor(const void* data, const Strides& strides, const BoxedSizes& sizes,
                                std::int64_t box_cols, std::int64_t box_rows) {
  const std::int64_t all[kBoxDims] = {sizes.cols, sizes.group, sizes.rows, sizes.heads,
                                      sizes.batch};
  const std::int64_t steps[kBoxDims - 1] = {strides.head, strides.row, strides.head * sizes.group,
                                            strides.batch};
  const std::int64_t box[kBoxDims] = {box_cols, sizes.group, box_rows, 1, 1};
  BoxedTensor tensor{};
  tensor.data = data;
  for (int i = 0; i < kBoxDims; ++i) {
    tensor.sizes[i] = static_cast<std::uint64_t>(all[i]);
    tensor.box[i] = static_cast<std::uint32_t>(box[i]);
  }
  for (int i = 0; i + 1 < kBoxDims; ++i) {
    // Nobody steps along a dimension of size 1, whose stride may be anything.
    const std::int64_t step = all[i + 1] > 1 ? steps[i] : sizes.cols;
    tensor.byte_strides[i] = static_cast<std::uint64_t>(step) * 2;
  }
  return tensor;
}

/// Names a swizzled operand in shared memory to wgmma. `panel_bytes`: from one panel to the next
/// where columns are the outer dimension of the product (V); unused where they are summed over (Q,
/// K).
__host__ __device__ constexpr std::uint64_t matrix_descriptor(std::uint32_t address, int panel_cols,
                                                              std::uint32_t panel_bytes) {
  constexpr std::uint64_t kSwizzle128 = 1;
  constexpr std::uint64_t kSwizzle64 = 2;
  const std::uint64_t stride = static_cast<std::uint64_t>(swizzle_bytes(panel_cols));
  return (address & 0x3ffff) >> 4 | std::uint64_t{panel_bytes >> 4} << 16 | stride >> 4 << 32 |
         (panel_cols == 64 ? kSwizzle128 : kSwizzle64) << 62;
}

/// The operand `bytes` further on; a multiple of 16.
__host__ __device__ constexpr std::uint64_t moved(std::uint64_t descriptor, int bytes) {
  return descriptor + static_cast<std::uint64_t>(bytes >> 4);
}

}  // namespace kernelhub::flash_attention::cuda
