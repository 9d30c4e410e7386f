// SPDX-License-Identifier: Apache-2.0
// The instructions of sm_90a that the forward kernel is written in, one function each, from the PTX
// ISA. As with Sm80Instructions, tests run the kernel with another struct.
#pragma once

#include <cuda.h>
#include <type_traits>

#include "flash_attention_cuda/sm80_instructions.cuh"
#include "flash_attention_cuda/sm90_layout.h"

// The accumulators of wgmma are single operands: their numbers, and their registers. Only the last
// operands of a product have other numbers for every width.
// clang-format off
#define KERNELHUB_SUMS_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, " \
  "%14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, " \
  "%28, %29, %30, %31"
#define KERNELHUB_SUMS_40 \
  KERNELHUB_SUMS_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define KERNELHUB_SUMS_48 \
  KERNELHUB_SUMS_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define KERNELHUB_SUMS_56 \
  KERNELHUB_SUMS_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define KERNELHUB_SUMS_64 \
  KERNELHUB_SUMS_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define KERNELHUB_SUMS_96 \
  KERNELHUB_SUMS_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, " \
  "%78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, " \
  "%92, %93, %94, %95"
#define KERNELHUB_SUMS_128 \
  KERNELHUB_SUMS_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, " \
  "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, " \
  "%124, %125, %126, %127"
#define KERNELHUB_BIND_8(c, i) \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
  "+f"(c[i + 6]), "+f"(c[i + 7])
#define KERNELHUB_BIND_16(c, i) KERNELHUB_BIND_8(c, i), KERNELHUB_BIND_8(c, i + 8)
#define KERNELHUB_BIND_32(c) KERNELHUB_BIND_16(c, 0), KERNELHUB_BIND_16(c, 16)
#define KERNELHUB_BIND_40(c) KERNELHUB_BIND_32(c), KERNELHUB_BIND_8(c, 32)
#define KERNELHUB_BIND_48(c) KERNELHUB_BIND_40(c), KERNELHUB_BIND_8(c, 40)
#define KERNELHUB_BIND_56(c) KERNELHUB_BIND_48(c), KERNELHUB_BIND_8(c, 48)
#define KERNELHUB_BIND_64(c) KERNELHUB_BIND_56(c), KERNELHUB_BIND_8(c, 56)
#define KERNELHUB_BIND_96(c) \
  KERNELHUB_BIND_64(c), KERNELHUB_BIND_16(c, 64), KERNELHUB_BIND_16(c, 80)
#define KERNELHUB_BIND_128(c) \
  KERNELHUB_BIND_96(c), KERNELHUB_BIND_16(c, 96), KERNELHUB_BIND_16(c, 112)

// a [64, 16] and b [n, 16], K-major in shared memory. The first operands behind the sums are %count.
#define KERNELHUB_SHARED_PRODUCT(type, n, count, a_at, b_at, adds_at)                   \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %" #adds_at ", 0;\n"             \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {"     \
               KERNELHUB_SUMS_##count "}, %" #a_at ", %" #b_at ", adds, 1, 1, 0, 0;\n}\n" \
               : KERNELHUB_BIND_##count(sums)                                           \
               : "l"(a), "l"(b), "r"(is_added ? 1 : 0))
// a [64, 16] in registers, b [16, n] N-major in shared memory.
#define KERNELHUB_REGISTER_PRODUCT(type, n, count, a0, a1, a2, a3, b_at)                \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {"     \
               KERNELHUB_SUMS_##count "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %"  \
               #b_at ", 1, 1, 1, 1;\n"                                                  \
               : KERNELHUB_BIND_##count(sums)                                           \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

#define KERNELHUB_MULTIPLY_SHARED(n, count, ...)                                        \
  template <class T>                                                                    \
  static __device__ __forceinline__ void multiply_shared(                               \
      float (&sums)[count], std::uint64_t a, std::uint64_t b, bool is_added) {          \
    if constexpr (std::is_same_v<T, __half>) {                                          \
      KERNELHUB_SHARED_PRODUCT("f16", n, count, __VA_ARGS__);                           \
    } else {                                                                            \
      KERNELHUB_SHARED_PRODUCT("bf16", n, count, __VA_ARGS__);                          \
    }                                                                                   \
  }
#define KERNELHUB_MULTIPLY_REGISTERS(n, count, ...)                                     \
  template <class T>                                                                    \
  static __device__ __forceinline__ void multiply_registers(                            \
      float (&sums)[count], const std::uint32_t* a, std::uint64_t b) {                  \
    if constexpr (std::is_same_v<T, __half>) {                                          \
      KERNELHUB_REGISTER_PRODUCT("f16", n, count, __VA_ARGS__);                         \
    } else {                                                                            \
      KERNELHUB_REGISTER_PRODUCT("bf16", n, count, __VA_ARGS__);                        \
    }                                                                                   \
  }
// clang-format on

namespace kernelhub::flash_attention::cuda {

struct Sm90Instructions : Sm80Instructions {
  using TensorMap = CUtensorMap;

  static __device__ __forceinline__ std::uint32_t shuffle_xor_bits(std::uint32_t value,
                                                                   int lane_mask) {
    return __shfl_xor_sync(0xffffffffu, value, lane_mask);
  }

  // Registers of this thread's warpgroup, of which every warp calls it: multiples of 8.
  template <int kRegisters>
  static __device__ __forceinline__ void shrink_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
  }
  template <int kRegisters>
  static __device__ __forceinline__ void grow_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
  }

  /// Adds one to a count in global memory; what it was before.
  static __device__ __forceinline__ std::uint64_t fetch_increment(std::uint64_t* count) {
    return atomicAdd(reinterpret_cast<unsigned long long*>(count), 1ull);
  }

  // Named barriers: `threads` counts those that wait and those that only arrive.
  static __device__ __forceinline__ void sync_threads(int barrier, int threads) {
    asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
  }
  static __device__ __forceinline__ void arrive_threads(int barrier, int threads) {
    asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
  }

  // Barriers in shared memory. A phase ends when all arrivals and all expected bytes are there.
  static __device__ __forceinline__ void init_barrier(std::uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
  }
  /// Makes new barriers known to copies; before the block's barrier.
  static __device__ __forceinline__ void publish_barriers() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  static __device__ __forceinline__ void arrive(std::uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
  }
  /// Arrives, and lets the phase wait for `bytes` more.
  static __device__ __forceinline__ void arrive_expecting(std::uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
  }
  /// Waits for the end of a phase of this parity; that of phase 0 is 0. Before the first phase
  /// ends, one of parity 1 counts as over.
  static __device__ __forceinline__ void wait_phase(std::uint32_t barrier, std::uint32_t parity) {
    std::uint32_t is_over = 0;
    while (is_over == 0) {
      asm volatile(
          "{\n"
          ".reg .pred over;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
          "selp.b32 %0, 1, 0, over;\n"
          "}\n"
          : "=r"(is_over)
          : "r"(barrier), "r"(parity)
          : "memory");
    }
  }

  /// Copies the box at these coordinates to shared memory; its bytes arrive at `barrier`.
  static __device__ __forceinline__ void copy_box(const TensorMap& map, std::uint32_t to,
                                                  std::uint32_t barrier,
                                                  const int (&at)[kBoxDims]) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
        : "memory");
  }
  static __device__ __forceinline__ void prefetch_map(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
  }
  /// Orders this thread's stores to shared memory before what wgmma reads later.
  static __device__ __forceinline__ void publish_stores() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }

  // Products of a warpgroup run in the background: begin (registers are as written), products,
  // commit (ends a group), wait. In between nobody touches their registers.
  static __device__ __forceinline__ void begin_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  }
  static __device__ __forceinline__ void commit_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  }
  /// Waits until at most `kPending` groups are still under way; `sums` are of one that is not.
  template <int kPending, int kCount>
  static __device__ __forceinline__ void wait_products(float (&sums)[kCount]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
    hold(sums);
  }
  /// Keeps what is done to `values` before or after from moving across.
  template <int kCount>
  static __device__ __forceinline__ void hold(float (&values)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
  }
  template <int kCount>
  static __device__ __forceinline__ void hold(std::uint32_t (&values)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(values[i])::"memory");
  }

  // Products by the number of a thread's sums, n / 2; the widths that are in use.

  /// sums [64, n] (+)= a [64, 16] * b [n, 16] transposed, both in shared memory.
  KERNELHUB_MULTIPLY_SHARED(80, 40, 40, 41, 42)
  KERNELHUB_MULTIPLY_SHARED(112, 56, 56, 57, 58)
  KERNELHUB_MULTIPLY_SHARED(128, 64, 64, 65, 66)

  /// sums [64, n] += a [64, 16] * b [16, n], a in registers: four pairs as of an accumulator.
  KERNELHUB_MULTIPLY_REGISTERS(64, 32, 32, 33, 34, 35, 36)
  KERNELHUB_MULTIPLY_REGISTERS(96, 48, 48, 49, 50, 51, 52)
  KERNELHUB_MULTIPLY_REGISTERS(128, 64, 64, 65, 66, 67, 68)
  KERNELHUB_MULTIPLY_REGISTERS(192, 96, 96, 97, 98, 99, 100)
  KERNELHUB_MULTIPLY_REGISTERS(256, 128, 128, 129, 130, 131, 132)
};

}  // namespace kernelhub::flash_attention::cuda

#undef KERNELHUB_SUMS_32
#undef KERNELHUB_SUMS_40
#undef KERNELHUB_SUMS_48
#undef KERNELHUB_SUMS_56
#undef KERNELHUB_SUMS_64
#undef KERNELHUB_SUMS_96
#undef KERNELHUB_SUMS_128
#undef KERNELHUB_BIND_8
#undef KERNELHUB_BIND_16
#undef KERNELHUB_BIND_32
#undef KERNELHUB_BIND_40
#undef KERNELHUB_BIND_48
#undef KERNELHUB_BIND_56
#undef KERNELHUB_BIND_64
#undef KERNELHUB_BIND_96
#undef KERNELHUB_BIND_128
#undef KERNELHUB_SHARED_PRODUCT
#undef KERNELHUB_REGISTER_PRODUCT
#undef KERNELHUB_MULTIPLY_SHARED
#undef KERNELHUB_MULTIPLY_REGISTERS
