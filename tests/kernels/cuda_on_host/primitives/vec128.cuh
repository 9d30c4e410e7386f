// SPDX-License-Identifier: Apache-2.0
// Stands in for primitives/vec128.cuh; an access that is not aligned ends the process.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

namespace kernelhub::primitives {

template <class T>
struct alignas(16) Vec128 {
  static constexpr int kLanes = 16 / sizeof(T);
  T lane[kLanes];
};

template <class T>
Vec128<T> load_vec128(const T* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) cuda_on_host::fail("misaligned load");
  Vec128<T> vec;
  std::memcpy(&vec, from, sizeof(vec));
  return vec;
}

template <class T>
void store_vec128(const Vec128<T>& vec, T* to) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0) cuda_on_host::fail("misaligned store");
  std::memcpy(to, &vec, sizeof(vec));
}

inline float widen(float value) { return value; }
inline float widen(__half value) { return __half2float(value); }
inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T>
T narrow(float value);
template <>
inline float narrow<float>(float value) {
  return value;
}
template <>
inline __half narrow<__half>(float value) {
  return __float2half_rn(value);
}
template <>
inline __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <class T>
float rounded(float value) {
  return widen(narrow<T>(value));
}

}  // namespace kernelhub::primitives
