// SPDX-License-Identifier: Apache-2.0
// Two 16-bit values in one register: native arithmetic that rounds after every operation, never
// contracted. Subnormals are kept.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

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

/// Both halves of a word as fp32.
template <class T>
__device__ __forceinline__ float2 widen_word(std::uint32_t word) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
  } else {
    Pair<T> pair;
    memcpy(&pair, &word, sizeof(pair));
    return widen(pair);
  }
}

/// The lanes of a unit as fp32. Of 16 bits two at a time: nvcc 13.0 takes an instruction more for
/// an upper half that stands alone.
template <class T>
__device__ __forceinline__ void widen_lanes(uint4 unit, float (&lanes)[Vec128<T>::kLanes]) {
  const std::uint32_t words[4] = {unit.x, unit.y, unit.z, unit.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == sizeof(float)) {
      lanes[i] = __uint_as_float(words[i]);
    } else {
      const float2 pair = widen_word<T>(words[i]);
      lanes[2 * i] = pair.x;
      lanes[2 * i + 1] = pair.y;
    }
  }
}

/// fp32 -> T, to nearest even; 16 bits two at a time, which is one instruction.
template <class T>
__device__ __forceinline__ Vec128<T> narrow_lanes(const float (&lanes)[Vec128<T>::kLanes]) {
  Vec128<T> vec;
  if constexpr (sizeof(T) == sizeof(float)) {
    memcpy(&vec, lanes, sizeof(vec));
  } else {
#pragma unroll
    for (int i = 0; i < Vec128<T>::kLanes; i += 2) {
      set_pair(vec, i / 2, narrow_pair<T>(lanes[i], lanes[i + 1]));
    }
  }
  return vec;
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
