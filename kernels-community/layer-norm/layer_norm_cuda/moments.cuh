// SPDX-License-Identifier: Apache-2.0
// Mean and reciprocal deviation of rows, whose shares the threads of a row visit unit by unit.
// Corrected two passes (T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37
// (1983), 242-247): deviations from a rounded mean are exact where the mean dwarfs the spread, and
// their own mean is what it lacks. Means are sums of x / cols, so that finite rows never overflow.
// Units are added up in fp32, units of a thread and threads in fp64.
#pragma once

#include "layer_norm/params.h"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {

using primitives::forget;

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

/// The columns of one unit one by one. Not inlined: its code is long, and a kernel has many places
/// where a row may start inside a 16-byte word.
template <class T>
__device__ __noinline__ uint4 load_column_bits(const T* row, std::int64_t col, std::int64_t cols) {
  return primitives::bits_of(primitives::load_columns(row, col, cols));
}

/// One unit of a row. As load_unit, but of a row that starts inside a 16-byte word column by
/// column: less code and fewer registers for what is rarely so, as a parameter [cols].
template <class T>
__device__ __forceinline__ primitives::Vec128<T> load_parameter(const T* parameter, unsigned unit,
                                                                std::int64_t cols) {
  constexpr int kLanes = primitives::Vec128<T>::kLanes;
  const std::int64_t col = std::int64_t{unit} * kLanes;
  if (primitives::bytes_off(parameter) == 0 && col + kLanes <= cols) {
    return primitives::load_vec128(parameter + col);
  }
  const uint4 bits = load_column_bits(parameter, col, cols);
  primitives::Vec128<T> vec;
  memcpy(&vec, &bits, sizeof(vec));
  return vec;
}

struct MomentsMemory {
  primitives::RowSumsMemory<double, 1> mean;
  primitives::RowSumsMemory<double, 2> deviations;
};

template <bool kIsClustered>
class RowMoments {
 public:
  __device__ __forceinline__ RowMoments(MomentsMemory& memory, unsigned threads_per_row)
      : mean_(memory.mean, threads_per_row), deviations_(memory.deviations, threads_per_row) {}

  /// `visit(f)` calls `f(unit, lanes)` for every unit of this thread, lanes being fp32.
  /// Needs every thread of the block, or of the cluster.
  template <int kLanes, class Visit>
  __device__ __forceinline__ Moments of(Norm norm, std::int64_t cols, double eps,
                                        const Visit& visit) {
    const double share = 1.0 / static_cast<double>(cols);
    const float lane_share = static_cast<float>(share);
    float center = 0.0f;
    if (norm == Norm::kLayer) {
      double mean[1] = {0.0};
      visit([&](unsigned, const float(&x)[kLanes]) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kLanes; ++i) sum = fmaf(x[i], lane_share, sum);
        mean[0] += static_cast<double>(sum);
      });
      mean_.add_up(mean);
      center = static_cast<float>(mean[0]);
    }
    double sums[2] = {0.0, 0.0};
    visit([&](unsigned unit, const float(&x)[kLanes]) {
      float lack = 0.0f;
      float squares = 0.0f;
      const int columns = columns_of_unit<kLanes>(unit, cols);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float d = i < columns ? x[i] - center : 0.0f;
        lack = fmaf(d, lane_share, lack);
        squares = fmaf(d, d, squares);
      }
      sums[0] += static_cast<double>(lack);
      sums[1] += static_cast<double>(squares);
    });
    deviations_.add_up(sums);
    const double lack = norm == Norm::kLayer ? sums[0] : 0.0;
    const double variance = sums[1] * share - lack * lack;
    const double rstd = 1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + eps);
    return {center, static_cast<float>(rstd), static_cast<float>(-lack * rstd),
            static_cast<float>(lack)};
  }

 private:
  primitives::RowSums<double, 1, kIsClustered> mean_;
  primitives::RowSums<double, 2, kIsClustered> deviations_;
};

/// Calls `f(unit, lanes)` for the units that `held` has of a row.
template <class T, int kGroups, class F>
__device__ __forceinline__ void visit_held(primitives::Vec128<T> (&held)[kGroups],
                                           primitives::RowPlace& place, const F& f) {
  forget(place.unit);
  forget(held);
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    float lanes[primitives::Vec128<T>::kLanes];
#pragma unroll
    for (int i = 0; i < primitives::Vec128<T>::kLanes; ++i) {
      lanes[i] = primitives::widen(held[k].lane[i]);
    }
    f(place.unit + k * place.unit_step, lanes);
  }
}

}  // namespace kernelhub::layer_norm::cuda
