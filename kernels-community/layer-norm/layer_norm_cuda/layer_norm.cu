// SPDX-License-Identifier: Apache-2.0
// Layer and root mean square normalisation.
//   out = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps)
//   rms_norm: mean = 0, and the mean square in place of the variance
// out, x [rows, cols]; weight, bias [cols] or null; fp32, fp16, bf16; one rounding, at the store.
// Parameters of fp32 beside 16-bit rows: fused.cu, as a call of the fused op.
// A row lies in the registers of a warp, a block or a cluster (rows.h), so that each element is
// read and written once; only rows too wide for that are read again, from L2. Archs: sm_80, sm_90,
// sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "layer_norm_cuda/moments.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::load_unit;
using primitives::narrow;
using primitives::RowLaunch;
using primitives::RowPlace;
using primitives::Vec128;
using primitives::widen;

constexpr int kMaxGroups = 8;

// Blocks that must fit on a multiprocessor (kThreads).
template <int kGroups>
constexpr int kBlocks = kGroups == 1            ? 12
                        : kGroups == kMaxGroups ? 1
                                                : 2;

template <class T>
struct Tensors {
  T* out;           // [rows, cols], pitch out_stride
  const T* x;       // [rows, cols], pitch x_stride
  const T* weight;  // [cols] or null
  const T* bias;    // [cols] or null
  std::int64_t rows, cols, out_stride, x_stride;
  double eps;
  Norm norm;
};

/// One unit of x -> the same unit of out.
template <class T>
__device__ __forceinline__ Vec128<T> normalized(const Tensors<T>& t, const Vec128<T>& x,
                                                unsigned unit, const Moments& row) {
  Vec128<T> w{};
  Vec128<T> b{};
  if (t.weight != nullptr) w = load_parameter(t.weight, unit, t.cols);
  if (t.bias != nullptr) b = load_parameter(t.bias, unit, t.cols);
  Vec128<T> out;
#pragma unroll
  for (int i = 0; i < Vec128<T>::kLanes; ++i) {
    const float n = fmaf(widen(x.lane[i]) - row.center, row.rstd, row.shift);
    const float scaled = t.weight != nullptr ? n * widen(w.lane[i]) : n;
    out.lane[i] = narrow<T>(t.bias != nullptr ? scaled + widen(b.lane[i]) : scaled);
  }
  return out;
}

template <class T, int kGroups, bool kIsClustered>
__global__ void __launch_bounds__(kThreads<kGroups>, kBlocks<kGroups>)
    normalize_held_rows(Tensors<T> t, int threads_per_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  __shared__ MomentsMemory memory;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  RowMoments<kIsClustered> moments(memory, place.threads_per_row);
  for (; place.block_row < t.rows; place.next_row()) {
    const std::int64_t row = place.row;
    const bool has_row = row < t.rows;

    // Load.
    Vec128<T> held[kGroups];
    primitives::load_slice(held, t.x + row * t.x_stride, t.cols, place, has_row);

    // Reduce.
    const Moments found = moments.template of<kLanes>(
        t.norm, t.cols, t.eps, [&](const auto& f) { visit_held(held, place, f); });

    // Normalise and store.
    forget(place.unit);
    forget(held);
    const unsigned units = has_row ? static_cast<unsigned>((t.cols + kLanes - 1) / kLanes) : 0;
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      if (unit < units) held[k] = normalized(t, held[k], unit, found);
    }
    forget(place.unit);
    primitives::store_slice(held, t.out + row * t.out_stride, t.cols, place, has_row);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads<0>, kBlocks<0>)
    normalize_wide_rows(Tensors<T> t, int threads_per_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  __shared__ MomentsMemory memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowMoments<false> moments(memory, place.threads_per_row);
  const auto units = static_cast<unsigned>((t.cols + kLanes - 1) / kLanes);
  for (; place.row < t.rows; place.next_row()) {
    const std::int64_t row = place.row;
    const T* x = t.x + row * t.x_stride;
    T* out = t.out + row * t.out_stride;
    const Moments found = moments.template of<kLanes>(t.norm, t.cols, t.eps, [&](const auto& f) {
      for (unsigned unit = place.unit; unit < units; unit += place.unit_step) {
        const Vec128<T> vec = load_unit(x, unit, t.cols);
        float lanes[kLanes];
#pragma unroll
        for (int i = 0; i < kLanes; ++i) lanes[i] = widen(vec.lane[i]);
        f(unit, lanes);
      }
    });
    // Whole warps: store_units completes words from neighbours.
    const unsigned turns = (units + place.unit_step - 1) / place.unit_step;
    for (unsigned k = 0; k < turns; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      const Vec128<T> vec =
          unit < units ? normalized(t, load_unit(x, unit, t.cols), unit, found) : Vec128<T>{};
      primitives::store_units(vec, out, unit, units, t.cols, place);
    }
  }
}

template <class T>
cudaError_t launch_dtype(const Params& params, cudaStream_t stream) {
  const Tensors<T> tensors{static_cast<T*>(params.out),
                           static_cast<const T*>(params.x),
                           static_cast<const T*>(params.weight),
                           static_cast<const T*>(params.bias),
                           params.rows,
                           params.cols,
                           params.out_stride,
                           params.x_stride,
                           params.eps,
                           params.norm};
  RowLaunch launch;
  const cudaError_t status = primitives::device_row_launch(
      &launch, params.cols, sizeof(T), kMaxGroups, &normalize_held_rows<T, kMaxGroups, true>);
  if (status != cudaSuccess) return status;
  const unsigned blocks = primitives::row_blocks(launch, params.rows, primitives::kMaxRowBlocks);
  auto* kernel = launch.groups == 0   ? &normalize_wide_rows<T>
                 : launch.groups == 1 ? &normalize_held_rows<T, 1, false>
                 : launch.groups == 4 ? &normalize_held_rows<T, 4, false>
                                      : &normalize_held_rows<T, kMaxGroups, true>;
  return primitives::launch_rows(kernel, launch, blocks, 0, stream, tensors,
                                 launch.threads_per_row);
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  if (params.weight_dtype != params.dtype) return launch(fused(params), stream);
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return launch_dtype<decltype(type)>(params, stream); });
}

}  // namespace kernelhub::layer_norm::cuda
