// SPDX-License-Identifier: Apache-2.0
// Runs device code of warps on the host: every thread of a block is a fiber, and the instructions
// that warps execute together (matrix loads and products, shuffles, barriers) meet their lanes, as
// PTX ISA 9.0 describes them. Between barriers the warps run in random order; a background copy
// lands at once or, as if it were slow, at the wait that orders it: reading too early or writing
// too soon gives wrong numbers for some seed. Shared memory starts as NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <deque>
#include <memory>
#include <random>
#include <type_traits>
#include <ucontext.h>
#include <vector>

namespace kernelhub::emulation {

constexpr int kWarp = 32;

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "emulation: %s\n", what);
  std::abort();
}

/// What a warp executes together; lanes must agree on it.
enum class Op { kShuffle, kMatrices, kMatricesTransposed, kProductBf16, kProductFp16, kSync };

/// One lane's operands and results.
struct Operands {
  Op op;
  std::uint32_t in[10];
  std::uint32_t out[4];
};

class Block {
 public:
  Block(int threads, std::size_t shared_bytes, std::uint32_t seed)
      : random_(seed),
        shared_(shared_bytes + 128),
        fibers_(static_cast<std::size_t>(threads)),
        warps_(static_cast<std::size_t>(threads / kWarp)) {
    for (Fiber& fiber : fibers_) fiber.stack = std::make_unique<char[]>(kStackBytes);
  }
  virtual ~Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  static Block*& current() {
    static thread_local Block* block = nullptr;
    return block;
  }

  /// Calls `body(shared)` on every thread.
  template <class Body>
  void run(const Body& body) {
    current() = this;
    std::memset(shared_.data(), 0xff, shared_.size());
    body_ = [](const void* context, unsigned char* shared) {
      (*static_cast<const Body*>(context))(shared);
    };
    context_ = &body;
    for (std::size_t i = 0; i < fibers_.size(); ++i) start(i);
    idle_turns_ = 0;
    while (turn()) between_turns();
    at_end();
    for (const Fiber& fiber : fibers_) {
      if (fiber.state != State::kDone) fail("a lane waits for its warp");
      for (const auto& group : fiber.groups) {
        if (!group.empty()) fail("a copy was still under way at the end of its thread");
      }
    }
    current() = nullptr;
  }

  int thread() const { return running_; }
  unsigned char* shared() {
    const auto address = reinterpret_cast<std::uintptr_t>(shared_.data());
    return shared_.data() + (128 - address % 128) % 128;
  }
  std::uint32_t shared_address(const void* pointer) {
    return static_cast<std::uint32_t>(static_cast<const unsigned char*>(pointer) - shared());
  }

  void sync_block() {
    fibers_[running()].state = State::kAtBarrier;
    yield();
  }

  /// Lets others run until `is_met()`.
  template <class Condition>
  void wait_until(const Condition& is_met) {
    while (!is_met()) {
      fibers_[running()].state = State::kWaiting;
      yield();
    }
    idle_turns_ = 0;
  }

  /// Hands in this lane's operands and returns the results of the warp's instruction.
  const std::uint32_t* meet(const Operands& operands) {
    const std::size_t thread = running();
    Warp& warp = warps_[thread / kWarp];
    const std::uint64_t number = warp.next[thread % kWarp]++;
    Operands(&lanes)[kWarp] = warp.lanes[number % 2];
    lanes[thread % kWarp] = operands;
    if (++warp.arrived[number % 2] == kWarp) {
      warp.arrived[number % 2] = 0;
      execute(lanes);
      warp.done = number + 1;
      for (std::size_t lane = 0; lane < kWarp; ++lane) {
        Fiber& fiber = fibers_[thread / kWarp * kWarp + lane];
        if (fiber.state == State::kMeeting) fiber.state = State::kReady;
      }
    }
    while (warp.done <= number) {
      fibers_[thread].state = State::kMeeting;
      yield();
    }
    return lanes[thread % kWarp].out;
  }

  void copy_async(std::uint32_t to, const void* from, bool is_copied) {
    if (to % 16 != 0 || (is_copied && reinterpret_cast<std::uintptr_t>(from) % 16 != 0)) {
      fail("a 16-byte copy is not aligned");
    }
    if (to + 16 > shared_.size() - 128) fail("a copy leaves shared memory");
    const Copy copy{to, is_copied ? from : nullptr};
    if (random_() % 2 == 0) return land(copy);
    Fiber& fiber = fibers_[running()];
    if (fiber.groups.empty()) fiber.groups.emplace_back();
    fiber.groups.back().push_back(copy);
  }
  void commit_copies() {
    Fiber& fiber = fibers_[running()];
    if (fiber.groups.empty()) fiber.groups.emplace_back();
    fiber.groups.emplace_back();
  }
  /// The last group is the one that is not committed yet.
  void wait_copies(std::size_t pending) {
    Fiber& fiber = fibers_[running()];
    while (fiber.groups.size() > pending + 1) {
      for (const Copy& copy : fiber.groups.front()) land(copy);
      fiber.groups.pop_front();
    }
  }

 protected:
  std::size_t running() const { return static_cast<std::size_t>(running_); }
  std::size_t shared_bytes() const { return shared_.size() - 128; }
  std::mt19937& random() { return random_; }

  static float value(Op op, std::uint32_t pair, std::uint32_t half) {
    const auto bits = static_cast<std::uint16_t>(pair >> (16 * half));
    if (op == Op::kProductFp16) {
      return __half2float(__half(__half_raw{bits}));
    }
    const std::uint32_t wide = std::uint32_t{bits} << 16;
    float number;
    std::memcpy(&number, &wide, sizeof(wide));
    return number;
  }

 private:
  static constexpr std::size_t kStackBytes = 96 * 1024;
  static constexpr int kMostIdleTurns = 100;
  enum class State { kReady, kMeeting, kWaiting, kAtBarrier, kDone };

  struct Copy {
    std::uint32_t to;
    const void* from;  // null: zeros
  };
  struct Fiber {
    std::unique_ptr<char[]> stack;
    ucontext_t entry{};
    std::jmp_buf position{};
    bool is_started = false;
    State state = State::kReady;
    std::deque<std::vector<Copy>> groups;
  };
  struct Warp {
    Operands lanes[2][kWarp];
    int arrived[2] = {};
    std::uint64_t next[kWarp] = {};
    std::uint64_t done = 0;
  };

  /// What happens beside the threads.
  virtual void between_turns() {}
  virtual void at_end() {}

  void land(const Copy& copy) {
    if (copy.from == nullptr) {
      std::memset(shared() + copy.to, 0, 16);
    } else {
      std::memcpy(shared() + copy.to, copy.from, 16);
    }
  }

  void start(std::size_t index) {
    Fiber& fiber = fibers_[index];
    getcontext(&fiber.entry);
    fiber.entry.uc_stack.ss_sp = fiber.stack.get();
    fiber.entry.uc_stack.ss_size = kStackBytes;
    fiber.entry.uc_link = nullptr;
    makecontext(&fiber.entry, &Block::enter, 0);
    fiber.is_started = false;
    fiber.state = State::kReady;
    fiber.groups.clear();
  }

  static void enter() {
    Block* block = current();
    block->body_(block->context_, block->shared());
    block->fibers_[block->running()].state = State::kDone;
    block->yield();
  }

  void yield() {
    if (_setjmp(fibers_[running()].position) == 0) _longjmp(scheduler_, 1);
  }

  void resume(std::size_t index) {
    running_ = static_cast<int>(index);
    if (_setjmp(scheduler_) != 0) return;
    Fiber& fiber = fibers_[running()];
    if (fiber.is_started) _longjmp(fiber.position, 1);
    fiber.is_started = true;
    setcontext(&fiber.entry);
  }

  /// Runs every warp up to its next barrier, then opens it, unless somebody waits for something
  /// else. False when all threads are done.
  bool turn() {
    std::vector<std::size_t> order(warps_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random_);
    for (const std::size_t warp : order) run_warp(warp);
    if (wake(State::kWaiting)) {
      if (++idle_turns_ > kMostIdleTurns) fail("threads wait for what never comes");
      return true;
    }
    return wake(State::kAtBarrier);
  }

  bool wake(State state) {
    bool is_any = false;
    for (Fiber& fiber : fibers_) {
      if (fiber.state != state) continue;
      fiber.state = State::kReady;
      is_any = true;
    }
    return is_any;
  }

  void run_warp(std::size_t warp) {
    bool is_any_ready = true;
    while (is_any_ready) {
      is_any_ready = false;
      for (std::size_t lane = 0; lane < kWarp; ++lane) {
        if (fibers_[warp * kWarp + lane].state != State::kReady) continue;
        resume(warp * kWarp + lane);
        is_any_ready = true;
      }
    }
  }

  void execute(Operands (&lanes)[kWarp]) {
    for (const Operands& lane : lanes) {
      if (lane.op != lanes[0].op) fail("the lanes of a warp execute different instructions");
    }
    switch (lanes[0].op) {
      case Op::kShuffle:
        for (std::uint32_t lane = 0; lane < kWarp; ++lane) {
          lanes[lane].out[0] = lanes[lane ^ lanes[lane].in[1]].in[0];
        }
        return;
      case Op::kMatrices:
      case Op::kMatricesTransposed:
        return load_matrices(lanes, lanes[0].op == Op::kMatricesTransposed);
      case Op::kProductBf16:
      case Op::kProductFp16:
        return multiply(lanes);
      case Op::kSync:
        return;
    }
  }

  /// ldmatrix .x4: lanes 8 i to 8 i + 7 name the rows of matrix i. Lane l receives elements 2 (l %
  /// 4) and the next of row l / 4, or, transposed, of column l / 4.
  void load_matrices(Operands (&lanes)[kWarp], bool is_transposed) {
    std::uint16_t matrix[4][8][8];
    for (std::uint32_t lane = 0; lane < kWarp; ++lane) {
      const std::uint32_t row = lanes[lane].in[0];
      if (row % 16 != 0 || row + 16 > shared_.size() - 128) fail("ldmatrix: bad row address");
      std::memcpy(matrix[lane / 8][lane % 8], shared() + row, 16);
    }
    for (std::uint32_t lane = 0; lane < kWarp; ++lane) {
      for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t fixed = lane / 4;
        const std::uint32_t first = lane % 4 * 2;
        const std::uint32_t low = is_transposed ? matrix[i][first][fixed] : matrix[i][fixed][first];
        const std::uint32_t high =
            is_transposed ? matrix[i][first + 1][fixed] : matrix[i][fixed][first + 1];
        lanes[lane].out[i] = low | high << 16;
      }
    }
  }

  /// mma.m16n8k16: operands in[0..3] A, in[4..5] B, in[6..9] C as fp32 bits.
  static void multiply(Operands (&lanes)[kWarp]) {
    const Op op = lanes[0].op;
    float a[16][16];
    float b[16][8];
    float c[16][8];
    for (std::uint32_t lane = 0; lane < kWarp; ++lane) {
      const std::uint32_t group = lane / 4;
      const std::uint32_t in_group = lane % 4;
      const Operands& own = lanes[lane];
      for (std::uint32_t i = 0; i < 8; ++i) {
        const std::uint32_t row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        const std::uint32_t column = in_group * 2 + i % 2 + (i >= 4 ? 8 : 0);
        a[row][column] = value(op, own.in[i / 2], i % 2);
      }
      for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t row = in_group * 2 + i % 2 + (i >= 2 ? 8 : 0);
        b[row][group] = value(op, own.in[4 + i / 2], i % 2);
        std::memcpy(&c[group + (i >= 2 ? 8 : 0)][in_group * 2 + i % 2], &own.in[6 + i], 4);
      }
    }
    for (int row = 0; row < 16; ++row) {
      float sums[8] = {};
      for (int k = 0; k < 16; ++k) {
        for (int column = 0; column < 8; ++column) sums[column] += a[row][k] * b[k][column];
      }
      for (int column = 0; column < 8; ++column) c[row][column] += sums[column];
    }
    for (std::uint32_t lane = 0; lane < kWarp; ++lane) {
      for (std::uint32_t i = 0; i < 4; ++i) {
        const float& result = c[lane / 4 + (i >= 2 ? 8 : 0)][lane % 4 * 2 + i % 2];
        std::memcpy(&lanes[lane].out[i], &result, 4);
      }
    }
  }

  std::mt19937 random_;
  std::vector<unsigned char> shared_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  int running_ = 0;
  int idle_turns_ = 0;
  std::jmp_buf scheduler_{};
  void (*body_)(const void*, unsigned char*) = nullptr;
  const void* context_ = nullptr;
};

/// The functions of Sm80Instructions, run by the current block.
struct EmulatedInstructions {
  static int thread() { return block().thread(); }
  static void sync_block() { block().sync_block(); }
  static void sync_warp() { block().meet({Op::kSync, {}, {}}); }

  static float shuffle_xor(float value, int lane_mask) {
    Operands operands{Op::kShuffle, {}, {}};
    std::memcpy(&operands.in[0], &value, 4);
    operands.in[1] = static_cast<std::uint32_t>(lane_mask);
    float result;
    std::memcpy(&result, block().meet(operands), 4);
    return result;
  }

  static float exp2(float x) { return std::exp2(x); }
  static float reciprocal(float x) { return 1.0f / x; }
  static float log2(float x) { return std::log2(x); }

  static std::uint32_t shared_address(const void* pointer) {
    return block().shared_address(pointer);
  }
  static int opaque(int value) { return value; }

  static void copy_async(std::uint32_t to, const void* from, bool is_copied) {
    block().copy_async(to, from, is_copied);
  }
  static void commit_copies() { block().commit_copies(); }
  template <int kPending>
  static void wait_copies() {
    block().wait_copies(kPending);
  }

  static void load_matrices(std::uint32_t (&to)[4], std::uint32_t row) {
    load(Op::kMatrices, to, row);
  }
  static void load_matrices_transposed(std::uint32_t (&to)[4], std::uint32_t row) {
    load(Op::kMatricesTransposed, to, row);
  }

  template <class T>
  static void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                           std::uint32_t b1) {
    Operands operands{
        kIsHalf<T> ? Op::kProductFp16 : Op::kProductBf16, {a[0], a[1], a[2], a[3], b0, b1}, {}};
    std::memcpy(&operands.in[6], c, sizeof(c));
    std::memcpy(c, block().meet(operands), sizeof(c));
  }

  template <class T>
  static std::uint32_t pack(float low, float high) {
    const T pair[2] = {static_cast<T>(low), static_cast<T>(high)};
    std::uint32_t bits;
    std::memcpy(&bits, pair, sizeof(bits));
    return bits;
  }

 protected:
  template <class T>
  static constexpr bool kIsHalf = std::is_same_v<T, __half>;

 private:
  static Block& block() { return *Block::current(); }

  static void load(Op op, std::uint32_t (&to)[4], std::uint32_t row) {
    std::memcpy(to, block().meet({op, {row}, {}}), sizeof(to));
  }
};

}  // namespace kernelhub::emulation
