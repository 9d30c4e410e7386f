// SPDX-License-Identifier: Apache-2.0
// Attention forward on mma.sync and cp.async (sm_80 and later), one thread block per block of query
// rows and key head:
//   out = softmax(mask(scale * q k^T)) v,  lse = log(sum(exp(mask(scale * q k^T))))
// q, k, v, out fp16 or bf16; scores, softmax, sums and lse fp32; P is rounded to the dtype before
// P v. No matrix of scores is stored: keys are visited tile by tile and the softmax is carried
// along, rescaled whenever a larger score appears.
//
//   tile t            K t landed       V t landed
//   copies   | V t+S-1 ------------> | K t+S --------------------> |
//   math     | S = Q K^T             | mask, softmax, O = O f + P V |
//
// S stages of K and of V. Each half of a turn waits for its tile and for all warps, then starts the
// copy into the stage that the half before left, so that copies run under the whole turn.
// Bytes per query row: q and out once; K and V once per row block, mostly from L2.
// Archs: sm_80 and later; --use_fast_math is not needed, approximate units are called by name.
// Sources: M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax",
// arXiv:1805.02867; T. Dao et al., "FlashAttention", arXiv:2205.14135; T. Dao, "FlashAttention-2",
// arXiv:2307.08691; split keys: T. Dao et al., "Flash-Decoding", 2023.
#pragma once

#include "flash_attention_cuda/forward_plan.h"
#include "flash_attention_cuda/forward_tiles.h"
#include "flash_attention_cuda/key_tiles.h"
#include "flash_attention_cuda/rotate.cuh"
#include "flash_attention_cuda/softmax_rows.cuh"

namespace kernelhub::flash_attention::cuda {

/// Copies `kRows` rows into a shared tile in the background; absent rows and the columns from
/// `cols` on become zero, so that no stray NaN meets a weight of zero. `row_at(row)` is null where
/// absent.
template <class T, class Hw, int kRows, int kCols, int kThreads, class RowAt>
__device__ __forceinline__ void copy_tile(unsigned char* tile, int cols, const RowAt& row_at) {
  using Layout = SharedTile<kCols>;
  constexpr int kChunks = kRows * Layout::kChunks;
  const int thread = Hw::opaque(Hw::thread());
  const std::uint32_t to = Hw::shared_address(tile);
  // Four: the addresses of eight rows beside 192 accumulators make nvcc 13.0 spill.
#pragma unroll 4
  for (int turn = 0; turn < (kChunks + kThreads - 1) / kThreads; ++turn) {
    const int index = thread + turn * kThreads;
    if (kChunks % kThreads != 0 && index >= kChunks) break;
    const int row = index / Layout::kChunks;
    const int chunk = index % Layout::kChunks;
    const T* from = row_at(row);
    Hw::copy_async(to + Layout::at(row, chunk), from + chunk * kChunk,
                   from != nullptr && chunk * kChunk < cols);
  }
}

/// The same at once and element by element, for rows at any address.
template <class T, class Hw, int kRows, int kCols, int kThreads, class RowAt>
__device__ __forceinline__ void load_tile(unsigned char* tile, int cols, const RowAt& row_at) {
  using Layout = SharedTile<kCols>;
#pragma unroll 1
  for (int index = Hw::thread(); index < kRows * kCols; index += kThreads) {
    const int row = index / kCols;
    const int column = index % kCols;
    const T* from = row_at(row);
    T* to = reinterpret_cast<T*>(tile + Layout::at(row, column / kChunk)) + column % kChunk;
    *to = from != nullptr && column < cols ? from[column] : static_cast<T>(0.0f);
  }
}

template <class T, class Tile, class Hw>
class ForwardBlock {
 public:
  __device__ __forceinline__ ForwardBlock(const ForwardCall& call, unsigned char* shared)
      : params_(call.params),
        call_(call),
        facts_(reinterpret_cast<BlockFacts*>(shared + Tile::kTileBytes)),
        shared_(shared) {}

  __device__ __forceinline__ void run(std::int64_t work) {
    if (Hw::thread() == 0) *facts_ = facts_of(block_work(call_, work));
    Hw::sync_block();
    if (facts_->first_row < facts_->row_count) attend();
  }

 private:
  static constexpr int kRowTiles = Tile::kRowTiles;
  using QLayout = SharedTile<Tile::kDim>;
  using Scores = float[kRowTiles][Tile::kKeyTiles][4];
  using Output = float[kRowTiles][Tile::kDimTiles][4];

  __device__ __forceinline__ BlockFacts facts_of(const BlockWork& work) const {
    BlockFacts facts;
    const Sequence sequence = sequence_at(call_, work.sequence);
    facts.sequence = sequence;
    facts.pages = sequence.k_rows > 0 ? pages_of(params_, sequence) : nullptr;
    const auto first_key = [&](const void* data, const Strides& strides) {
      const T* head = static_cast<const T*>(data) + work.head_k * strides.head;
      return facts.pages != nullptr
                 ? head
                 : head + sequence.k_batch * strides.batch + sequence.k_begin * strides.row;
    };
    facts.k = first_key(params_.k, params_.k_strides);
    facts.v = first_key(params_.v, params_.v_strides);
    facts.head_k = work.head_k;
    facts.split = work.split;
    facts.group = static_cast<int>(params_.heads_q / params_.heads_k);
    facts.first_row = static_cast<int>(work.row_block) * Tile::kRows;
    facts.row_count = static_cast<int>(sequence.q_allocated) * facts.group;
    const int end_row = facts.first_row + Tile::kRows;
    const int last_row = (end_row < facts.row_count ? end_row : facts.row_count) - 1;
    const int first = facts.first_row / facts.group;
    const int last = last_row / facts.group;
    const KeyRange tiles = split_tiles(visible_tiles(params_, sequence, first, last, Tile::kKeys),
                                       work.split, call_.splits);
    const KeyRange whole = whole_tiles(params_, sequence, first, last, Tile::kKeys);
    const float scale = static_cast<float>(params_.scale);
    facts.is_shaped = params_.softcap != 0.0 || params_.alibi_slopes != nullptr || !(scale > 0.0f);
    facts.exponent = facts.is_shaped ? 1.0f : scale * kLog2E;
    facts.first_tile = static_cast<int>(tiles.begin);
    facts.end_tile = static_cast<int>(tiles.end);
    facts.end_copied = call_.is_vectorized ? facts.end_tile : facts.first_tile;
    facts.first_whole = static_cast<int>(whole.begin);
    facts.end_whole = static_cast<int>(whole.end);
    return facts;
  }

  __device__ __forceinline__ void attend() {
    Output o = {};
    RowSoftmax softmax[2 * kRowTiles];
#pragma unroll
    for (RowSoftmax& row : softmax) row = {kMinusInf, 0.0f};
    int tile = facts_->first_tile;
    if (tile < facts_->end_tile) start_copies(tile);
    if (tile < facts_->end_tile && params_.rotary.pairs > 0) rotate_q();
    for (int stage = 0; tile < facts_->end_tile; ++tile) {
      // K of this tile is here, and every warp is done with the V stage that is filled next.
      Hw::template wait_copies<2 * (Tile::kStages - 1)>();
      Hw::sync_block();
      if (!call_.is_vectorized) load_elements(tile, stage);
      copy_v(tile + Tile::kStages - 1, stage == 0 ? Tile::kStages - 1 : stage - 1);
      const std::int32_t page = page_of_row(tile + Tile::kStages);
      Scores scores = {};
      multiply_q_k(scores, k_tiles() + stage * Tile::kKeyBytes);
      note_offsets(tile + Tile::kStages, page);

      // V of this tile is here, and every warp is done with its K stage.
      Hw::template wait_copies<2 * (Tile::kStages - 1)>();
      Hw::sync_block();
      copy_k(tile + Tile::kStages, stage);
      const int key = tile * Tile::kKeys;
      if (facts_->is_shaped) shape_scores(scores, key);
      if (tile < facts_->first_whole || tile >= facts_->end_whole) mask_scores(scores, key);
      advance_softmax(scores, softmax, o);
      multiply_p_v(scores, o, v_tiles() + stage * Tile::kKeyBytes);
      stage = stage + 1 < Tile::kStages ? stage + 1 : 0;
    }
    finish(softmax, o);
  }

  __device__ __forceinline__ static int lane_id() { return Hw::thread() % kWarp; }
  __device__ __forceinline__ static int warp_m() {
    return Tile::kWarpsM == 1 ? 0 : Hw::thread() / kWarp % Tile::kWarpsM;
  }
  __device__ __forceinline__ static int warp_n() {
    return Tile::kWarpsN == 1 ? 0 : Hw::thread() / kWarp / Tile::kWarpsM;
  }

  /// T [kRows, kDim]; the warps' output rows at the end.
  __device__ __forceinline__ unsigned char* q_tile() const { return shared_; }
  /// T [kStages, kKeys, kDim]
  __device__ __forceinline__ unsigned char* k_tiles() const { return shared_ + Tile::kQBytes; }
  /// T [kStages, kKeys, kDim]
  __device__ __forceinline__ unsigned char* v_tiles() const {
    return k_tiles() + Tile::kStages * Tile::kKeyBytes;
  }

  /// The query heads that share a key head lie side by side: packed row p of a sequence is token
  /// p / group of head p % group, so that a decode step fills a tile and reads each key once.
  __device__ __forceinline__ bool has_row(int row) const {
    return facts_->first_row + row < facts_->row_count;
  }
  __device__ __forceinline__ int token(int row) const {
    return (facts_->first_row + row) / facts_->group;
  }
  __device__ __forceinline__ std::int64_t head(int row) const {
    return facts_->head_k * facts_->group + (facts_->first_row + row) % facts_->group;
  }

  /// Row of the block that accumulator half `half` of row tile `m` belongs to.
  __device__ __forceinline__ int row_of(int lane, int m, int half) const {
    return (warp_m() * kRowTiles + m) * 16 + half * 8 + Fragment::row(lane);
  }

  /// Key, within its tile, of the first accumulator column of score tile `n`.
  __device__ __forceinline__ int column_of(int lane, int n) const {
    return warp_n() * Tile::kWarpKeys + n * 8 + Fragment::column(lane);
  }

  __device__ __forceinline__ void start_copies(int first_tile) {
    const Sequence& sequence = facts_->sequence;
    const T* q = static_cast<const T*>(params_.q) + sequence.q_batch * params_.q_strides.batch +
                 sequence.q_begin * params_.q_strides.row;
    const auto row_at = [&](int row) -> const T* {
      if (!has_row(row)) return nullptr;
      return q + token(row) * params_.q_strides.row + head(row) * params_.q_strides.head;
    };
    const int cols = static_cast<int>(params_.head_dim);
    if (call_.is_vectorized) {
      copy_tile<T, Hw, Tile::kRows, Tile::kDim, Tile::kThreads>(q_tile(), cols, row_at);
    } else {
      load_tile<T, Hw, Tile::kRows, Tile::kDim, Tile::kThreads>(q_tile(), cols, row_at);
    }
    if (facts_->pages != nullptr) {
      for (int tile = first_tile; tile < first_tile + Tile::kStages; ++tile) {
        note_offsets(tile, page_of_row(tile));
      }
      Hw::sync_block();
    }
#pragma unroll
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      copy_k(first_tile + stage, stage);
      if (stage + 1 < Tile::kStages) copy_v(first_tile + stage, stage);
    }
  }

  /// Rotates pairs of columns of the query rows in place, once they are here; not those of a
  /// position that the tables lack.
  __device__ __forceinline__ void rotate_q() const {
    Hw::template wait_copies<0>();
    Hw::sync_block();
    const Rotary& rotary = params_.rotary;
    const int pairs = static_cast<int>(rotary.pairs);
    const std::int64_t first = rotary.first_positions[facts_->sequence.index];
#pragma unroll 1
    for (int index = Hw::thread(); index < Tile::kRows * pairs; index += Tile::kThreads) {
      const int row = index / pairs;
      const int pair = index % pairs;
      const std::int64_t position = rotary.advances ? first + token(row) : first;
      if (token(row) >= facts_->sequence.q_rows || !has_position(rotary, position)) continue;
      T& x = q_element(row, rotary.is_interleaved ? 2 * pair : pair);
      T& y = q_element(row, rotary.is_interleaved ? 2 * pair + 1 : pair + pairs);
      rotate_pair(rotary, position, pair, x, y);
    }
    Hw::sync_block();
  }

  __device__ __forceinline__ T& q_element(int row, int column) const {
    return reinterpret_cast<T*>(q_tile() + QLayout::at(row, column / kChunk))[column % kChunk];
  }

  /// One group of copies, empty past the last tile: the count of groups under way stays the same.
  __device__ __forceinline__ void copy_k(int tile, int stage) {
    if (tile < facts_->end_copied) {
      with_copied_rows(
          facts_->k, params_.k_strides, k_offsets(tile), tile, [&](const auto& row_at) {
            copy_tile<T, Hw, Tile::kKeys, Tile::kDim, Tile::kThreads>(
                k_tiles() + stage * Tile::kKeyBytes, static_cast<int>(params_.head_dim), row_at);
          });
    }
    Hw::commit_copies();
  }

  __device__ __forceinline__ void copy_v(int tile, int stage) {
    if (tile < facts_->end_copied) {
      with_copied_rows(
          facts_->v, params_.v_strides, v_offsets(tile), tile, [&](const auto& row_at) {
            copy_tile<T, Hw, Tile::kKeys, Tile::kDim, Tile::kThreads>(
                v_tiles() + stage * Tile::kKeyBytes, static_cast<int>(params_.head_dim_v), row_at);
          });
    }
    Hw::commit_copies();
  }

  /// K and V of this turn, where rows allow no 16-byte copies.
  __device__ __forceinline__ void load_elements(int tile, int stage) {
    with_k_rows(tile, [&](const auto& row_at) {
      load_tile<T, Hw, Tile::kKeys, Tile::kDim, Tile::kThreads>(
          k_tiles() + stage * Tile::kKeyBytes, static_cast<int>(params_.head_dim), row_at);
    });
    with_v_rows(tile, [&](const auto& row_at) {
      load_tile<T, Hw, Tile::kKeys, Tile::kDim, Tile::kThreads>(
          v_tiles() + stage * Tile::kKeyBytes, static_cast<int>(params_.head_dim_v), row_at);
    });
    Hw::sync_block();
  }

  template <class Use>
  __device__ __forceinline__ void with_k_rows(int tile, const Use& use) const {
    with_rows(static_cast<const T*>(facts_->k), params_.k_strides, tile, use);
  }
  template <class Use>
  __device__ __forceinline__ void with_v_rows(int tile, const Use& use) const {
    with_rows(static_cast<const T*>(facts_->v), params_.v_strides, tile, use);
  }

  /// Elements from page 0 to the rows of a tile of paged keys, -1 where there is no key. Of two
  /// tiles in turn: while V of one is copied, those of the next are noted.
  __device__ __forceinline__ std::int64_t* k_offsets(int tile) const {
    return reinterpret_cast<std::int64_t*>(shared_ + Tile::kTileBytes + sizeof(BlockFacts)) +
           tile % 2 * 2 * Tile::kKeys;
  }
  __device__ __forceinline__ std::int64_t* v_offsets(int tile) const {
    return k_offsets(tile) + Tile::kKeys;
  }

  /// Whether this thread notes where a row of a tile lies: of paged keys that are copied.
  __device__ __forceinline__ bool notes_row(int tile) const {
    return facts_->pages != nullptr && tile < facts_->end_copied && Hw::thread() < Tile::kKeys;
  }
  __device__ __forceinline__ int keys_from(int tile) const {
    return static_cast<int>(facts_->sequence.k_rows) - tile * Tile::kKeys;
  }
  /// Of a row of a tile, in the sequence's list of pages.
  __device__ __forceinline__ unsigned slot_of(int tile, int row) const {
    return static_cast<unsigned>(facts_->sequence.k_begin) +
           static_cast<unsigned>(tile * Tile::kKeys + row);
  }

  /// The page of this thread's row; asked for while products run, and needed by note_offsets.
  __device__ __forceinline__ std::int32_t page_of_row(int tile) const {
    if (!notes_row(tile) || Hw::thread() >= keys_from(tile)) return 0;
    const unsigned page_size = static_cast<unsigned>(params_.lengths.page_size);
    return facts_->pages[slot_of(tile, Hw::thread()) / page_size];
  }

  /// Once for a row of K and V, not for each of their chunks. Read behind the block's next barrier.
  __device__ __forceinline__ void note_offsets(int tile, std::int32_t page) const {
    if (!notes_row(tile)) return;
    const int row = Hw::thread();
    const unsigned page_size = static_cast<unsigned>(params_.lengths.page_size);
    const unsigned in_page = slot_of(tile, row) % page_size;
    const auto offset = [&](const Strides& strides) {
      return row < keys_from(tile) ? page * strides.batch + in_page * strides.row : -1;
    };
    k_offsets(tile)[row] = offset(params_.k_strides);
    v_offsets(tile)[row] = offset(params_.v_strides);
  }

  /// `use` of the function that finds the rows of a tile of keys, for copies.
  template <class Use>
  __device__ __forceinline__ void with_copied_rows(const void* first, const Strides& strides,
                                                   const std::int64_t* offsets, int tile,
                                                   const Use& use) const {
    const T* from = static_cast<const T*>(first);
    if (facts_->pages != nullptr) {
      use([&](int row) -> const T* { return offsets[row] < 0 ? nullptr : from + offsets[row]; });
      return;
    }
    const int keys = keys_from(tile);
    from += std::int64_t{tile} * Tile::kKeys * strides.row;
    use([&](int row) -> const T* { return row < keys ? from + row * strides.row : nullptr; });
  }

  /// The same for loads, wherever the rows are.
  template <class Use>
  __device__ __forceinline__ void with_rows(const T* from, const Strides& strides, int tile,
                                            const Use& use) const {
    const std::int32_t* pages = facts_->pages;
    const std::int64_t page_size = params_.lengths.page_size;
    use([&](int row) -> const T* {
      if (row >= keys_from(tile)) return nullptr;
      const std::int64_t in_tile = std::int64_t{tile} * Tile::kKeys + row;
      if (pages == nullptr) return from + in_tile * strides.row;
      return from + cache_offset(pages, page_size, strides, 0, slot_of(tile, row));
    });
  }

  /// S = Q K^T, 16 columns of the head at a time.
  __device__ __forceinline__ void multiply_q_k(Scores& scores, const unsigned char* k_tile) const {
    const int lane = Hw::opaque(lane_id());
    const int q_row = Fragment::row_by_16(lane);
    const int k_row = Fragment::row_by_pairs(lane);
    const std::uint32_t q_rows =
        Hw::shared_address(q_tile()) + (warp_m() * kRowTiles * 16 + q_row) * QLayout::kPitch;
    const std::uint32_t k_rows =
        Hw::shared_address(k_tile) + (warp_n() * Tile::kWarpKeys + k_row) * QLayout::kPitch;
    // Within a step's 32 bytes; the step's own bits lie above.
    const int q_column = (Fragment::half_by_16(lane) * 16) ^ QLayout::flips(q_row);
    const int k_column = (Fragment::half_by_pairs(lane) * 16) ^ QLayout::flips(k_row);
#pragma unroll Tile::kStepsAtOnce
    for (int step = 0; step < Tile::kDim / 16; ++step) {
      std::uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        Hw::load_matrices(a[m], q_rows + (q_column ^ (step * 32)) + m * 16 * QLayout::kPitch);
      }
#pragma unroll
      for (int n = 0; n < Tile::kKeyTiles; n += 2) {
        std::uint32_t b[4];
        Hw::load_matrices(b, k_rows + (k_column ^ (step * 32)) + n * 8 * QLayout::kPitch);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          Hw::template multiply_add<T>(scores[m][n], a[m], b[0], b[1]);
          Hw::template multiply_add<T>(scores[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  /// Scale, soft cap and slopes; the scores are in units of log2 from here on.
  __device__ __forceinline__ void shape_scores(Scores& scores, int key) const {
    const int lane = Hw::opaque(lane_id());
    const float scale = static_cast<float>(params_.scale);
    const float cap = static_cast<float>(params_.softcap);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(lane, m, half);
        const float slope =
            params_.alibi_slopes != nullptr && has_row(row)
                ? params_
                      .alibi_slopes[facts_->sequence.index * params_.alibi_batch_stride + head(row)]
                : 0.0f;
        const int diagonal =
            token(row) + static_cast<int>(facts_->sequence.k_rows - facts_->sequence.q_rows);
#pragma unroll
        for (int n = 0; n < Tile::kKeyTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& score = scores[m][n][2 * half + i];
            const int distance = diagonal - (key + column_of(lane, n) + i);
            const float bias = slope * static_cast<float>(distance < 0 ? -distance : distance);
            const float scaled = score * scale;
            score = ((cap == 0.0f ? scaled : soft_capped<Hw>(scaled, cap)) - bias) * kLog2E;
          }
        }
      }
    }
  }

  __device__ __forceinline__ void mask_scores(Scores& scores, int key) const {
    const int lane = Hw::opaque(lane_id());
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const KeyRange range =
            visible_keys(params_, facts_->sequence, token(row_of(lane, m, half)));
        const int begin = static_cast<int>(range.begin) - key;
        const int end = static_cast<int>(range.end) - key;
#pragma unroll
        for (int n = 0; n < Tile::kKeyTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int column = column_of(lane, n) + i;
            if (column < begin || column >= end) scores[m][n][2 * half + i] = kMinusInf;
          }
        }
      }
    }
  }

  /// Scores become weights relative to the row's largest score; sums of before are rescaled.
  __device__ __forceinline__ void advance_softmax(Scores& scores,
                                                  RowSoftmax (&softmax)[2 * kRowTiles],
                                                  Output& o) const {
    const float exponent = facts_->exponent;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        RowSoftmax& row = softmax[2 * m + half];
        float largest = kMinusInf;
#pragma unroll
        for (int n = 0; n < Tile::kKeyTiles; ++n) {
          largest = fmaxf(largest, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
        }
        largest = fmaxf(largest, Hw::shuffle_xor(largest, 1));
        largest = fmaxf(largest, Hw::shuffle_xor(largest, 2));
        const float largest2 = fmaxf(row.largest2, largest * exponent);
        // A row that has seen no key yet keeps weights of exactly zero.
        const float shift = largest2 == kMinusInf ? 0.0f : largest2;
        const float factor = largest2 == kMinusInf ? 0.0f : Hw::exp2(row.largest2 - largest2);
        row.largest2 = largest2;
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < Tile::kKeyTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& score = scores[m][n][2 * half + i];
            score = Hw::exp2(fmaf(score, exponent, -shift));
            sum += score;
          }
        }
        row.sum = fmaf(row.sum, factor, sum);
#pragma unroll
        for (int d = 0; d < Tile::kDimTiles; ++d) {
          o[m][d][2 * half] *= factor;
          o[m][d][2 * half + 1] *= factor;
        }
      }
    }
  }

  /// O += P V, 16 keys at a time: two accumulator tiles of the scores are one A operand.
  __device__ __forceinline__ void multiply_p_v(const Scores& scores, Output& o,
                                               const unsigned char* v_tile) const {
    const int lane = Hw::opaque(lane_id());
    const int row = Fragment::row_by_16(lane);
    const std::uint32_t v_rows =
        Hw::shared_address(v_tile) + (warp_n() * Tile::kWarpKeys + row) * QLayout::kPitch;
    const int column = (Fragment::half_by_16(lane) * 16) ^ QLayout::flips(row);
#pragma unroll
    for (int step = 0; step < Tile::kWarpKeys / 16; ++step) {
      std::uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = scores[m][2 * step + i / 2];
          a[m][i] = Hw::template pack<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int d = 0; d < Tile::kDimTiles; d += 2) {
        std::uint32_t b[4];
        Hw::load_matrices_transposed(b, v_rows + (column ^ (d * 16)) + step * 16 * QLayout::kPitch);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          Hw::template multiply_add<T>(o[m][d], a[m], b[0], b[1]);
          Hw::template multiply_add<T>(o[m][d + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  /// The four lanes of a row add up their sums, then the row is normalised and stored.
  __device__ __forceinline__ void finish(RowSoftmax (&softmax)[2 * kRowTiles], Output& o) {
#pragma unroll
    for (RowSoftmax& row : softmax) {
      row.sum += Hw::shuffle_xor(row.sum, 1);
      row.sum += Hw::shuffle_xor(row.sum, 2);
    }
    if constexpr (Tile::kWarpsN == 1) {
      normalise(softmax, o);
      if (call_.splits == 1) {
        store_rows(o);
      } else {
        store_partial_rows(o);
      }
    } else {
      merge_warps(softmax, o);
    }
  }

  __device__ __forceinline__ float sink2(int row) const {
    if (params_.sinks == nullptr || call_.splits > 1 || !has_row(row)) return kMinusInf;
    return params_.sinks[head(row)] * kLog2E;
  }

  __device__ __forceinline__ void normalise(const RowSoftmax (&softmax)[2 * kRowTiles],
                                            Output& o) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(lane_id(), m, half);
        const RowSoftmax& sums = softmax[2 * m + half];
        const RowResult result = finish_row<Hw>(sums.largest2, sums.sum, sink2(row));
        if (lane_id() % 4 == 0) store_lse(row, result.lse);
#pragma unroll
        for (int d = 0; d < Tile::kDimTiles; ++d) {
          o[m][d][2 * half] = result.of(o[m][d][2 * half]);
          o[m][d][2 * half + 1] = result.of(o[m][d][2 * half + 1]);
        }
      }
    }
  }

  __device__ __forceinline__ void store_lse(int row, float lse) const {
    if (!has_row(row)) return;
    if (call_.splits > 1) {
      call_.partial_lse[partial_row(row)] = lse;
      return;
    }
    params_.lse[facts_->sequence.q_batch * params_.lse_batch_stride +
                head(row) * params_.lse_head_stride + facts_->sequence.q_begin + token(row)] = lse;
  }

  __device__ __forceinline__ std::int64_t partial_row(int row) const {
    const std::int64_t at =
        facts_->sequence.q_batch * params_.lengths.q + facts_->sequence.q_begin + token(row);
    return (facts_->split * call_.tokens + at) * params_.heads_q + head(row);
  }

  __device__ __forceinline__ T* out_row(int row) const {
    return static_cast<T*>(params_.out) + facts_->sequence.q_batch * params_.out_strides.batch +
           (facts_->sequence.q_begin + token(row)) * params_.out_strides.row +
           head(row) * params_.out_strides.head;
  }

  /// Through the warp's own rows of the Q tile, which nobody reads any more, to 16-byte stores.
  __device__ __forceinline__ void store_rows(const Output& o) const {
    Hw::sync_warp();
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int d = 0; d < Tile::kDimTiles; ++d) {
          unsigned char* to = q_tile() + QLayout::at(row_of(lane_id(), m, half), d) +
                              2 * Fragment::column(lane_id());
          *reinterpret_cast<std::uint32_t*>(to) =
              Hw::template pack<T>(o[m][d][2 * half], o[m][d][2 * half + 1]);
        }
      }
    }
    Hw::sync_warp();
    constexpr int kChunks = kRowTiles * 16 * QLayout::kChunks;
#pragma unroll 4
    for (int index = lane_id(); index < kChunks; index += kWarp) {
      const int row = warp_m() * kRowTiles * 16 + index / QLayout::kChunks;
      const int chunk = index % QLayout::kChunks;
      if (!has_row(row) || chunk * kChunk >= params_.head_dim_v) continue;
      const T* from = reinterpret_cast<const T*>(q_tile() + QLayout::at(row, chunk));
      T* to = out_row(row) + chunk * kChunk;
      if (call_.is_vectorized) {
        *reinterpret_cast<Bits128*>(to) = *reinterpret_cast<const Bits128*>(from);
      } else {
#pragma unroll 1
        for (int i = 0; i < kChunk && chunk * kChunk + i < params_.head_dim_v; ++i) to[i] = from[i];
      }
    }
  }

  __device__ __forceinline__ void store_partial_rows(const Output& o) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(lane_id(), m, half);
        if (!has_row(row)) continue;
        float* to = call_.partial_out + partial_row(row) * call_.partial_pitch +
                    Fragment::column(lane_id());
#pragma unroll
        for (int d = 0; d < Tile::kDimTiles; ++d) {
          if (d * 8 >= call_.partial_pitch) break;
          to[d * 8] = o[m][d][2 * half];
          to[d * 8 + 1] = o[m][d][2 * half + 1];
        }
      }
    }
  }

  /// The warps of a row group have seen different keys: each rescales its sums to the largest score
  /// of all, then the block adds them up from shared memory.
  __device__ __forceinline__ void merge_warps(const RowSoftmax (&softmax)[2 * kRowTiles],
                                              const Output& o) {
    float* sums = reinterpret_cast<float*>(k_tiles());  // [kWarpsN, kRows, kMergeRow]
    float* largest = sums + Tile::kWarpsN * Tile::kRows * Tile::kMergeRow;  // [kWarpsN, kRows]
    float* totals = largest + Tile::kWarpsN * Tile::kRows;                  // [kWarpsN, kRows]
    Hw::sync_block();
#pragma unroll
    for (int r = 0; r < 2 * kRowTiles; ++r) {
      const int at = warp_n() * Tile::kRows + row_of(lane_id(), r / 2, r % 2);
      if (lane_id() % 4 == 0) {
        largest[at] = softmax[r].largest2;
        totals[at] = softmax[r].sum;
      }
#pragma unroll
      for (int d = 0; d < Tile::kDimTiles; ++d) {
        float* to = sums + at * Tile::kMergeRow + d * 8 + Fragment::column(lane_id());
        to[0] = o[r / 2][d][r % 2 * 2];
        to[1] = o[r / 2][d][r % 2 * 2 + 1];
      }
    }
    Hw::sync_block();
    constexpr int kQuads = Tile::kDim / 4;
    for (int index = Hw::thread(); index < Tile::kRows * kQuads; index += Tile::kThreads) {
      const int row = index / kQuads;
      const int column = index % kQuads * 4;
      if (!has_row(row) || column >= params_.head_dim_v) continue;
      float top = kMinusInf;
#pragma unroll
      for (int w = 0; w < Tile::kWarpsN; ++w) top = fmaxf(top, largest[w * Tile::kRows + row]);
      float total = 0.0f;
      float quad[4] = {};
#pragma unroll
      for (int w = 0; w < Tile::kWarpsN; ++w) {
        const int at = w * Tile::kRows + row;
        const float factor = largest[at] == kMinusInf ? 0.0f : Hw::exp2(largest[at] - top);
        total += totals[at] * factor;
#pragma unroll
        for (int i = 0; i < 4; ++i) quad[i] += sums[at * Tile::kMergeRow + column + i] * factor;
      }
      const RowResult result = finish_row<Hw>(top, total, sink2(row));
      if (column == 0) store_lse(row, result.lse);
      for (float& sum : quad) sum = result.of(sum);
      store_quad(row, column, quad);
    }
  }

  __device__ __forceinline__ void store_quad(int row, int column, const float (&quad)[4]) const {
    if (call_.splits > 1) {
      float* to = call_.partial_out + partial_row(row) * call_.partial_pitch + column;
#pragma unroll
      for (int i = 0; i < 4; ++i) to[i] = quad[i];
      return;
    }
    T* to = out_row(row) + column;
    const std::uint32_t low = Hw::template pack<T>(quad[0], quad[1]);
    const std::uint32_t high = Hw::template pack<T>(quad[2], quad[3]);
    if (call_.is_vectorized) {
      *reinterpret_cast<std::uint64_t*>(to) = low | std::uint64_t{high} << 32;
      return;
    }
    const std::uint32_t pairs[2] = {low, high};
    const T* from = reinterpret_cast<const T*>(pairs);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + i < params_.head_dim_v) to[i] = from[i];
    }
  }

  const Params& params_;
  const ForwardCall& call_;
  BlockFacts* facts_;
  unsigned char* shared_;
};

}  // namespace kernelhub::flash_attention::cuda
