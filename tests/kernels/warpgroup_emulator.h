// SPDX-License-Identifier: Apache-2.0
// Runs device code of sm_90a on the host: barriers with phases, named barriers, boxes copied by TMA
// and products of warpgroups, as PTX ISA 9.0 describes them. A copy lands at once or between later
// turns, in any order; a product is computed when its last thread hands it in or as late as the
// wait for it, from the registers and the shared memory of that moment: what is released or touched
// too early gives wrong numbers for some seed. What threads store in shared memory reaches products
// after the fence of the async proxy only.
#pragma once

#include "warp_emulator.h"

#include <array>
#include <map>

#include "flash_attention_cuda/sm90_layout.h"

namespace kernelhub::emulation {

namespace cuda = kernelhub::flash_attention::cuda;

constexpr std::size_t kWarpgroup = 128;

/// One wgmma.m64nNk16: what its 128 threads hand in.
struct Product {
  Op op;
  std::size_t columns;
  bool is_added;
  bool is_a_shared;
  std::uint64_t a;  // descriptors
  std::uint64_t b;
  std::array<const std::uint32_t*, kWarpgroup> a_registers{};
  std::array<float*, kWarpgroup> sums{};
  std::size_t arrived = 0;
  std::uint64_t done_at = 0;  // turn before which nobody sees the result
};

class WarpgroupBlock : public Block {
 public:
  WarpgroupBlock(int threads, std::size_t shared_bytes, std::uint32_t seed)
      : Block(threads, shared_bytes, seed),
        groups_(static_cast<std::size_t>(threads) / kWarpgroup),
        threads_(static_cast<std::size_t>(threads)),
        async_view_(shared_bytes, kNan) {}

  /// By every thread of a warpgroup, once.
  void set_registers() { ++groups_[running() / kWarpgroup].registers_set; }

  // ---- Barriers.

  void init_barrier(std::uint32_t address, int arrivals) {
    if (address % 8 != 0 || address + 8 > shared_bytes()) fail("a barrier's address");
    barriers_[address] = {arrivals, arrivals, 0, 0};
  }
  void arrive(std::uint32_t address, std::int64_t bytes) {
    Barrier& barrier = at(address);
    barrier.bytes += bytes;
    if (--barrier.pending < 0) fail("more arrivals than a barrier counts");
    complete(barrier);
  }
  void wait_phase(std::uint32_t address, std::uint32_t parity) {
    Barrier& barrier = at(address);
    wait_until([&] { return barrier.parity != parity; });
  }

  void sync_threads(int id, int threads) {
    NamedBarrier& barrier = named_.at(static_cast<std::size_t>(id));
    const std::uint64_t opening = barrier.openings;
    arrive_threads(id, threads);
    wait_until([&] { return barrier.openings != opening; });
  }
  void arrive_threads(int id, int threads) {
    NamedBarrier& barrier = named_.at(static_cast<std::size_t>(id));
    if (barrier.arrived > 0 && barrier.threads != threads) fail("threads disagree on a barrier");
    barrier.threads = threads;
    if (++barrier.arrived < threads) return;
    barrier.arrived = 0;
    ++barrier.openings;
  }

  // ---- Copies.

  void copy_box(const cuda::BoxedTensor& tensor, std::uint32_t to, std::uint32_t barrier,
                const int (&origin)[cuda::kBoxDims]) {
    check_box(tensor, to);
    BoxCopy copy{&tensor, to, barrier, {}};
    std::copy(std::begin(origin), std::end(origin), copy.origin.begin());
    if (random()() % 2 == 0) return land(copy);
    copies_.push_back(copy);
  }

  void publish_stores() { std::copy_n(shared(), shared_bytes(), async_view_.begin()); }

  // ---- Products.

  void begin_products() { threads_[running()].is_begun = true; }

  void multiply(const Product& own, float* sums, const std::uint32_t* a) {
    Thread& thread = threads_[running()];
    if (!thread.is_begun) fail("a product without its fence");
    Group& group = groups_[running() / kWarpgroup];
    const std::size_t number = thread.issued++;
    const std::size_t in_group = thread.group_ends.size();
    if (number == group.products.size()) group.products.push_back(own);
    if (in_group == group.is_eager.size()) group.is_eager.push_back(random()() % 2 == 0);
    Product& product = group.products[number];
    if (product.op != own.op || product.a != own.a || product.b != own.b ||
        product.is_added != own.is_added || product.columns != own.columns) {
      fail("the threads of a warpgroup hand in different products");
    }
    product.sums[running() % kWarpgroup] = sums;
    product.a_registers[running() % kWarpgroup] = a;
    if (++product.arrived < kWarpgroup) return;
    product.done_at = turn_ + random()() % 3;
    if (group.is_eager[in_group]) compute(group, number + 1);
  }
  void commit_products() {
    Thread& thread = threads_[running()];
    thread.is_begun = false;
    thread.group_ends.push_back(thread.issued);
  }
  void wait_products(std::size_t pending) {
    const std::vector<std::size_t>& ends = threads_[running()].group_ends;
    if (ends.size() <= pending) return;
    const std::size_t end = ends[ends.size() - 1 - pending];
    Group& group = groups_[running() / kWarpgroup];
    wait_until([&] {
      const Product& last = group.products[end - 1];
      return last.arrived == kWarpgroup && turn_ >= last.done_at;
    });
    compute(group, end);
  }

 private:
  static constexpr unsigned char kNan = 0xff;

  struct Barrier {
    int arrivals;
    int pending;
    std::int64_t bytes;
    std::uint32_t parity;  // of the phase that is under way
  };
  struct NamedBarrier {
    int arrived = 0;
    int threads = 0;
    std::uint64_t openings = 0;
  };
  struct BoxCopy {
    const cuda::BoxedTensor* tensor;
    std::uint32_t to;
    std::uint32_t barrier;
    std::array<std::int64_t, cuda::kBoxDims> origin;
  };
  struct Group {
    std::vector<Product> products;
    std::vector<bool> is_eager;  // of committed groups, in order
    std::size_t computed = 0;
    std::size_t registers_set = 0;
  };
  struct Thread {
    bool is_begun = false;
    std::size_t issued = 0;
    std::vector<std::size_t> group_ends;
  };

  void between_turns() override {
    ++turn_;
    std::shuffle(copies_.begin(), copies_.end(), random());
    while (!copies_.empty() && random()() % 2 == 0) {
      const BoxCopy copy = copies_.back();
      copies_.pop_back();
      land(copy);
    }
  }

  void at_end() override {
    if (!copies_.empty()) fail("a copy was still under way at the end of the block");
    for (const NamedBarrier& barrier : named_) {
      if (barrier.arrived != 0) fail("a named barrier is left half full");
    }
    for (Group& group : groups_) {
      if (group.computed != group.products.size()) fail("nobody waited for a product");
      if (group.registers_set != kWarpgroup) fail("some warps of a warpgroup keep their registers");
      group = {};
    }
    threads_.assign(threads_.size(), {});
    barriers_.clear();
    async_view_.assign(async_view_.size(), kNan);
  }

  Barrier& at(std::uint32_t address) {
    const auto found = barriers_.find(address);
    if (found == barriers_.end()) fail("no barrier was made at this address");
    return found->second;
  }

  static void complete(Barrier& barrier) {
    if (barrier.pending > 0 || barrier.bytes > 0) return;
    if (barrier.bytes < 0) fail("more bytes than a barrier expects");
    barrier.pending = barrier.arrivals;
    barrier.parity ^= 1;
  }

  void check_box(const cuda::BoxedTensor& tensor, std::uint32_t to) {
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % 16 != 0) fail("a boxed tensor's address");
    for (const std::uint64_t size : tensor.sizes) {
      if (size == 0 || size > std::uint64_t{1} << 32) fail("a boxed tensor's size");
    }
    for (const std::uint64_t stride : tensor.byte_strides) {
      if (stride % 16 != 0 || stride >= std::uint64_t{1} << 40) fail("a boxed tensor's stride");
    }
    for (const std::uint32_t size : tensor.box) {
      if (size == 0 || size > 256) fail("a box's size");
    }
    const std::uint32_t row_bytes = tensor.box[0] * 2;
    if (row_bytes != 128 && row_bytes != 64) fail("a swizzled box has 128 or 64 bytes a row");
    // wgmma finds the swizzle by the address alone.
    if (to % (8 * row_bytes) != 0) fail("a swizzled box does not start where its swizzle does");
    if (to + box_bytes(tensor) > shared_bytes()) fail("a box leaves shared memory");
  }

  static std::uint32_t box_bytes(const cuda::BoxedTensor& tensor) {
    std::uint32_t bytes = 2;
    for (const std::uint32_t size : tensor.box) bytes *= size;
    return bytes;
  }

  /// Where a byte of a tile lies whose rows have 128 or 64 bytes, and as many the swizzle.
  static std::uint32_t swizzled(std::uint32_t address, std::uint32_t row_bytes) {
    return address ^ (address >> 7 & (row_bytes / 16 - 1)) << 4;
  }

  void land(const BoxCopy& copy) {
    const cuda::BoxedTensor& tensor = *copy.tensor;
    const std::uint32_t bytes = box_bytes(tensor);
    const std::uint32_t cols = tensor.box[0];
    for (std::uint32_t row = 0; row < bytes / 2 / cols; ++row) {
      std::uint32_t rest = row;
      bool is_inside = true;
      std::int64_t offset = 0;
      for (std::size_t d = 1; d < cuda::kBoxDims; ++d) {
        const std::int64_t at = copy.origin[d] + rest % tensor.box[d];
        rest /= tensor.box[d];
        is_inside = is_inside && at >= 0 && at < static_cast<std::int64_t>(tensor.sizes[d]);
        offset += at * static_cast<std::int64_t>(tensor.byte_strides[d - 1]);
      }
      const auto size = static_cast<std::int64_t>(tensor.sizes[0]);
      for (std::uint32_t i = 0; i < cols; ++i) {
        const std::int64_t at = copy.origin[0] + i;
        const std::uint32_t place = swizzled(copy.to + (row * cols + i) * 2, 2 * cols);
        unsigned char* to = shared() + place;
        if (is_inside && at >= 0 && at < size) {
          std::memcpy(to, static_cast<const unsigned char*>(tensor.data) + offset + 2 * at, 2);
        } else {
          std::memset(to, 0, 2);
        }
        std::memcpy(&async_view_[place], to, 2);
      }
    }
    Barrier& barrier = at(copy.barrier);
    barrier.bytes -= bytes;
    if (barrier.bytes < 0) fail("more bytes than a barrier expects");
    complete(barrier);
  }

  /// A swizzled operand as a descriptor names it.
  struct Operand {
    explicit Operand(std::uint64_t descriptor)
        : start(field(descriptor, 0)),
          leading(field(descriptor, 16)),
          stride(field(descriptor, 32)),
          row_bytes(descriptor >> 62 == 1 ? 128 : 64) {
      if (descriptor >> 62 != 1 && descriptor >> 62 != 2) {
        fail("an operand without the swizzle of 128 or 64 bytes");
      }
    }
    static std::uint32_t field(std::uint64_t descriptor, int bit) {
      return static_cast<std::uint32_t>(descriptor >> bit & 0x3fff) << 4;
    }

    std::uint32_t start;
    std::uint32_t leading;  // from panel to panel
    std::uint32_t stride;   // from eight rows to the next
    std::uint32_t row_bytes;
  };

  /// Element (outer, k).
  float element(Op op, const Operand& operand, bool is_k_major, std::uint32_t outer,
                std::uint32_t k) {
    const std::uint32_t cols = operand.row_bytes / 2;
    const std::uint32_t row = is_k_major ? outer : k;
    const std::uint32_t within =
        row / 8 * operand.stride + row % 8 * operand.row_bytes +
        (is_k_major ? k * 2 : outer / cols * operand.leading + outer % cols * 2);
    const std::uint32_t address = swizzled(operand.start + within, operand.row_bytes);
    if (address + 2 > shared_bytes()) fail("an operand leaves shared memory");
    std::uint16_t bits;
    std::memcpy(&bits, &async_view_[address], 2);
    return value(op, bits, 0);
  }

  void compute(Group& group, std::size_t end) {
    for (; group.computed < end; ++group.computed) {
      Product& product = group.products[group.computed];
      if (product.arrived != kWarpgroup) fail("a product before all its threads are there");
      multiply(product);
    }
  }

  __attribute__((optimize("O3"))) void multiply(const Product& product) {
    static float a[64][16];
    static float b[16][256];
    static float c[64][256];
    const auto columns = static_cast<std::uint32_t>(product.columns);
    const Operand b_operand(product.b);
    for (std::uint32_t column = 0; column < columns; ++column) {
      for (std::uint32_t k = 0; k < 16; ++k) {
        b[k][column] = element(product.op, b_operand, product.is_a_shared, column, k);
      }
    }
    for (std::uint32_t thread = 0; thread < kWarpgroup; ++thread) {
      const std::uint32_t row = thread / kWarp * 16 + thread % kWarp / 4;
      const std::uint32_t pair = thread % 4 * 2;
      const std::uint32_t* own = product.a_registers[thread];
      for (std::uint32_t i = 0; own != nullptr && i < 8; ++i) {
        // Registers 0 to 3: rows r, r + 8, r, r + 8; the last two eight columns on.
        a[row + i / 2 % 2 * 8][pair + i % 2 + i / 4 * 8] = value(product.op, own[i / 2], i % 2);
      }
      for (std::uint32_t i = 0; i < columns / 2; ++i) {
        float& sum = c[row + i / 2 % 2 * 8][i / 4 * 8 + pair + i % 2];
        sum = product.is_added ? product.sums[thread][i] : 0.0f;
      }
    }
    if (product.is_a_shared) {
      const Operand a_operand(product.a);
      for (std::uint32_t row = 0; row < 64; ++row) {
        for (std::uint32_t k = 0; k < 16; ++k) {
          a[row][k] = element(product.op, a_operand, true, row, k);
        }
      }
    }
    for (std::uint32_t row = 0; row < 64; ++row) {
      float sums[256] = {};
      for (std::uint32_t k = 0; k < 16; ++k) {
        const float factor = a[row][k];
        for (std::uint32_t column = 0; column < columns; ++column) {
          sums[column] += factor * b[k][column];
        }
      }
      for (std::uint32_t column = 0; column < columns; ++column) c[row][column] += sums[column];
    }
    for (std::uint32_t thread = 0; thread < kWarpgroup; ++thread) {
      const std::uint32_t row = thread / kWarp * 16 + thread % kWarp / 4;
      for (std::uint32_t i = 0; i < columns / 2; ++i) {
        product.sums[thread][i] = c[row + i / 2 % 2 * 8][i / 4 * 8 + thread % 4 * 2 + i % 2];
      }
    }
  }

  std::uint64_t turn_ = 0;
  std::map<std::uint32_t, Barrier> barriers_;
  std::array<NamedBarrier, 16> named_;
  std::vector<BoxCopy> copies_;
  std::vector<Group> groups_;
  std::vector<Thread> threads_;
  std::vector<unsigned char> async_view_;  // of shared memory, as products see it
};

/// The functions of Sm90Instructions, run by the current block.
struct EmulatedSm90Instructions : EmulatedInstructions {
  using TensorMap = cuda::BoxedTensor;

  static std::uint64_t fetch_increment(std::uint64_t* count) { return (*count)++; }

  static std::uint32_t shuffle_xor_bits(std::uint32_t value, int lane_mask) {
    Operands operands{Op::kShuffle, {value, static_cast<std::uint32_t>(lane_mask)}, {}};
    return block().meet(operands)[0];
  }

  template <int kRegisters>
  static void shrink_registers() {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
    block().set_registers();
  }
  template <int kRegisters>
  static void grow_registers() {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
    block().set_registers();
  }

  static void sync_threads(int barrier, int threads) { block().sync_threads(barrier, threads); }
  static void arrive_threads(int barrier, int threads) { block().arrive_threads(barrier, threads); }

  static void init_barrier(std::uint32_t barrier, int arrivals) {
    block().init_barrier(barrier, arrivals);
  }
  static void publish_barriers() {}
  static void arrive(std::uint32_t barrier) { block().arrive(barrier, 0); }
  static void arrive_expecting(std::uint32_t barrier, int bytes) { block().arrive(barrier, bytes); }
  static void wait_phase(std::uint32_t barrier, std::uint32_t parity) {
    block().wait_phase(barrier, parity);
  }

  static void copy_box(const TensorMap& map, std::uint32_t to, std::uint32_t barrier,
                       const int (&at)[cuda::kBoxDims]) {
    block().copy_box(map, to, barrier, at);
  }
  static void prefetch_map(const TensorMap&) {}
  static void publish_stores() { block().publish_stores(); }

  static void begin_products() { block().begin_products(); }
  static void commit_products() { block().commit_products(); }
  template <int kPending, int kCount>
  static void wait_products(float (&)[kCount]) {
    block().wait_products(kPending);
  }
  template <class Value, int kCount>
  static void hold(Value (&)[kCount]) {}

  template <class T, int kCount>
  static void multiply_shared(float (&sums)[kCount], std::uint64_t a, std::uint64_t b,
                              bool is_added) {
    block().multiply({op_of<T>(), 2 * kCount, is_added, true, a, b}, sums, nullptr);
  }
  template <class T, int kCount>
  static void multiply_registers(float (&sums)[kCount], const std::uint32_t* a, std::uint64_t b) {
    block().multiply({op_of<T>(), 2 * kCount, true, false, 0, b}, sums, a);
  }

 private:
  template <class T>
  static constexpr Op op_of() {
    return kIsHalf<T> ? Op::kProductFp16 : Op::kProductBf16;
  }
  static WarpgroupBlock& block() { return static_cast<WarpgroupBlock&>(*Block::current()); }
};

}  // namespace kernelhub::emulation
