// SPDX-License-Identifier: Apache-2.0
// RMS normalisation of rows, with or without a residual that is added first.
//   n = x * rstd, out = (offset + weight) * n, rstd = 1 / sqrt(mean(x^2) + eps)
// out [rows, cols] of T or fp32; x, residual, sum [rows, cols] of T; weight [cols] of any dtype or
// null; T is fp32, fp16 or bf16. Rounding points: x + residual to T; n to T where asked; out.
// Sums are fp32 over a slice of at most 32 columns in four parts, then a tree of fixed shape;
// B. Zhang, R. Sennrich, arXiv:1910.07467, eq. 4.
// Bytes per element: reads 1 (with residual 2) x sizeof(T) from DRAM, weights from L1 or L2; writes
// 1 (2) x sizeof(T). Rows too wide for registers and clusters are read again, mostly from L2.
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "primitives/dtype_switch.cuh"
#include "rmsnorm_cuda/rmsnorm_cuda.h"
#include "rmsnorm_cuda/row_factors.cuh"

namespace kernelhub::rmsnorm::cuda {
namespace {

using primitives::narrow;
using primitives::rounded;
using primitives::RowLaunch;
using primitives::RowSums;
using primitives::RowSumsMemory;
using primitives::widen;

constexpr int kForwardGroups = 4;  // held by a thread: 64 bytes

template <class T>
struct Forward {
  void* out;
  float* rstd;
  const T* x;
  const T* residual;
  T* sum;
  const void* weight;
  DType weight_dtype;
  bool is_rounded_first;
  std::int64_t rows, cols;
  std::int64_t out_stride, x_stride, residual_stride, sum_stride;
  double share;  // 1 / cols
  double eps;
  float offset;  // of the weight that there is
};

/// `values`, which hold offset + weight, times n.
template <class T>
__device__ __forceinline__ void normalize_unit(const Forward<T>& tensors, const Vec128<T>& x,
                                               float rstd, float (&values)[kLanes<T>]) {
  if (tensors.is_rounded_first) {
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) values[i] *= rounded<T>(widen(x.lane[i]) * rstd);
  } else {
#pragma unroll
    for (int i = 0; i < kLanes<T>; ++i) values[i] *= widen(x.lane[i]) * rstd;
  }
}

template <class T>
__device__ __forceinline__ Vec128<T> narrowed(const float (&values)[kLanes<T>]) {
  Vec128<T> vec;
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) vec.lane[i] = narrow<T>(values[i]);
  return vec;
}

template <class T>
__device__ __forceinline__ Vec128<T> added(const Vec128<T>& a, const Vec128<T>& b) {
  Vec128<T> sum;
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) sum.lane[i] = narrow<T>(widen(a.lane[i]) + widen(b.lane[i]));
  return sum;
}

/// The units of this thread, ones without a weight.
template <class T, int kGroups>
__device__ __forceinline__ void load_aligned_weight(Vec128<T> (&held)[kGroups], const T* weight,
                                                    std::int64_t cols, const RowPlace& place,
                                                    bool has_row) {
  if (weight != nullptr) return primitives::load_slice<true>(held, weight, cols, place, has_row);
#pragma unroll
  for (Vec128<T>& vec : held) {
#pragma unroll
    for (T& lane : vec.lane) lane = narrow<T>(1.0f);
  }
}

/// Adds the squares of a unit to four parts.
template <class T>
__device__ __forceinline__ void add_squares(const Vec128<T>& x, float (&parts)[4]) {
#pragma unroll
  for (int i = 0; i < kLanes<T>; ++i) {
    const float value = widen(x.lane[i]);
    parts[i % 4] = fmaf(value, value, parts[i % 4]);
  }
}

__device__ __forceinline__ float total_of(const float (&parts)[4]) {
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// Blocks that must fit on a multiprocessor, so that one loads while another waits for its sum. What
// rows that are not aligned need besides would spill.
template <bool kIsAligned>
constexpr int kForwardBlocks = kIsAligned ? 2 : 1;

/// Rows held in registers. kIsAligned: all tensors are of T and consist of aligned units.
template <class T, class Out, int kGroups, bool kIsClustered, bool kIsAligned>
__global__ void __launch_bounds__(primitives::kMaxRowThreads, kForwardBlocks<kIsAligned>)
    rms_norm_rows(Forward<T> tensors, int threads_per_row) {
  if constexpr (kIsClustered && !primitives::kHasClusters) return;
  __shared__ RowSumsMemory<float, 1> memory;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  RowSums<float, 1, kIsClustered> sums(memory, place.threads_per_row, true);
  for (; place.block_row < tensors.rows; place.next_row()) {
    const bool has_row = place.row < tensors.rows;
    std::int64_t row = place.row;
    // Row addresses are computed anew each turn: carried from turn to turn they would spill.
    primitives::forget(row);

    // Load, and add the residual.
    Vec128<T> held[kGroups];
    const T* x = tensors.x + row * tensors.x_stride;
    primitives::begin_slice<kIsAligned>(held, x, tensors.cols, place, has_row);
    if (tensors.residual == nullptr) {
      primitives::complete_slice<kIsAligned>(held, x, tensors.cols, place, has_row);
    } else {
      Vec128<T> residual[kGroups];
      const T* other = tensors.residual + row * tensors.residual_stride;
      primitives::begin_slice<kIsAligned>(residual, other, tensors.cols, place, has_row);
      primitives::complete_slice<kIsAligned>(held, x, tensors.cols, place, has_row);
      primitives::complete_slice<kIsAligned>(residual, other, tensors.cols, place, has_row);
#pragma unroll
      for (int k = 0; k < kGroups; ++k) held[k] = added(held[k], residual[k]);
      primitives::store_slice<kIsAligned>(held, tensors.sum + row * tensors.sum_stride,
                                          tensors.cols, place, has_row);
    }

    // Reduce, with the weight on its way.
    const unsigned units = has_row ? units_of<T>(tensors.cols) : 0;
    Vec128<T> weight[kIsAligned ? kGroups : 1];
    if constexpr (kIsAligned) {
      load_aligned_weight(weight, static_cast<const T*>(tensors.weight), tensors.cols, place,
                          has_row);
    }
    float parts[4] = {};
#pragma unroll
    for (int k = 0; k < kGroups; ++k) add_squares(held[k], parts);
    float squares[1] = {total_of(parts)};
    sums.add_up(squares);
    const float rstd = reciprocal_rms(squares[0], tensors.share, tensors.eps);
    if (tensors.rstd != nullptr && has_row && place.unit == 0) tensors.rstd[place.row] = rstd;

    // Normalise and store.
    primitives::forget(place.unit);
    primitives::forget(held);
    if constexpr (kIsAligned) primitives::forget(weight);
    Out* out = static_cast<Out*>(tensors.out) + row * tensors.out_stride;
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      if (unit >= units) continue;
      float values[kLanes<T>];
      if constexpr (kIsAligned) {
#pragma unroll
        for (int i = 0; i < kLanes<T>; ++i) {
          values[i] = widen(weight[k].lane[i]) + tensors.offset;
        }
      } else {
        load_weight<T, false>(tensors.weight, tensors.weight_dtype, unit, tensors.cols,
                              tensors.offset, values);
      }
      normalize_unit(tensors, held[k], rstd, values);
      if constexpr (sizeof(Out) == sizeof(T)) {
        held[k] = narrowed<T>(values);
      } else {
        store_as_float<T>(values, out, unit, tensors.cols);
      }
    }
    if constexpr (sizeof(Out) == sizeof(T)) {
      primitives::store_slice<kIsAligned>(held, out, tensors.cols, place, has_row);
    }
  }
}

/// Rows of any width, one a block: read once for the sum and once more for the result.
template <class T, class Out>
__global__ void __launch_bounds__(primitives::kMaxRowThreads, 1)
    rms_norm_wide_rows(Forward<T> tensors, int threads_per_row) {
  __shared__ RowSumsMemory<double, 1> memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowSums<double, 1, false> sums(memory, place.threads_per_row);
  const unsigned units = units_of<T>(tensors.cols);
  const unsigned turns = (units + place.unit_step - 1) / place.unit_step;
  for (; place.block_row < tensors.rows; place.next_row()) {
    const T* x = tensors.x + place.row * tensors.x_stride;
    double squares[1] = {};
    float parts[4] = {};
    for (unsigned turn = 0; turn < turns; ++turn) {
      const unsigned unit = place.unit + turn * place.unit_step;
      Vec128<T> vec{};
      if (unit < units) vec = primitives::load_unit(x, unit, tensors.cols);
      if (tensors.residual != nullptr) {
        const T* residual = tensors.residual + place.row * tensors.residual_stride;
        T* sum = tensors.sum + place.row * tensors.sum_stride;
        if (unit < units) vec = added(vec, primitives::load_unit(residual, unit, tensors.cols));
        primitives::store_units(vec, sum, unit, units, tensors.cols, place);
      }
      add_squares(vec, parts);
      if (turn % kTurnsPerFold != kTurnsPerFold - 1 && turn + 1 != turns) continue;
      squares[0] += static_cast<double>(total_of(parts));
#pragma unroll
      for (float& part : parts) part = 0.0f;
    }
    sums.add_up(squares);
    // Overflows to infinity where fp32 does.
    const float rstd = reciprocal_rms(static_cast<float>(squares[0]), tensors.share, tensors.eps);
    if (tensors.rstd != nullptr && place.unit == 0) tensors.rstd[place.row] = rstd;

    if (tensors.residual != nullptr) x = tensors.sum + place.row * tensors.sum_stride;
    Out* out = static_cast<Out*>(tensors.out) + place.row * tensors.out_stride;
    for (unsigned turn = 0; turn < turns; ++turn) {
      const unsigned unit = place.unit + turn * place.unit_step;
      float values[kLanes<T>] = {};
      if (unit < units) {
        load_weight<T, false>(tensors.weight, tensors.weight_dtype, unit, tensors.cols,
                              tensors.offset, values);
        normalize_unit(tensors, primitives::load_unit(x, unit, tensors.cols), rstd, values);
      }
      if constexpr (sizeof(Out) == sizeof(T)) {
        primitives::store_units(narrowed<T>(values), out, unit, units, tensors.cols, place);
      } else if (unit < units) {
        store_as_float<T>(values, out, unit, tensors.cols);
      }
    }
  }
}

template <class T, class Out>
bool is_aligned(const Forward<T>& tensors) {
  if (sizeof(Out) != sizeof(T)) return false;
  const auto has_aligned_rows = [&](const void* data, std::int64_t stride) {
    return primitives::has_aligned_rows(static_cast<const T*>(data), tensors.rows, tensors.cols,
                                        stride);
  };
  return has_aligned_rows(tensors.x, tensors.x_stride) &&
         has_aligned_rows(tensors.out, tensors.out_stride) &&
         is_aligned_weight<T>(tensors.weight, tensors.weight_dtype, tensors.cols) &&
         (tensors.residual == nullptr ||
          (has_aligned_rows(tensors.residual, tensors.residual_stride) &&
           has_aligned_rows(tensors.sum, tensors.sum_stride)));
}

template <class T>
using ForwardKernel = void (*)(Forward<T>, int);

template <class T, class Out>
ForwardKernel<T> forward_kernel(const RowLaunch& shape, bool is_aligned) {
  constexpr int kGroups = kForwardGroups;
  const bool is_shared = shape.cluster > 1;
  if (shape.groups == 0) return &rms_norm_wide_rows<T, Out>;
  if constexpr (sizeof(Out) == sizeof(T)) {
    if (is_aligned && is_shared) return &rms_norm_rows<T, Out, kGroups, true, true>;
    if (is_aligned && shape.groups == 1) return &rms_norm_rows<T, Out, 1, false, true>;
    if (is_aligned) return &rms_norm_rows<T, Out, kGroups, false, true>;
  }
  // Of one group where four have room: the others are zeros, which change no sum.
  return is_shared ? &rms_norm_rows<T, Out, kGroups, true, false>
                   : &rms_norm_rows<T, Out, kGroups, false, false>;
}

template <class T, class Out>
cudaError_t launch_forward(const Params& params, cudaStream_t stream) {
  const Forward<T> tensors{params.out,
                           params.rstd,
                           static_cast<const T*>(params.x),
                           static_cast<const T*>(params.residual),
                           static_cast<T*>(params.sum),
                           params.weight,
                           params.weight_dtype,
                           params.is_rounded_first,
                           params.rows,
                           params.cols,
                           params.out_stride,
                           params.x_stride,
                           params.residual_stride,
                           params.sum_stride,
                           1.0 / static_cast<double>(params.cols),
                           params.eps,
                           addend(params.weight == nullptr ? 0.0 : params.offset)};
  RowLaunch shape{};
  const cudaError_t status =
      primitives::device_row_launch(&shape, params.cols, sizeof(T), kForwardGroups,
                                    &rms_norm_rows<T, Out, kForwardGroups, true, false>);
  if (status != cudaSuccess) return status;
  const unsigned blocks = primitives::row_blocks(shape, params.rows, primitives::kMaxRowBlocks);
  return primitives::launch_rows(forward_kernel<T, Out>(shape, is_aligned<T, Out>(tensors)), shape,
                                 blocks, 0, stream, tensors, shape.threads_per_row);
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  if (params.cols == 0) {
    const std::size_t size_bytes = static_cast<std::size_t>(params.rows) * sizeof(float);
    return cudaMemsetAsync(params.rstd, 0xff, size_bytes, stream);  // NaNs
  }
  return primitives::with_device_type(params.dtype, [&](auto type) {
    using T = decltype(type);
    return params.out_dtype == params.dtype ? launch_forward<T, T>(params, stream)
                                            : launch_forward<T, float>(params, stream);
  });
}

}  // namespace kernelhub::rmsnorm::cuda
