// SPDX-License-Identifier: Apache-2.0
// The instructions of sm_90a that the forward kernel is written in, one function each, from the PTX
// ISA. As with Sm80Instructions, tests run the kernel with another struct.
#pragma once

#include <cuda.h>
#include <type_traits>

#include "flash_attention_cuda/sm80_instructions.cuh"
#include "flash_attention_cuda/sm90_layout.h"

// The accumulators of wgmma are single operands: their numbers, and their registers.
// clang-format off
#define KERNELHUB_SUMS_32 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define KERNELHUB_SUMS_64 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, " \
  "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define KERNELHUB_BIND_8(c, i)                                                             \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define KERNELHUB_BIND_32(c, i)                                                        \
  KERNELHUB_BIND_8(c, i), KERNELHUB_BIND_8(c, i + 8), KERNELHUB_BIND_8(c, i + 16), \
      KERNELHUB_BIND_8(c, i + 24)
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

  /// sums [64, n] (+)= a [64, 16] * b [n, 16] transposed, both in shared memory, n = 2 kCount.
  template <class T, int kCount>
  static __device__ __forceinline__ void multiply_shared(float (&sums)[kCount], std::uint64_t a,
                                                         std::uint64_t b, bool is_added) {
    static_assert(kCount == 64, "one width is in use");
    const int adds = is_added ? 1 : 0;
#define KERNELHUB_PRODUCT(type)                                                          \
  asm volatile(                                                                          \
      "{\n.reg .pred adds;\nsetp.ne.b32 adds, %66, 0;\n"                                 \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " KERNELHUB_SUMS_64 \
      ", %64, %65, adds, 1, 1, 0, 0;\n}\n"                                               \
      : KERNELHUB_BIND_32(sums, 0), KERNELHUB_BIND_32(sums, 32)                          \
      : "l"(a), "l"(b), "r"(adds))
    if constexpr (std::is_same_v<T, __half>) {
      KERNELHUB_PRODUCT("f16");
    } else {
      KERNELHUB_PRODUCT("bf16");
    }
#undef KERNELHUB_PRODUCT
  }

  /// sums [64, n] += a [64, 16] * b [16, n], a in registers: four pairs as of an accumulator.
  template <class T, int kCount>
  static __device__ __forceinline__ void multiply_registers(float (&sums)[kCount],
                                                            const std::uint32_t* a,
                                                            std::uint64_t b) {
    static_assert(kCount == 32 || kCount == 64, "two widths are in use");
#define KERNELHUB_PRODUCT_64(type)                                                               \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " KERNELHUB_SUMS_32 \
               ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"                                      \
               : KERNELHUB_BIND_32(sums, 0)                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define KERNELHUB_PRODUCT_128(type)                                                               \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " KERNELHUB_SUMS_64 \
               ", {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"                                       \
               : KERNELHUB_BIND_32(sums, 0), KERNELHUB_BIND_32(sums, 32)                          \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    if constexpr (kCount == 32 && std::is_same_v<T, __half>) {
      KERNELHUB_PRODUCT_64("f16");
    } else if constexpr (kCount == 32) {
      KERNELHUB_PRODUCT_64("bf16");
    } else if constexpr (std::is_same_v<T, __half>) {
      KERNELHUB_PRODUCT_128("f16");
    } else {
      KERNELHUB_PRODUCT_128("bf16");
    }
#undef KERNELHUB_PRODUCT_64
#undef KERNELHUB_PRODUCT_128
  }
};

}  // namespace kernelhub::flash_attention::cuda

#undef KERNELHUB_SUMS_32
#undef KERNELHUB_SUMS_64
#undef KERNELHUB_BIND_8
#undef KERNELHUB_BIND_32
