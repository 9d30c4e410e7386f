// SPDX-License-Identifier: Apache-2.0
// Units of the fused op's rows as fp32. A unit is as many columns as 16 bytes of T hold; tensors of
// fp32 beside 16-bit T have two 16-byte words a unit.
#pragma once

#include "layer_norm/params.h"
#include "layer_norm_cuda/moments.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {

using primitives::DType;
using primitives::Vec128;

template <class T>
constexpr int kLanesOf = Vec128<T>::kLanes;

/// Element `index` of a tensor of `dtype`, T or fp32.
template <class T>
__device__ __forceinline__ const void* element(DType dtype, const void* base, std::int64_t index) {
  if (dtype == DType::kFloat32) return static_cast<const float*>(base) + index;
  return static_cast<const T*>(base) + index;
}
template <class T>
__device__ __forceinline__ void* element(DType dtype, void* base, std::int64_t index) {
  if (dtype == DType::kFloat32) return static_cast<float*>(base) + index;
  return static_cast<T*>(base) + index;
}

template <class T, class Stored>
__device__ __forceinline__ void load_words(const Stored* row, unsigned unit, std::int64_t cols,
                                           float (&to)[kLanesOf<T>]) {
  constexpr int kWords = kLanesOf<T> / kLanesOf<Stored>;
#pragma unroll
  for (int word = 0; word < kWords; ++word) {
    const Vec128<Stored> vec = load_parameter(row, unit * kWords + word, cols);
#pragma unroll
    for (int i = 0; i < kLanesOf<Stored>; ++i) {
      to[word * kLanesOf<Stored> + i] = primitives::widen(vec.lane[i]);
    }
  }
}

/// One unit of a row at any address, vectorized where the row starts at a 16-byte word; zeros
/// behind the row.
template <class T>
__device__ __forceinline__ void load_lanes(DType dtype, const void* row, unsigned unit,
                                           std::int64_t cols, float (&to)[kLanesOf<T>]) {
  if (dtype == DType::kFloat32) {
    load_words<T>(static_cast<const float*>(row), unit, cols, to);
  } else if constexpr (sizeof(T) == 2) {
    load_words<T>(static_cast<const T*>(row), unit, cols, to);
  }
}

/// The columns of one unit one by one; not inlined, as load_unit_bits.
template <class T>
__device__ __noinline__ void store_column_bits(uint4 bits, T* row, std::int64_t col,
                                               std::int64_t cols) {
  Vec128<T> vec;
  memcpy(&vec, &bits, sizeof(vec));
#pragma unroll
  for (int i = 0; i < kLanesOf<T>; ++i) {
    if (col + i < cols) row[col + i] = vec.lane[i];
  }
}

template <class T, class Stored>
__device__ __forceinline__ void store_words(const float (&from)[kLanesOf<T>], Stored* row,
                                            unsigned unit, std::int64_t cols) {
  constexpr int kWords = kLanesOf<T> / kLanesOf<Stored>;
#pragma unroll
  for (int word = 0; word < kWords; ++word) {
    const std::int64_t col = (std::int64_t{unit} * kWords + word) * kLanesOf<Stored>;
    Vec128<Stored> vec;
#pragma unroll
    for (int i = 0; i < kLanesOf<Stored>; ++i) {
      vec.lane[i] = primitives::narrow<Stored>(from[word * kLanesOf<Stored> + i]);
    }
    if (primitives::bytes_off(row) == 0 && col + kLanesOf<Stored> <= cols) {
      primitives::store_vec128(vec, row + col);
    } else {
      store_column_bits(primitives::bits_of(vec), row, col, cols);
    }
  }
}

template <class T>
__device__ __forceinline__ void store_lanes(DType dtype, const float (&from)[kLanesOf<T>],
                                            void* row, unsigned unit, std::int64_t cols) {
  if (dtype == DType::kFloat32) {
    store_words<T>(from, static_cast<float*>(row), unit, cols);
  } else if constexpr (sizeof(T) == 2) {
    store_words<T>(from, static_cast<T*>(row), unit, cols);
  }
}

/// kGroups units of an aligned row, of T or fp32, loaded in a batch: all are on their way together.
template <class T, int kGroups>
class HeldUnits {
 public:
  using Lanes = float[kGroups][kLanesOf<T>];

  /// Units `first + k * step`; the last of the row's `units` in place of those behind it.
  __device__ __forceinline__ void load(DType dtype, const void* row, unsigned first, unsigned step,
                                       unsigned units) {
    if (dtype == DType::kFloat32) {
      load_as(static_cast<const float*>(row), first, step, units);
    } else if constexpr (sizeof(T) == 2) {
      load_as(static_cast<const T*>(row), first, step, units);
    }
  }

  /// Calls `f(lane, value)` for every lane of `lanes` and what was loaded for it.
  template <class F>
  __device__ __forceinline__ void combine(DType dtype, Lanes& lanes, const F& f) const {
    if (dtype == DType::kFloat32) {
      combine_as<float>(lanes, f);
    } else if constexpr (sizeof(T) == 2) {
      combine_as<T>(lanes, f);
    }
  }

  template <class Stored>
  __device__ __forceinline__ void load_as(const Stored* row, unsigned first, unsigned step,
                                          unsigned units) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      unsigned unit = first + k * step;
      unit = unit < units ? unit : units - 1;
      const Stored* from = row + std::int64_t{unit} * kLanesOf<T>;
#pragma unroll
      for (int word = 0; word < kWords<Stored>; ++word) {
        words_[k][word] =
            primitives::bits_of(primitives::load_vec128(from + word * kLanesOf<Stored>));
      }
    }
  }

  template <class Stored, class F>
  __device__ __forceinline__ void combine_as(Lanes& lanes, const F& f) const {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
#pragma unroll
      for (int word = 0; word < kWords<Stored>; ++word) {
        float values[kLanesOf<Stored>];
        primitives::widen_lanes<Stored>(words_[k][word], values);
#pragma unroll
        for (int i = 0; i < kLanesOf<Stored>; ++i) {
          f(lanes[k][word * kLanesOf<Stored> + i], values[i]);
        }
      }
    }
  }

 private:
  template <class Stored>
  static constexpr int kWords = kLanesOf<T> / kLanesOf<Stored>;

  uint4 words_[kGroups][kWords<float>];
};

/// Stores units `first + k * step` of an aligned row of Stored that has `units`.
template <class T, class Stored, int kGroups>
__device__ __forceinline__ void store_units_as(const float (&lanes)[kGroups][kLanesOf<T>],
                                               Stored* row, unsigned first, unsigned step,
                                               unsigned units) {
  constexpr int kLanes = kLanesOf<Stored>;
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    const unsigned unit = first + k * step;
#pragma unroll
    for (int word = 0; word < kLanesOf<T> / kLanes; ++word) {
      float part[kLanes];
#pragma unroll
      for (int i = 0; i < kLanes; ++i) part[i] = lanes[k][word * kLanes + i];
      Stored* to = row + std::int64_t{unit} * kLanesOf<T> + word * kLanes;
      if (unit < units) primitives::store_vec128(primitives::narrow_lanes<Stored>(part), to);
    }
  }
}

/// Row that a subset names for `row`.
struct SubsetRow {
  std::int64_t row;  // -1: none
  bool is_outside;   // the number is none of [0, rows]
};

__device__ __forceinline__ SubsetRow subset_row(const std::int32_t* subset, std::int64_t row,
                                                std::int64_t rows) {
  if (subset == nullptr) return {row, false};
  const std::int64_t value = subset[row];
  const bool is_outside = value < 0 || value > rows;
  return {is_outside ? -1 : value - 1, is_outside};
}

template <class T>
__device__ __forceinline__ float row_scale(const FusedShape& shape, std::int64_t row) {
  const auto constant = static_cast<float>(shape.rowscale_const);
  if (shape.rowscale == nullptr) return constant;
  return constant * primitives::widen(static_cast<const T*>(shape.rowscale)[row]);
}

/// x * scale where the mask of the row keeps the column, else 0.
template <int kLanes>
__device__ __forceinline__ void apply_mask(const std::uint8_t* mask, unsigned unit,
                                           std::int64_t cols, float scale, float (&x)[kLanes]) {
  const std::int64_t col = std::int64_t{unit} * kLanes;
#pragma unroll
  for (int i = 0; i < kLanes; ++i) {
    x[i] = col + i < cols && mask[col + i] != 0 ? x[i] * scale : 0.0f;
  }
}

/// Calls `visit(unit, k)` for the units of this thread: kGroups of them, held where k says, or for
/// kGroups = 0 as many as there are.
template <int kGroups, class Visit>
__device__ __forceinline__ void each_unit(primitives::RowPlace& place, unsigned units,
                                          const Visit& visit) {
  forget(place.unit);
  if constexpr (kGroups > 0) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      if (unit < units) visit(unit, k);
    }
  } else {
    for (unsigned unit = place.unit; unit < units; unit += place.unit_step) visit(unit, 0);
  }
}

}  // namespace kernelhub::layer_norm::cuda
