// SPDX-License-Identifier: Apache-2.0
// Which key tiles a block of queries has to visit. Pure arithmetic, the same on host and device.
#pragma once

#include "flash_attention/sequence.h"

namespace kernelhub::flash_attention::cuda {

/// Tiles [begin, end) of `tile_keys` keys that some query of [first, last] sees. Both bounds of
/// visible_keys only grow with the query, so the outer two queries decide.
KERNELHUB_HOST_DEVICE inline KeyRange visible_tiles(const Params& params, const Sequence& sequence,
                                                    std::int64_t first, std::int64_t last,
                                                    int tile_keys) {
  if (last >= sequence.q_rows) last = sequence.q_rows - 1;
  if (first > last) return {0, 0};
  const std::int64_t begin = visible_keys(params, sequence, first).begin;
  const std::int64_t end = visible_keys(params, sequence, last).end;
  if (end <= begin) return {0, 0};
  return {begin / tile_keys, (end + tile_keys - 1) / tile_keys};
}

/// Tiles [begin, end) whose keys every query of [first, last] sees: they need no mask.
KERNELHUB_HOST_DEVICE inline KeyRange whole_tiles(const Params& params, const Sequence& sequence,
                                                  std::int64_t first, std::int64_t last,
                                                  int tile_keys) {
  if (last >= sequence.q_rows) return {0, 0};
  const std::int64_t begin = visible_keys(params, sequence, last).begin;
  const std::int64_t end = visible_keys(params, sequence, first).end;
  return {(begin + tile_keys - 1) / tile_keys, end / tile_keys};
}

/// Share `split` of `splits` of the tiles: equal counts, the last shares perhaps shorter or empty.
KERNELHUB_HOST_DEVICE inline KeyRange split_tiles(KeyRange tiles, std::int64_t split,
                                                  std::int64_t splits) {
  const std::int64_t share = (tiles.end - tiles.begin + splits - 1) / splits;
  const std::int64_t begin = tiles.begin + split * share;
  const std::int64_t end = begin + share;
  return {begin < tiles.end ? begin : tiles.end, end < tiles.end ? end : tiles.end};
}

}  // namespace kernelhub::flash_attention::cuda
