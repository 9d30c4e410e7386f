// SPDX-License-Identifier: Apache-2.0
// What forward and backward share: the reciprocal root mean square, and access to tensors whose
// dtype is not that of x.
#pragma once

#include "primitives/dtype.h"
#include "primitives/reciprocal_root.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::rmsnorm::cuda {

using primitives::DType;
using primitives::RowPlace;
using primitives::Vec128;

// Turns of a thread over a row that is read again between two folds into fp64.
constexpr int kTurnsPerFold = 8;

/// Lanes of a unit of x.
template <class T>
constexpr int kLanes = Vec128<T>::kLanes;

template <class T>
constexpr DType dtype_of = DType::kFloat32;
template <>
constexpr DType dtype_of<__half> = DType::kFloat16;
template <>
constexpr DType dtype_of<__nv_bfloat16> = DType::kBFloat16;

/// Units of G that hold as many columns as one unit of T.
template <class T, class G>
constexpr int kParts = kLanes<T> / kLanes<G>;

/// 1 / sqrt(squares * share + eps). A sum that fp32 cannot hold is infinite, as it is in the
/// composed formula.
__device__ __forceinline__ float reciprocal_rms(float squares, double share, double eps) {
  return primitives::reciprocal_root(
      static_cast<float>(static_cast<double>(squares) * share + eps));
}

/// One unit of a row that mostly is aligned, and is not worth the code of others.
template <class G>
__device__ __forceinline__ Vec128<G> load_plain_unit(const G* row, std::int64_t unit,
                                                     std::int64_t cols) {
  const std::int64_t col = unit * kLanes<G>;
  if (primitives::bytes_off(row) == 0 && col + kLanes<G> <= cols) {
    return primitives::load_vec128(row + col);
  }
  return primitives::load_columns(row, col, cols);
}

/// The columns of one unit of T in a row of G, which is T or fp32; zeros past the end.
template <class T, class G>
__device__ __forceinline__ void load_parts(const G* row, unsigned unit, std::int64_t cols,
                                           Vec128<G> (&parts)[kParts<T, G>]) {
#pragma unroll
  for (int p = 0; p < kParts<T, G>; ++p) {
    const std::int64_t part = std::int64_t{unit} * kParts<T, G> + p;
    if constexpr (sizeof(T) == sizeof(G)) {
      parts[p] = primitives::load_unit(row, part, cols);
    } else {
      parts[p] = load_plain_unit(row, part, cols);
    }
  }
}

/// As fp32, of a dtype that is neither that of x nor fp32.
template <class T, class W>
__device__ __forceinline__ void load_columns_of(const W* row, unsigned unit, std::int64_t cols,
                                                float (&values)[kLanes<T>]) {
  const std::int64_t col = std::int64_t{unit} * kLanes<T>;
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    values[i] = col + i < cols ? primitives::widen(row[col + i]) : 0.0f;
  }
}

/// The weight as fp32 for the columns of one unit of T; ones without a weight. kIsAligned: a weight
/// of T consists of whole, aligned units, and there is no other.
template <class T, bool kIsAligned>
__device__ __forceinline__ void load_weight(const void* weight, DType dtype, unsigned unit,
                                            std::int64_t cols, float offset,
                                            float (&values)[kLanes<T>]) {
  if (weight == nullptr) {
#pragma unroll
    for (float& value : values) value = 1.0f;
    return;
  }
  if constexpr (kIsAligned) {
    const auto vec =
        primitives::load_vec128(static_cast<const T*>(weight) + std::int64_t{unit} * kLanes<T>);
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) values[i] = primitives::widen(vec.lane[i]) + offset;
    return;
  }
  if (dtype == dtype_of<T>) {
    const auto vec = load_plain_unit(static_cast<const T*>(weight), unit, cols);
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) values[i] = primitives::widen(vec.lane[i]);
  } else if (dtype == DType::kFloat32) {
#pragma unroll
    for (int p = 0; p < kParts<T, float>; ++p) {
      const auto vec = load_plain_unit(static_cast<const float*>(weight),
                                       std::int64_t{unit} * kParts<T, float> + p, cols);
#pragma unroll
      for (int i = 0; i < kLanes<float>; ++i) values[p * kLanes<float> + i] = vec.lane[i];
    }
  } else if (dtype == DType::kFloat16) {
    load_columns_of<T>(static_cast<const __half*>(weight), unit, cols, values);
  } else {
    load_columns_of<T>(static_cast<const __nv_bfloat16*>(weight), unit, cols, values);
  }
#pragma unroll
  for (float& value : values) value += offset;
}

/// Whether kIsAligned holds for the weight.
template <class T>
bool is_aligned_weight(const void* weight, DType dtype, std::int64_t cols) {
  return weight == nullptr ||
         (dtype == dtype_of<T> &&
          primitives::has_aligned_rows(static_cast<const T*>(weight), 1, cols, cols));
}

/// The addend that changes no bit, not even a zero's sign, where there is no offset.
inline float addend(double offset) { return offset == 0.0 ? -0.0f : static_cast<float>(offset); }

/// Stores the columns of one unit of T into a row of fp32.
template <class T>
__device__ __forceinline__ void store_as_float(const float (&values)[kLanes<T>], float* row,
                                               unsigned unit, std::int64_t cols) {
  const std::int64_t col = std::int64_t{unit} * kLanes<T>;
  if (primitives::bytes_off(row) == 0 && col + kLanes<T> <= cols) {
#pragma unroll
    for (int p = 0; p < kParts<T, float>; ++p) {
      Vec128<float> part;
#pragma unroll
      for (int i = 0; i < kLanes<float>; ++i) part.lane[i] = values[p * kLanes<float> + i];
      primitives::store_vec128(part, row + col + p * kLanes<float>);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    if (col + i < cols) row[col + i] = values[i];
  }
}

template <class T>
__device__ __forceinline__ unsigned units_of(std::int64_t cols) {
  return static_cast<unsigned>((cols + kLanes<T> - 1) / kLanes<T>);
}

}  // namespace kernelhub::rmsnorm::cuda
