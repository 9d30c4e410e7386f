// SPDX-License-Identifier: Apache-2.0
// Layer normalisation, one block per row.
//   out = (x - mean) * rstd * weight + bias, rstd = 1 / sqrt(variance + eps)
// out, x [rows, cols]; weight, bias [cols] or null; fp32, fp16, bf16; one rounding, at the store.
// Moments: corrected two passes (T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician
// 37 (1983), 242-247) over fp32 deviations; sums are folded into fp64 every kFold groups. Means are
// sums of x / cols, so that finite rows never overflow.
// Bytes per element: reads 1 x sizeof(T) from DRAM and 2 more from L1 or L2, writes 1 x sizeof(T).
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "layer_norm_cuda/layer_norm_config.h"
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "primitives/dtype_switch.cuh"
#include "primitives/vec128.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::load_vec128;
using primitives::narrow;
using primitives::store_vec128;
using primitives::Vec128;
using primitives::widen;

constexpr int kFold = 16;
constexpr unsigned kFullWarp = 0xffffffffu;
static_assert(kMaxThreads / kWarp <= kWarp, "one warp adds up the warps' sums");

template <class T>
struct RowView {
  const T* x;  // [cols]
  std::int64_t cols;
  std::int64_t groups;  // 16-byte groups, the last one perhaps partial
  bool is_vectorized;
};

/// Group `group` of a row as fp32; lanes past the end hold `padding`.
template <class T>
__device__ __forceinline__ void load_group(const T* row, std::int64_t group, std::int64_t cols,
                                           bool is_vectorized, float padding,
                                           float (&lanes)[Vec128<T>::kLanes]) {
  const std::int64_t col = group * Vec128<T>::kLanes;
  if (is_vectorized && col + Vec128<T>::kLanes <= cols) {
    const Vec128<T> vec = load_vec128(row + col);
#pragma unroll
    for (int i = 0; i < Vec128<T>::kLanes; ++i) lanes[i] = widen(vec.lane[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < Vec128<T>::kLanes; ++i) {
    lanes[i] = col + i < cols ? widen(row[col + i]) : padding;
  }
}

/// Sum over the block, the same in every thread; the order depends on the block's size only.
__device__ __forceinline__ double block_sum(double value, double* warp_sums) {
#pragma unroll
  for (unsigned offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, offset);
  }
  const unsigned warps = blockDim.x / kWarp;
  if (threadIdx.x % kWarp == 0) warp_sums[threadIdx.x / kWarp] = value;
  __syncthreads();
  double total = 0.0;
  for (unsigned i = 0; i < warps; ++i) total += warp_sums[i];
  __syncthreads();
  return total;
}

/// Adds `term(x)` over this thread's share of the row, lane by lane in fp32 between folds.
template <class T, class Term>
__device__ __forceinline__ double thread_sum(const RowView<T>& row, float padding,
                                             const Term& term) {
  double total = 0.0;
  float partial = 0.0f;
  int pending = 0;
  for (std::int64_t group = threadIdx.x; group < row.groups; group += blockDim.x) {
    float lanes[Vec128<T>::kLanes];
    load_group(row.x, group, row.cols, row.is_vectorized, padding, lanes);
#pragma unroll
    for (int i = 0; i < Vec128<T>::kLanes; ++i) partial = term(lanes[i], partial);
    if (++pending < kFold) continue;
    total += static_cast<double>(partial);
    partial = 0.0f;
    pending = 0;
  }
  return total + static_cast<double>(partial);
}

template <class T>
__device__ __forceinline__ void store_group(T* row, std::int64_t group, std::int64_t cols,
                                            bool is_vectorized,
                                            const float (&lanes)[Vec128<T>::kLanes]) {
  const std::int64_t col = group * Vec128<T>::kLanes;
  if (is_vectorized && col + Vec128<T>::kLanes <= cols) {
    Vec128<T> vec;
#pragma unroll
    for (int i = 0; i < Vec128<T>::kLanes; ++i) vec.lane[i] = narrow<T>(lanes[i]);
    store_vec128(vec, row + col);
    return;
  }
#pragma unroll
  for (int i = 0; i < Vec128<T>::kLanes; ++i) {
    if (col + i < cols) row[col + i] = narrow<T>(lanes[i]);
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    layer_norm_kernel(T* out,           // [rows, cols], row pitch out_stride; may be x
                      const T* x,       // [rows, cols], row pitch x_stride
                      const T* weight,  // [cols] or null
                      const T* bias,    // [cols] or null
                      std::int64_t rows, std::int64_t cols, std::int64_t out_stride,
                      std::int64_t x_stride, double eps, bool is_vectorized) {
  __shared__ double warp_sums[kMaxThreads / kWarp];
  const double share = 1.0 / static_cast<double>(cols);
  const float lane_share = static_cast<float>(share);
  const std::int64_t groups = (cols + Vec128<T>::kLanes - 1) / Vec128<T>::kLanes;
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const RowView<T> row{x + r * x_stride, cols, groups, is_vectorized};
    T* out_row = out + r * out_stride;

    // Rounded mean.
    const float center = static_cast<float>(
        block_sum(thread_sum(row, 0.0f,
                             [lane_share](float v, float sum) { return fmaf(v, lane_share, sum); }),
                  warp_sums));

    // What it lacks, and the squares of the deviations from it.
    const double lack =
        block_sum(thread_sum(row, center,
                             [=](float v, float sum) { return fmaf(v - center, lane_share, sum); }),
                  warp_sums);
    const double squares =
        block_sum(thread_sum(row, center,
                             [=](float v, float sum) { return fmaf(v - center, v - center, sum); }),
                  warp_sums);
    const double variance = squares * share - lack * lack;
    const double rstd = 1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + eps);
    const float scale = static_cast<float>(rstd);
    const float shift = static_cast<float>(-lack * rstd);

    // Normalise and store.
    for (std::int64_t group = threadIdx.x; group < groups; group += blockDim.x) {
      float lanes[Vec128<T>::kLanes];
      float w[Vec128<T>::kLanes];
      float b[Vec128<T>::kLanes];
      load_group(row.x, group, cols, is_vectorized, 0.0f, lanes);
      if (weight != nullptr) load_group(weight, group, cols, is_vectorized, 0.0f, w);
      if (bias != nullptr) load_group(bias, group, cols, is_vectorized, 0.0f, b);
#pragma unroll
      for (int i = 0; i < Vec128<T>::kLanes; ++i) {
        const float n = fmaf(lanes[i] - center, scale, shift);
        const float scaled = weight != nullptr ? n * w[i] : n;
        lanes[i] = bias != nullptr ? scaled + b[i] : scaled;
      }
      store_group(out_row, group, cols, is_vectorized, lanes);
    }
  }
}

template <class T>
cudaError_t launch_dtype(const Params& params, cudaStream_t stream) {
  const LaunchShape shape = launch_shape(params);
  layer_norm_kernel<T><<<shape.blocks, shape.threads, 0, stream>>>(
      static_cast<T*>(params.out), static_cast<const T*>(params.x),
      static_cast<const T*>(params.weight), static_cast<const T*>(params.bias), params.rows,
      params.cols, params.out_stride, params.x_stride, params.eps, shape.is_vectorized);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return launch_dtype<decltype(type)>(params, stream); });
}

}  // namespace kernelhub::layer_norm::cuda
