// SPDX-License-Identifier: Apache-2.0
// The instructions of sm_80 that the forward kernel is written in, one function each. The kernel
// takes this struct as a parameter: tests run it with another one, made from the PTX ISA's text.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace kernelhub::flash_attention::cuda {

struct Sm80Instructions {
  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ void sync_block() { __syncthreads(); }
  static __device__ __forceinline__ void sync_warp() { __syncwarp(); }

  static __device__ __forceinline__ float shuffle_xor(float value, int lane_mask) {
    return __shfl_xor_sync(0xffffffffu, value, lane_mask);
  }

  /// 2^x, relative error 2^-22; 2^-inf = 0, 2^0 = 1.
  static __device__ __forceinline__ float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }

  static __device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }

  static __device__ __forceinline__ float log2(float x) { return log2f(x); }

  /// Address of shared memory as the instructions below take it.
  static __device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
  }
  /// The same value, of which the compiler knows nothing: what is computed from it stays where it
  /// is used. Without it the addresses of all steps of a loop are computed ahead, and spilled.
  static __device__ __forceinline__ int opaque(int value) {
    asm volatile("" : "+r"(value));
    return value;
  }

  /// Copies 16 bytes to shared memory in the background, or clears them and reads nothing.
  static __device__ __forceinline__ void copy_async(std::uint32_t to, const void* from,
                                                    bool is_copied) {
    const std::uint32_t bytes = is_copied ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
  }
  /// Ends a group of copies.
  static __device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  /// Waits until at most `kPending` groups of this thread are still under way.
  template <int kPending>
  static __device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
  }

  /// Four 8 x 8 matrices of 16-bit elements; lane l holds the address of row l % 8 of matrix l / 8.
  static __device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
  }
  static __device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4],
                                                                  std::uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
  }

  /// c [16, 8] += a [16, 16] * b [16, 8], fp32 sums.
  template <class T>
  static __device__ __forceinline__ void multiply_add(float (&c)[4], const std::uint32_t (&a)[4],
                                                      std::uint32_t b0, std::uint32_t b1) {
    if constexpr (kIsHalf<T>) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
          "{%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
          "{%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
  }

  /// Both values rounded to T, `low` in the low half.
  template <class T>
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    std::uint32_t bits;
    if constexpr (kIsHalf<T>) {
      const __half2 pair = __floats2half2_rn(low, high);
      memcpy(&bits, &pair, sizeof(bits));
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
      memcpy(&bits, &pair, sizeof(bits));
    }
    return bits;
  }

 private:
  template <class T>
  static constexpr bool kIsHalf = false;
};

template <>
inline constexpr bool Sm80Instructions::kIsHalf<__half> = true;

}  // namespace kernelhub::flash_attention::cuda
