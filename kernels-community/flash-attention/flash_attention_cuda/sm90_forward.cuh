// SPDX-License-Identifier: Apache-2.0
// Attention forward on wgmma and TMA (sm_90a), one resident block per multiprocessor:
//   out = softmax(mask(scale * q k^T)) v,  lse = log(sum(exp(mask(scale * q k^T))))
// q, k, v, out fp16 or bf16; scores, softmax, sums and lse fp32; P is rounded to the dtype before
// P v. What is computed is what sm80_forward.cuh computes; how differs:
//
//   producer   | K t+1 > | V t > | K t+2 > | V t+1 > |         one thread, copies by TMA
//                  v       v         v         v               stages of K and V in shared memory
//   consumer 0 | S t+1 = Q K^T, O += P t V | softmax t+1           | S t+2, O += ...     |
//   consumer 1 | softmax t                 | S t+1, O += P t V     | softmax t+1         |
//                                          ^ turns: named barriers
//
// - A thread of the producer copies Q, K and V ahead, as far as there are stages; barriers in
//   shared memory say what has landed (full) and what may be overwritten (empty). A warp beside it
//   clears what a box of V holds of the next sequence.
// - Each consumer warpgroup has 64 of the rows. It hands both products of a turn to the tensor
//   cores and passes the turn on: the softmax of one runs under the products of the other.
// - Within a warpgroup the next S is begun before this O += P V: while the softmax of the next tile
//   is computed, P V may still run. P stays in registers, as the first operand.
// - Blocks are persistent. The works come as forward_plan.h deals them out: section by section, so
//   that keys are read from L2, and the longest of a section with its shortest, so that under a
//   causal mask every block has as much to do. Varlen sequences, whose lengths the host does not
//   know, are taken in block_work's order by whichever block is free.
// - Q and the first K of the next work are copied under the last softmax of this one, its last
//   O += P V and its end.
// Bytes per query row: q and out once; K and V once per 128 rows, mostly from L2.
// Archs: sm_90a only.
// Sources: T. Dao et al., "FlashAttention", arXiv:2205.14135; T. Dao, "FlashAttention-2",
// arXiv:2307.08691; J. Shah et al., "FlashAttention-3", arXiv:2407.08608.
#pragma once

#include "flash_attention_cuda/forward_plan.h"
#include "flash_attention_cuda/key_tiles.h"
#include "flash_attention_cuda/sm90_tiles.h"
#include "flash_attention_cuda/softmax_rows.cuh"
#include "flash_attention_cuda/tile_layout.h"

namespace kernelhub::flash_attention::cuda {

/// A call as the kernel takes it. `TensorMap` is what copies take a BoxedTensor as.
template <class TensorMap>
struct Sm90Call {
  ForwardCall call;
  TensorMap q;
  TensorMap k;
  TensorMap v;
};

/// Stage of a ring and the parity of the round that it is in.
template <int kStages>
struct Ring {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <class T, class Tile, class Hw>
class WarpgroupForward {
 public:
  using Call = Sm90Call<typename Hw::TensorMap>;

  __device__ __forceinline__ WarpgroupForward(const Call& call, unsigned char* shared)
      : params_(call.call.params), call_(call) {
    const std::uint32_t address = Hw::shared_address(shared);
    constexpr std::uint32_t kUnit = swizzle_bytes(Tile::kPanelCols);
    const std::uint32_t aligned = (address + kUnit - 1) / kUnit * kUnit;
    tiles_ = shared + (aligned - address);
    mail_ = reinterpret_cast<Mailbox<Tile>*>(tiles_ + Tile::kTileBytes);
  }

  /// The works of block `block` of `blocks`.
  __device__ __forceinline__ void run(int block, int blocks) {
    if (Hw::thread() == 0) {
      Hw::prefetch_map(call_.q);
      Hw::prefetch_map(call_.k);
      Hw::prefetch_map(call_.v);
      init_barriers();
    }
    Hw::sync_block();
    if (Hw::thread() < kWarpgroup) {
      Hw::template shrink_registers<Tile::kProducerRegisters>();
      if (Hw::thread() == 0) {
        produce(block, blocks);
      } else if (Hw::thread() / kWarp == kClearingWarp) {
        clear_tails();
      }
    } else {
      Hw::template grow_registers<Tile::kConsumerRegisters>();
      consume();
    }
  }

 private:
  static_assert(kWarpgroupSharedBytes<Tile> <= 227 * 1024, "shared memory of a block");
  static constexpr int kKeySteps = Tile::kKeys / 16;
  static constexpr int kConsumerWarps = kConsumers * kWarpgroup / kWarp;
  static constexpr int kClearingWarp = 1;
  using Stages = Ring<Tile::kStages>;
  using Scores = float[Tile::kKeys / 2];
  using Weights = std::uint32_t[Tile::kKeys / 4];
  using Output = float[Tile::kDimV / 2];

  __device__ __forceinline__ void init_barriers() const {
    Hw::init_barrier(barrier(mail_->q_full), 1);
    Hw::init_barrier(barrier(mail_->q_empty), kConsumerWarps + 1);
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      Hw::init_barrier(barrier(mail_->k_full[stage]), 1);
      Hw::init_barrier(barrier(mail_->v_full[stage]), 1);
      Hw::init_barrier(barrier(mail_->v_landed[stage]), 1);
      Hw::init_barrier(barrier(mail_->k_empty[stage]), kConsumerWarps);
      Hw::init_barrier(barrier(mail_->v_empty[stage]), kConsumerWarps);
    }
    Hw::publish_barriers();
  }

  __device__ __forceinline__ static std::uint32_t barrier(const std::uint64_t& word) {
    return Hw::shared_address(&word);
  }
  __device__ __forceinline__ static int lane_id() { return Hw::thread() % kWarp; }

  /// Facts of work number `turn` of this block.
  __device__ __forceinline__ WorkFacts& facts_at(int turn) const {
    return mail_->facts[turn % kFactSlots];
  }

  // T [kConsumers, kPanels, 64, kPanelCols]
  __device__ __forceinline__ unsigned char* q_tile() const { return tiles_; }
  // T [kStages, kPanels, kKeys, kPanelCols]
  __device__ __forceinline__ unsigned char* k_tile(int stage) const {
    return tiles_ + Tile::kQBytes + stage * Tile::kKBytes;
  }
  // T [kStages, kPanelsV, kKeys, kPanelCols]
  __device__ __forceinline__ unsigned char* v_tile(int stage) const {
    return k_tile(Tile::kStages) + stage * Tile::kVBytes;
  }

  // ---- The producer: one thread, so that no lane can fall behind a phase that the others saw.

  __device__ __forceinline__ void produce(int block, int blocks) {
    Stages v;
    int turn = 0;
    // Opaque: what is computed from them alone is not kept in registers while tiles are copied.
    for (int deal = 0;; ++deal) {
      const std::int64_t work = next_work(Hw::opaque(block), Hw::opaque(blocks), deal);
      if (work >= block_works(call_.call)) break;
      if (work == kNoWork) continue;
      WorkFacts& facts = facts_at(turn);
      note_facts(block_work(call_.call, work), facts);
      if (facts.first_row >= facts.row_count) continue;
      Stages k = v;  // between works both are at the same stage
      if (facts.first_tile < facts.end_tile) copy_k(facts, facts.first_tile, k);
      hand_over(facts, turn++);
      copy_ahead(facts, k, v);
    }
    WorkFacts& end = facts_at(turn);
    end.first_tile = end.end_tile = 0;
    end.is_end = true;
    hand_over(end, turn);
  }

  /// Number `deal` of this block's works, or kNoWork; one that does not exist at the end. Blocks
  /// that take works when they are free take them in block_work's order: which block computes a
  /// work changes nothing in it.
  __device__ __forceinline__ std::int64_t next_work(int block, int blocks, int deal) const {
    const ForwardCall& call = call_.call;
    if (call.works_taken != nullptr) {
      return deal == 0 ? block
                       : blocks + static_cast<std::int64_t>(Hw::fetch_increment(call.works_taken));
    }
    return deal < deal_turns(call, blocks) ? dealt_work(call, block, blocks, deal)
                                           : block_works(call);
  }

  /// In shared memory at once: a thread of the producer has few registers.
  __device__ __forceinline__ void note_facts(const BlockWork& work, WorkFacts& facts) const {
    facts.sequence = sequence_at(call_.call, work.sequence);
    facts.head_k = static_cast<int>(work.head_k);
    facts.group = static_cast<int>(params_.heads_q / params_.heads_k);
    facts.first_row = static_cast<int>(work.row_block * call_.call.tile_rows);
    facts.row_count = static_cast<int>(facts.sequence.q_allocated) * facts.group;
    const int end_row = facts.first_row + static_cast<int>(call_.call.tile_rows);
    const int last_row = (end_row < facts.row_count ? end_row : facts.row_count) - 1;
    const int first = facts.first_row / facts.group;
    const int last = last_row / facts.group;
    const KeyRange tiles = visible_tiles(params_, facts.sequence, first, last, Tile::kKeys);
    const KeyRange whole = whole_tiles(params_, facts.sequence, first, last, Tile::kKeys);
    facts.first_tile = static_cast<int>(tiles.begin);
    facts.end_tile = static_cast<int>(tiles.end);
    facts.first_whole = static_cast<int>(whole.begin);
    facts.end_whole = static_cast<int>(whole.end);
    facts.kept_rows = kept_rows(facts.sequence, facts.end_tile - 1);
    const float scale = static_cast<float>(params_.scale);
    facts.is_shaped = params_.softcap != 0.0 || params_.alibi_slopes != nullptr || !(scale > 0.0f);
    facts.exponent = (facts.is_shaped ? 1.0f : scale) * kLog2E;
    facts.is_end = false;
  }

  /// Rows of tile `tile` of V that hold keys of the sequence, or, where nothing else follows them,
  /// as copies clear what lies behind the tensor, all.
  __device__ __forceinline__ int kept_rows(const Sequence& sequence, int tile) const {
    const std::int64_t rows = sequence.k_rows - std::int64_t{tile} * Tile::kKeys;
    const bool is_end_of_tensor = sequence.k_begin + sequence.k_rows >= key_rows(params_);
    return rows >= Tile::kKeys || is_end_of_tensor ? Tile::kKeys : static_cast<int>(rows);
  }

  /// Once Q of the work before has been read.
  __device__ __forceinline__ void hand_over(const WorkFacts& facts, int turn) const {
    Hw::wait_phase(barrier(mail_->q_empty), static_cast<std::uint32_t>(turn & 1) ^ 1);
    const std::uint32_t full = barrier(mail_->q_full);
    if (facts.first_tile >= facts.end_tile) return Hw::arrive(full);
    copy_q(facts, full);
  }

  /// Entry `batch` of a tensor; of one that repeats its entry, that one.
  __device__ __forceinline__ static int entry(const Strides& strides, std::int64_t batch) {
    return strides.batch == 0 ? 0 : static_cast<int>(batch);
  }

  /// Whole tokens with all heads of the group: a warpgroup's 64 rows or a few fewer.
  __device__ __forceinline__ void copy_q(const WorkFacts& facts, std::uint32_t full) const {
    const int rows = static_cast<int>(call_.call.tile_rows) / kConsumers;
    const int tokens = rows / facts.group;
    const int first_token =
        static_cast<int>(facts.sequence.q_begin) + facts.first_row / facts.group;
    Hw::arrive_expecting(full, kConsumers * Tile::kPanels * rows * Tile::kPanelRowBytes);
    for (int part = 0; part < kConsumers; ++part) {
      for (int panel = 0; panel < Tile::kPanels; ++panel) {
        unsigned char* to = q_tile() + (part * Tile::kPanels + panel) * Tile::kQPanelBytes;
        Hw::copy_box(call_.q, Hw::shared_address(to), full,
                     {panel * Tile::kPanelCols, 0, first_token + part * tokens, facts.head_k,
                      entry(params_.q_strides, facts.sequence.q_batch)});
      }
    }
  }

  /// In the order in which the consumers need them: K one tile ahead of V.
  __device__ __forceinline__ void copy_ahead(const WorkFacts& facts, Stages& k, Stages& v) const {
    for (int tile = facts.first_tile; tile < facts.end_tile; ++tile) {
      if (tile + 1 < facts.end_tile) copy_k(facts, tile + 1, k);
      copy_v(facts, tile, v);
    }
  }

  __device__ __forceinline__ void copy_k(const WorkFacts& facts, int tile, Stages& k) const {
    Hw::wait_phase(barrier(mail_->k_empty[k.stage]), k.parity ^ 1);
    const std::uint32_t full = barrier(mail_->k_full[k.stage]);
    copy_keys<Tile::kPanels>(call_.k, params_.k_strides, facts, tile, k_tile(k.stage), full);
    k.advance();
  }

  __device__ __forceinline__ void copy_v(const WorkFacts& facts, int tile, Stages& v) const {
    Hw::wait_phase(barrier(mail_->v_empty[v.stage]), v.parity ^ 1);
    const bool is_cleared = tile + 1 == facts.end_tile && facts.kept_rows < Tile::kKeys;
    const std::uint32_t landed =
        barrier(is_cleared ? mail_->v_landed[v.stage] : mail_->v_full[v.stage]);
    copy_keys<Tile::kPanelsV>(call_.v, params_.v_strides, facts, tile, v_tile(v.stage), landed);
    v.advance();
  }

  template <int kPanels>
  __device__ __forceinline__ void copy_keys(const typename Hw::TensorMap& map,
                                            const Strides& strides, const WorkFacts& facts,
                                            int tile, unsigned char* to, std::uint32_t full) const {
    Hw::arrive_expecting(full, kPanels * Tile::kKeyPanelBytes);
    const int row = static_cast<int>(facts.sequence.k_begin) + tile * Tile::kKeys;
    for (int panel = 0; panel < kPanels; ++panel) {
      Hw::copy_box(
          map, Hw::shared_address(to + panel * Tile::kKeyPanelBytes), full,
          {panel * Tile::kPanelCols, 0, row, facts.head_k, entry(strides, facts.sequence.k_batch)});
    }
  }

  // ---- A warp that clears, while the producer copies on.

  /// Rows of V behind a sequence's end are cleared, so that no stray NaN meets a weight of zero.
  __device__ __forceinline__ void clear_tails() const {
    int stage = 0;               // of the next tile of V
    std::uint32_t parities = 0;  // of what lands next in each stage
    for (int turn = 0;; ++turn) {
      Hw::wait_phase(barrier(mail_->q_full), static_cast<std::uint32_t>(turn & 1));
      const WorkFacts& facts = facts_at(turn);
      if (facts.is_end) return;
      const int tiles = facts.end_tile - facts.first_tile;
      const int kept = facts.kept_rows;
      release(mail_->q_empty);
      if (tiles <= 0) continue;
      const int last = (stage + tiles - 1) % Tile::kStages;
      stage = (last + 1) % Tile::kStages;
      if (kept >= Tile::kKeys) continue;
      Hw::wait_phase(barrier(mail_->v_landed[last]), parities >> last & 1);
      parities ^= 1u << last;
      clear_rows(v_tile(last), kept);
      Hw::publish_stores();
      release(mail_->v_full[last]);
    }
  }

  __device__ __forceinline__ void clear_rows(unsigned char* tile, int first) const {
    const int end = Tile::kKeyPanelBytes / 16;
    for (int panel = 0; panel < Tile::kPanelsV; ++panel) {
      Bits128* chunks = reinterpret_cast<Bits128*>(tile + panel * Tile::kKeyPanelBytes);
      for (int at = first * (Tile::kPanelRowBytes / 16) + lane_id(); at < end; at += kWarp) {
        chunks[at] = Bits128{};
      }
    }
  }

  // ---- The consumer warpgroups.

  __device__ __forceinline__ static int part() { return Hw::thread() / kWarpgroup - 1; }
  /// Named barrier at which consumer `part` waits for its turn; 0 is the block's own.
  __device__ __forceinline__ static int turn_of(int part) { return 1 + part; }

  __device__ __forceinline__ static void take_turn() {
    Hw::sync_threads(turn_of(part()), kConsumers * kWarpgroup);
  }
  __device__ __forceinline__ static void pass_turn() {
    Hw::arrive_threads(turn_of(1 - part()), kConsumers * kWarpgroup);
  }

  __device__ __forceinline__ void consume() const {
    Stages k;
    Stages v;
    // The first turn is consumer 0's, and so is the last one that is passed: taken at the end.
    if (part() == 1) pass_turn();
    for (int turn = 0;; ++turn) {
      Hw::wait_phase(barrier(mail_->q_full), static_cast<std::uint32_t>(turn & 1));
      const WorkFacts& facts = facts_at(turn);
      if (facts.is_end) break;
      attend(facts, k, v);
    }
    if (part() == 0) take_turn();
  }

  __device__ __forceinline__ void attend(const WorkFacts& facts, Stages& k, Stages& v) const {
    RowSoftmax softmax[2] = {{kMinusInf, 0.0f}, {kMinusInf, 0.0f}};
    Output o;
#pragma unroll
    for (float& sum : o) sum = 0.0f;
    int tile = facts.first_tile;
    if (tile >= facts.end_tile) {
      release(mail_->q_empty);
      return finish(facts, softmax, o);
    }
    float factors[2];
    Scores scores;
    Weights weights;
    Hw::wait_phase(barrier(mail_->k_full[k.stage]), k.parity);
    start_q_k(scores, k_tile(k.stage));
    Hw::template wait_products<0>(scores);
    release(mail_->k_empty[k.stage]);
    if (tile + 1 == facts.end_tile) release(mail_->q_empty);
    k.advance();
    weigh(facts, tile, scores, softmax, factors);
    round_weights(scores, weights);

    for (++tile; tile < facts.end_tile; ++tile) {
      Hw::wait_phase(barrier(mail_->k_full[k.stage]), k.parity);
      take_turn();
      start_q_k(scores, k_tile(k.stage));
      Hw::wait_phase(barrier(mail_->v_full[v.stage]), v.parity);
      start_p_v(weights, o, v_tile(v.stage));
      pass_turn();
      Hw::template wait_products<1>(scores);
      release(mail_->k_empty[k.stage]);
      if (tile + 1 == facts.end_tile) release(mail_->q_empty);
      k.advance();
      weigh(facts, tile, scores, softmax, factors);
      // Over long since, and no new phase can end before this warp's own release. A loop ends the
      // basic block: without one the compiler moves most of the softmax below the wait for P V.
      Hw::wait_phase(barrier(mail_->v_full[v.stage]), v.parity);
      Hw::template wait_products<0>(o);
      Hw::hold(weights);
      release(mail_->v_empty[v.stage]);
      v.advance();
      rescale(o, factors);
      round_weights(scores, weights);
    }

    Hw::wait_phase(barrier(mail_->v_full[v.stage]), v.parity);
    start_p_v(weights, o, v_tile(v.stage));
    Hw::template wait_products<0>(o);
    Hw::hold(weights);
    release(mail_->v_empty[v.stage]);
    v.advance();
    finish(facts, softmax, o);
  }

  /// This warp is done with what a barrier guards.
  __device__ __forceinline__ static void release(const std::uint64_t& word) {
    Hw::sync_warp();
    if (lane_id() == 0) Hw::arrive(barrier(word));
  }

  /// S = Q K^T, 16 columns of the head at a time.
  __device__ __forceinline__ void start_q_k(Scores& scores, const unsigned char* k_rows) const {
    const unsigned char* q_rows = q_tile() + part() * Tile::kPanels * Tile::kQPanelBytes;
    const std::uint64_t q = matrix_descriptor(Hw::shared_address(q_rows), Tile::kPanelCols, 0);
    const std::uint64_t k = matrix_descriptor(Hw::shared_address(k_rows), Tile::kPanelCols, 0);
    Hw::hold(scores);
    Hw::begin_products();
#pragma unroll
    for (int step = 0; step < Tile::kDim / 16; ++step) {
      const int panel = step / (Tile::kPanelCols / 16);
      const int in_panel = step % (Tile::kPanelCols / 16) * 32;
      Hw::template multiply_shared<T>(scores, moved(q, panel * Tile::kQPanelBytes + in_panel),
                                      moved(k, panel * Tile::kKeyPanelBytes + in_panel), step > 0);
    }
    Hw::commit_products();
  }

  /// O += P V, 16 keys at a time.
  __device__ __forceinline__ void start_p_v(Weights& weights, Output& o,
                                            const unsigned char* v_rows) const {
    const std::uint64_t v =
        matrix_descriptor(Hw::shared_address(v_rows), Tile::kPanelCols, Tile::kKeyPanelBytes);
    Hw::hold(weights);
    Hw::hold(o);
    Hw::begin_products();
#pragma unroll
    for (int step = 0; step < kKeySteps; ++step) {
      Hw::template multiply_registers<T>(o, weights + 4 * step,
                                         moved(v, step * 16 * Tile::kPanelRowBytes));
    }
    Hw::commit_products();
  }

  /// Scores become weights relative to the row's largest score so far, unrounded.
  __device__ __forceinline__ void weigh(const WorkFacts& facts, int tile, Scores& scores,
                                        RowSoftmax (&softmax)[2], float (&factors)[2]) const {
    const int key = tile * Tile::kKeys;
    if (facts.is_shaped) shape_scores(facts, scores, key);
    if (tile < facts.first_whole || tile >= facts.end_whole) mask_scores(facts, scores, key);
    advance_softmax(scores, softmax, factors, facts.exponent);
  }

  // Accumulator 4 n + 2 half + i of a thread is of row 8 half + lane / 4 of its warp's 16 rows and
  // column 8 n + 2 (lane % 4) + i.

  __device__ __forceinline__ static int first_column() { return Fragment::column(lane_id()); }
  /// Row of the block's half `half`; rows that a warpgroup has beyond its share do not exist.
  __device__ __forceinline__ int row_of(const WorkFacts& facts, int half) const {
    const int share = static_cast<int>(call_.call.tile_rows) / kConsumers;
    const int in_part =
        Hw::thread() % kWarpgroup / kWarp * 16 + half * 8 + Fragment::row(lane_id());
    const int row = facts.first_row + part() * share + in_part;
    return in_part < share && row < facts.row_count ? row : facts.row_count;
  }

  /// Scale, soft cap and slopes.
  __device__ __forceinline__ void shape_scores(const WorkFacts& facts, Scores& scores,
                                               int key) const {
    const float scale = static_cast<float>(params_.scale);
    const float cap = static_cast<float>(params_.softcap);
    if (cap != 0.0f) {
#pragma unroll
      for (float& score : scores) score = soft_capped<Hw>(score * scale, cap);
    } else {
#pragma unroll
      for (float& score : scores) score *= scale;
    }
    if (params_.alibi_slopes != nullptr) add_slopes(facts, scores, key);
  }

  __device__ __forceinline__ void add_slopes(const WorkFacts& facts, Scores& scores,
                                             int key) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(facts, half);
      const float slope = slope_of(facts, row);
      const int diagonal = row / facts.group +
                           static_cast<int>(facts.sequence.k_rows - facts.sequence.q_rows) - key -
                           first_column();
#pragma unroll
      for (int n = 0; n < Tile::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float distance = static_cast<float>(diagonal - (8 * n + i));
          scores[4 * n + 2 * half + i] -= slope * fabsf(distance);
        }
      }
    }
  }

  __device__ __forceinline__ float slope_of(const WorkFacts& facts, int row) const {
    if (row >= facts.row_count) return 0.0f;
    return params_
        .alibi_slopes[facts.sequence.index * params_.alibi_batch_stride + head(facts, row)];
  }

  __device__ __forceinline__ void mask_scores(const WorkFacts& facts, Scores& scores,
                                              int key) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const KeyRange range =
          visible_keys(params_, facts.sequence, row_of(facts, half) / facts.group);
      const int begin = static_cast<int>(range.begin) - key - first_column();
      const int end = static_cast<int>(range.end) - key - first_column();
#pragma unroll
      for (int n = 0; n < Tile::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (8 * n + i < begin || 8 * n + i >= end) scores[4 * n + 2 * half + i] = kMinusInf;
        }
      }
    }
  }

  /// `factors`: what sums over the tiles before are multiplied with.
  __device__ __forceinline__ void advance_softmax(Scores& scores, RowSoftmax (&softmax)[2],
                                                  float (&factors)[2], float exponent) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      RowSoftmax& row = softmax[half];
      float largest = kMinusInf;
#pragma unroll
      for (int n = 0; n < Tile::kKeys / 8; ++n) {
        largest = fmaxf(largest, fmaxf(scores[4 * n + 2 * half], scores[4 * n + 2 * half + 1]));
      }
      largest = fmaxf(largest, Hw::shuffle_xor(largest, 1));
      largest = fmaxf(largest, Hw::shuffle_xor(largest, 2));
      const float largest2 = fmaxf(row.largest2, largest * exponent);
      // A row that has seen no key yet keeps weights of exactly zero.
      const float shift = largest2 == kMinusInf ? 0.0f : largest2;
      factors[half] = Hw::exp2(row.largest2 - shift);
      row.largest2 = largest2;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < Tile::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[4 * n + 2 * half + i];
          score = Hw::exp2(fmaf(score, exponent, -shift));
          sum += score;
        }
      }
      row.sum = fmaf(row.sum, factors[half], sum);
    }
  }

  __device__ __forceinline__ static void rescale(Output& o, const float (&factors)[2]) {
#pragma unroll
    for (int i = 0; i < Tile::kDimV / 2; ++i) o[i] *= factors[i / 2 % 2];
  }

  /// Two accumulator tiles of the scores are one 16-key step's operand, pair by pair.
  __device__ __forceinline__ static void round_weights(const Scores& scores, Weights& weights) {
#pragma unroll
    for (int i = 0; i < Tile::kKeys / 4; ++i) {
      weights[i] = Hw::template pack<T>(scores[2 * i], scores[2 * i + 1]);
    }
  }

  // ---- The end of a work.

  __device__ __forceinline__ static std::int64_t head(const WorkFacts& facts, int row) {
    return std::int64_t{facts.head_k} * facts.group + row % facts.group;
  }

  /// The four lanes of a row add up their sums, then the row is normalised and stored.
  __device__ __forceinline__ void finish(const WorkFacts& facts, RowSoftmax (&softmax)[2],
                                         const Output& o) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      RowSoftmax& sums = softmax[half];
      sums.sum += Hw::shuffle_xor(sums.sum, 1);
      sums.sum += Hw::shuffle_xor(sums.sum, 2);
      const int row = row_of(facts, half);
      const bool has_row = row < facts.row_count;
      const float sink2 = params_.sinks != nullptr && has_row
                              ? params_.sinks[head(facts, row)] * kLog2E
                              : kMinusInf;
      const RowResult result = finish_row<Hw>(sums.largest2, sums.sum, sink2);
      const Sequence& sequence = facts.sequence;
      const std::int64_t token = sequence.q_begin + row / facts.group;
      if (has_row && lane_id() % 4 == 0) {
        params_.lse[sequence.q_batch * params_.lse_batch_stride +
                    head(facts, row) * params_.lse_head_stride + token] = result.lse;
      }
      T* to = static_cast<T*>(params_.out) + sequence.q_batch * params_.out_strides.batch +
              token * params_.out_strides.row + head(facts, row) * params_.out_strides.head;
      store_row(o, half, result, has_row ? to : nullptr);
    }
  }

  /// Four tiles of 8 columns at a time: the lanes of a row swap their pairs, so that each of them
  /// has one tile's 16 bytes to store.
  __device__ __forceinline__ void store_row(const Output& o, int half, const RowResult& result,
                                            T* to) const {
    const int own = lane_id() % 4;
#pragma unroll
    for (int first = 0; first < Tile::kDimV / 8; first += 4) {
      Bits128 bits;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 4 * (first + i) + 2 * half;
        bits.word[i] = Hw::template pack<T>(result.of(o[at]), result.of(o[at + 1]));
      }
      transpose_pairs<1>(bits);
      transpose_pairs<2>(bits);
      const int column = (first + own) * kChunk;
      if (to == nullptr || column >= params_.head_dim_v) continue;
      *reinterpret_cast<Bits128*>(to + column) = bits;
    }
  }

  /// Swaps words i and i + kBit of lanes that differ in that bit, across the diagonal.
  template <int kBit>
  __device__ __forceinline__ static void transpose_pairs(Bits128& bits) {
    const bool is_upper = (lane_id() & kBit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & kBit) != 0) continue;
      std::uint32_t& low = bits.word[i];
      std::uint32_t& high = bits.word[i + kBit];
      const std::uint32_t got = Hw::shuffle_xor_bits(is_upper ? low : high, kBit);
      low = is_upper ? got : low;
      high = is_upper ? high : got;
    }
  }

  const Params& params_;
  const Call& call_;
  unsigned char* tiles_;
  Mailbox<Tile>* mail_;
};

}  // namespace kernelhub::flash_attention::cuda
