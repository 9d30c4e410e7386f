// SPDX-License-Identifier: Apache-2.0
// Mean and reciprocal deviation of rows, whose shares the threads of a row visit unit by unit.
// Corrected two passes (T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37
// (1983), 242-247): deviations from a rounded mean are exact where the mean dwarfs the spread, and
// their own mean is what it lacks. Means are sums of x / cols, so that finite rows never overflow.
// Units are added up in fp32, those of a thread too where it holds them; threads in fp32 for the
// center, as deviations make good what it lacks, and in fp64 for the deviations.
#pragma once

#include <type_traits>

#include "layer_norm/params.h"
#include "primitives/pair16.cuh"
#include "primitives/reciprocal_root.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {

using primitives::forget;

/// As `forget`, for what ptxas keeps in registers, too, which sees no empty asm statement:
/// blockIdx.z is 0, but only a launch says so.
__device__ __forceinline__ void conceal(unsigned& value) {
  forget(value);
  value ^= blockIdx.z;
}

template <class T, int kGroups>
__device__ __forceinline__ void conceal(primitives::Vec128<T> (&held)[kGroups]) {
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    uint4 bits = primitives::bits_of(held[k]);
    conceal(bits.x);
    conceal(bits.y);
    conceal(bits.z);
    conceal(bits.w);
    memcpy(&held[k], &bits, sizeof(bits));
  }
}

/// Most threads of a block of a kernel whose threads hold kGroups groups. How many such blocks must
/// fit on a multiprocessor is said beside each kernel, too: few enough that nvcc 13.0 spills
/// nothing on any architecture. Left to itself it wants more blocks than the registers have room
/// for.
template <int kGroups>
constexpr int kThreads = kGroups == 1 ? primitives::kNarrowRowThreads : primitives::kMaxRowThreads;

struct Moments {
  float center;
  float rstd;
  float shift;  // -lack * rstd: n = (x - center) * rstd + shift
  float lack;   // what center lacks to the mean
};

/// Columns that a unit of a row has: kLanes, fewer in the last unit, none behind it.
template <int kLanes>
__device__ __forceinline__ int columns_of_unit(unsigned unit, std::int64_t cols) {
  const std::int64_t rest = cols - std::int64_t{unit} * kLanes;
  return rest >= kLanes ? kLanes : rest > 0 ? static_cast<int>(rest) : 0;
}

/// One unit of a row that starts inside a 16-byte word, or ends inside one. Not inlined: its code
/// is long, and a kernel has many places where that may be so.
template <class T>
__device__ __noinline__ uint4 load_unit_bits(const T* row, unsigned unit, std::int64_t cols) {
  const std::int64_t col = std::int64_t{unit} * primitives::Vec128<T>::kLanes;
  if (!primitives::is_split(row, unit, cols)) {
    return primitives::bits_of(primitives::load_columns(row, col, cols));
  }
  const unsigned off = primitives::bytes_off(row);
  const T* word = row + col - off / sizeof(T);
  const auto first = primitives::load_vec128(word);
  const auto second = primitives::load_vec128(word + primitives::Vec128<T>::kLanes);
  return primitives::bytes_from(primitives::bits_of(first), primitives::bits_of(second), off);
}

/// As load_unit, with less code and fewer registers for units that rarely are not aligned, as those
/// of a parameter [cols].
template <class T>
__device__ __forceinline__ primitives::Vec128<T> load_parameter(const T* parameter, unsigned unit,
                                                                std::int64_t cols) {
  constexpr int kLanes = primitives::Vec128<T>::kLanes;
  const std::int64_t col = std::int64_t{unit} * kLanes;
  if (primitives::bytes_off(parameter) == 0 && col + kLanes <= cols) {
    return primitives::load_vec128(parameter + col);
  }
  const uint4 bits = load_unit_bits(parameter, unit, cols);
  primitives::Vec128<T> vec;
  memcpy(&vec, &bits, sizeof(vec));
  return vec;
}

/// Of held rows: sums of at most 64 columns, whose threads add fp32; else of any number.
template <int kGroups>
using ThreadSum = std::conditional_t<kGroups != 0, float, double>;

/// What no row changes.
struct RowShape {
  Norm norm;
  std::int64_t cols;
  double share;  // 1 / cols
  double eps;
};

inline RowShape row_shape(Norm norm, std::int64_t cols, double eps) {
  return {norm, cols, 1.0 / static_cast<double>(cols), eps};
}

struct MomentsMemory {
  primitives::RowSumsMemory<float, 1> center;
  primitives::RowSumsMemory<double, 2> deviations;
};

template <bool kIsClustered>
class RowMoments {
 public:
  __device__ __forceinline__ RowMoments(MomentsMemory& memory, unsigned threads_per_row)
      : center_(memory.center, threads_per_row), deviations_(memory.deviations, threads_per_row) {}

  /// `visit(f)` calls `f(unit, lanes)` for every unit of this thread, lanes being fp32. kIsAligned:
  /// units are whole, and those that are none of the row are not visited for deviations. `load()`
  /// is called once no more of the row is needed but its sums over threads, to have registers and
  /// the latency of the last sum for it. Needs every thread of the block, or of the cluster.
  template <class Sum, int kLanes, bool kIsAligned, class Visit, class Load>
  __device__ __forceinline__ Moments of(const RowShape& shape, const Visit& visit,
                                        const Load& load) {
    const auto lane_share = static_cast<float>(shape.share);
    float center = 0.0f;
    if (shape.norm == Norm::kLayer) {
      Sum part = 0;
      visit([&](unsigned, const float(&x)[kLanes]) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kLanes; ++i) sum = fmaf(x[i], lane_share, sum);
        part += static_cast<Sum>(sum);
      });
      float mean[1] = {static_cast<float>(part)};
      center_.add_up(mean);
      center = mean[0];
    }
    Sum parts[2] = {0, 0};
    const auto units = static_cast<unsigned>((shape.cols + kLanes - 1) / kLanes);
    visit([&](unsigned unit, const float(&x)[kLanes]) {
      if (kIsAligned && unit >= units) return;
      float lack = 0.0f;
      float squares = 0.0f;
      const int columns = kIsAligned ? kLanes : columns_of_unit<kLanes>(unit, shape.cols);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float d = i < columns ? x[i] - center : 0.0f;
        lack = fmaf(d, lane_share, lack);
        squares = fmaf(d, d, squares);
      }
      parts[0] += static_cast<Sum>(lack);
      parts[1] += static_cast<Sum>(squares);
    });
    double sums[2] = {static_cast<double>(parts[0]), static_cast<double>(parts[1])};
    load();
    deviations_.add_up(sums);
    const double lack = shape.norm == Norm::kLayer ? sums[0] : 0.0;
    const double variance = fma(sums[1], shape.share, -lack * lack);
    const float rstd = primitives::reciprocal_root(
        static_cast<float>((variance < 0.0 ? 0.0 : variance) + shape.eps));
    const auto shortage = static_cast<float>(lack);
    return {center, rstd, -shortage * rstd, shortage};
  }

  template <class Sum, int kLanes, class Visit>
  __device__ __forceinline__ Moments of(const RowShape& shape, const Visit& visit) {
    return of<Sum, kLanes, false>(shape, visit, [] {});
  }

 private:
  primitives::RowSums<float, 1, kIsClustered> center_;
  primitives::RowSums<double, 2, kIsClustered> deviations_;
};

/// Calls `f(unit, lanes)` for the units that `held` has of a row.
template <class T, int kGroups, class F>
__device__ __forceinline__ void visit_held(const primitives::Vec128<T> (&held)[kGroups],
                                           const primitives::RowPlace& place, const F& f) {
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    float lanes[primitives::Vec128<T>::kLanes];
    primitives::widen_lanes<T>(primitives::bits_of(held[k]), lanes);
    f(place.unit + k * place.unit_step, lanes);
  }
}

}  // namespace kernelhub::layer_norm::cuda
