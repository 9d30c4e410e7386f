// SPDX-License-Identifier: Apache-2.0
// Two 16-bit values in one register: native arithmetic that rounds after every operation, never
// contracted. Subnormals are kept.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "primitives/vec128.cuh"

namespace kernelhub::primitives {

template <class T>
struct PairOf;
template <>
struct PairOf<__half> {
  using Type = __half2;
};
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
};
template <class T>
using Pair = typename PairOf<T>::Type;

/// Lanes 2 * index and 2 * index + 1.
template <class T>
__device__ __forceinline__ Pair<T> pair_at(const Vec128<T>& vec, int index) {
  Pair<T> pair;
  memcpy(&pair, &vec.lane[2 * index], sizeof(pair));
  return pair;
}

template <class T>
__device__ __forceinline__ void set_pair(Vec128<T>& vec, int index, Pair<T> pair) {
  memcpy(&vec.lane[2 * index], &pair, sizeof(pair));
}

/// Both halves hold the value of these bits.
template <class T>
__device__ __forceinline__ Pair<T> pair_of_bits(std::uint16_t bits) {
  const std::uint32_t both = bits * 0x10001u;
  Pair<T> pair;
  memcpy(&pair, &both, sizeof(pair));
  return pair;
}

__device__ __forceinline__ float2 widen(__half2 pair) { return __half22float2(pair); }
__device__ __forceinline__ float2 widen(__nv_bfloat162 pair) {
  std::uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u)};
}

/// fp32 -> 16 bits, to nearest even.
template <class T>
__device__ __forceinline__ Pair<T> narrow_pair(float low, float high);
template <>
__device__ __forceinline__ __half2 narrow_pair<__half>(float low, float high) {
  return __floats2half2_rn(low, high);
}
template <>
__device__ __forceinline__ __nv_bfloat162 narrow_pair<__nv_bfloat16>(float low, float high) {
  return __floats2bfloat162_rn(low, high);
}

/// `function` of both halves in fp32, rounded once.
template <class T, class Function>
__device__ __forceinline__ Pair<T> map_pair(Pair<T> pair, const Function& function) {
  const float2 wide = widen(pair);
  return narrow_pair<T>(function(wide.x), function(wide.y));
}

/// Whether the magnitude of every lane is at most `bound`; false for NaN.
template <class T>
__device__ __forceinline__ bool all_within(const Vec128<T>& vec, Pair<T> bound) {
  static_assert(Vec128<T>::kLanes == 8, "four pairs");
  const Pair<T> most = __hmax2_nan(__hmax2_nan(__habs2(pair_at(vec, 0)), __habs2(pair_at(vec, 1))),
                                   __hmax2_nan(__habs2(pair_at(vec, 2)), __habs2(pair_at(vec, 3))));
  return __hble2(most, bound);
}

}  // namespace kernelhub::primitives
