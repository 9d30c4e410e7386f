// SPDX-License-Identifier: Apache-2.0
// Storage types of device code and 16-byte groups of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace kernelhub::primitives {

/// As many elements as one 128-bit load moves; memory must be 16-byte aligned.
template <class T>
struct alignas(16) Vec128 {
  static constexpr int kLanes = 16 / sizeof(T);
  T lane[kLanes];
};

template <class T>
__device__ __forceinline__ Vec128<T> load_vec128(const T* from) {
  // volatile: several loads stay together, also where a branch comes before the use of some.
  uint4 bits;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  Vec128<T> vec;
  memcpy(&vec, &bits, sizeof(vec));
  return vec;
}

template <class T>
__device__ __forceinline__ void store_vec128(const Vec128<T>& vec, T* to) {
  uint4 bits;
  memcpy(&bits, &vec, sizeof(vec));
  // Of an assignment nvcc 13.0 makes one store per lane, and of __stwb a strong one.
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(to)), "r"(bits.x), "r"(bits.y), "r"(bits.z),
                 "r"(bits.w)
               : "memory");
}

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

/// fp32 -> T, to nearest even.
template <class T>
__device__ __forceinline__ T narrow(float value);
template <>
__device__ __forceinline__ float narrow<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half narrow<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// T(value): the value that a store and a load would give.
template <class T>
__device__ __forceinline__ float rounded(float value) {
  return widen(narrow<T>(value));
}

}  // namespace kernelhub::primitives
