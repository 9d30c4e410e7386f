// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding of one pair of elements, in fp32 with one rounding.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "flash_attention/params.h"

namespace kernelhub::flash_attention::cuda {

/// Element `at` of a table of cosines or sines.
__device__ __forceinline__ float angle_at(primitives::DType dtype, const void* table,
                                          std::int64_t at) {
  switch (dtype) {
    case primitives::DType::kFloat16:
      return static_cast<float>(static_cast<const __half*>(table)[at]);
    case primitives::DType::kBFloat16:
      return static_cast<float>(static_cast<const __nv_bfloat16*>(table)[at]);
    default:
      return static_cast<const float*>(table)[at];
  }
}

/// `position` is one that the tables have.
template <class T>
__device__ __forceinline__ void rotate_pair(const Rotary& rotary, std::int64_t position, int pair,
                                            T& x, T& y) {
  const std::int64_t at = position * rotary.row_stride + pair;
  const float cosine = angle_at(rotary.dtype, rotary.cos, at);
  const float sine = angle_at(rotary.dtype, rotary.sin, at);
  const float first = static_cast<float>(x);
  const float second = static_cast<float>(y);
  x = static_cast<T>(first * cosine - second * sine);
  y = static_cast<T>(first * sine + second * cosine);
}

}  // namespace kernelhub::flash_attention::cuda
