// SPDX-License-Identifier: Apache-2.0
// Gradients of layer and root mean square normalisation in one pass.
//   g = dz * weight, h = (x - mean) * rstd (computed again), dweight = sum dz * h, dbias = sum dz
//   dx = (g - mean(g) - h * mean(g * h)) * rstd; rms_norm: no mean(g)
//   mean(g * h) = mean(g * (x - c)) * rstd + mean(g) * (c - mean) * rstd, for any c
// dx, dz, x [rows, cols]; weight, dweight, dbias [cols]; fp32, fp16, bf16; sums in fp32, of partial
// rows in fp64.
// Parameters of fp32 beside 16-bit rows: fused_backward.cu (the plan is not is_plain).
// x and dz lie in registers (rows.h): each is read once, dx is written once, and a row needs one
// sum over its threads, mostly. The sums over rows are added up block by block, then over blocks
// (column_sums.cuh): no atomics, the same bits every time. Archs: sm_80, sm_90, sm_100, sm_120 and
// PTX. Never build with --use_fast_math.
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "layer_norm_cuda/moments.cuh"
#include "primitives/column_sums.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/pair16.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::ColumnPartials;
using primitives::narrow;
using primitives::RowPlace;
using primitives::Vec128;

// Columns of a thread in rows of several warps: with the sums of both parameters more would not fit
// into the registers. The launch shape is that of fp32 rows for every dtype.
constexpr int kMaxColumns = 16;
constexpr int kLaunchGroups = 4;
template <class T>
constexpr int kMaxGroups = kMaxColumns / Vec128<T>::kLanes;
static_assert(kMaxColumns == kLaunchGroups * Vec128<float>::kLanes);

// Blocks that must fit on a multiprocessor (kThreads).
template <class T, int kGroups>
constexpr int kBlocks = kGroups != 1     ? 1
                        : sizeof(T) == 4 ? 8
                                         : 6;

template <class T>
struct Tensors {
  T* dx;            // [rows, cols] or null
  const T* dz;      // [rows, cols]
  const T* x;       // [rows, cols]
  const T* weight;  // [cols] or null
  float* dweight;   // partial rows (column_sums.h) or null
  float* dbias;     // partial rows or null
  std::int64_t rows, dx_stride, dz_stride, x_stride;
  RowShape shape;
};

/// The units of a thread of a parameter, ones where it is null.
template <class T, int kGroups>
__device__ __forceinline__ void load_weight(Vec128<T> (&held)[kGroups], const T* weight,
                                            std::int64_t cols, const RowPlace& place) {
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    if (weight == nullptr) {
#pragma unroll
      for (T& lane : held[k].lane) lane = narrow<T>(1.0f);
    } else {
      held[k] = load_parameter(weight, place.unit + k * place.unit_step, cols);
    }
  }
}

template <class T, int kGroups>
__device__ __forceinline__ void widen_held(const Vec128<T> (&held)[kGroups],
                                           float (&lanes)[kGroups][Vec128<T>::kLanes]) {
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    primitives::widen_lanes<T>(primitives::bits_of(held[k]), lanes[k]);
  }
}

// Squares of deviations from zero tell the variance of a row almost as well as those from its mean,
// if that is no more than two standard deviations from zero.
constexpr float kNearMean = 4.0f;

constexpr float kLargeMagnitude = 0x1p64f;

/// kIsAligned: x, dz and dx consist of aligned units. Of such rows the next one is on its way while
/// one is differentiated, where there are registers for both.
template <class T, int kGroups, bool kIsClustered, bool kIsAligned>
__global__ void __launch_bounds__(kThreads<kGroups>, (kBlocks<T, kGroups>))
    differentiate_held_rows(Tensors<T> t, int threads_per_row) {
  if constexpr (kIsClustered && !primitives::kHasClusters) return;
  constexpr int kLanes = Vec128<T>::kLanes;
  constexpr bool kLoadsAhead = kIsAligned && (sizeof(T) == 2 || kGroups == 1);
  __shared__ primitives::RowSumsMemory<float, 4> sums_memory;
  __shared__ primitives::RowSumsMemory<float, 1> product_memory;
  const std::int64_t cols = t.shape.cols;
  const auto share = static_cast<float>(t.shape.share);
  const bool is_centered = t.shape.norm == Norm::kLayer;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  Vec128<T> x_units[kGroups];
  Vec128<T> dz_units[kGroups];
  const auto load = [&] {
    const bool has_row = place.row < t.rows;
    std::int64_t row = place.row;
    forget(row);
    const T* x = t.x + row * t.x_stride;
    const T* dz = t.dz + row * t.dz_stride;
    primitives::begin_slice<kIsAligned>(x_units, x, cols, place, has_row);
    primitives::begin_slice<kIsAligned>(dz_units, dz, cols, place, has_row);
    primitives::complete_slice<kIsAligned>(x_units, x, cols, place, has_row);
    primitives::complete_slice<kIsAligned>(dz_units, dz, cols, place, has_row);
  };
  if constexpr (kLoadsAhead) load();
  Vec128<T> weight[kGroups];
  load_weight(weight, t.weight, cols, place);
  primitives::RowSums<float, 4, kIsClustered> sums_of_row(sums_memory, place.threads_per_row);
  primitives::RowSums<float, 1, kIsClustered> product_of_row(product_memory, place.threads_per_row);
  ColumnPartials<T, kGroups, 2> columns({t.dweight, t.dbias}, place.cluster, cols);
  while (place.block_row < t.rows) {
#pragma unroll 1
    for (int turn = 0; turn < primitives::kRowsPerFold && place.block_row < t.rows; ++turn) {
      if constexpr (!kLoadsAhead) load();
      float x[kGroups][kLanes];
      float dz[kGroups][kLanes];
      widen_held(x_units, x);
      widen_held(dz_units, dz);
      const bool has_row = place.row < t.rows;
      place.next_row();
      if constexpr (kLoadsAhead) load();

      // Reduce: the means of x and g, the sums of x * x and g * x. Where the mean of x is far from
      // zero or the squares are too large, they are taken once more of what x is without its mean,
      // and smaller.
      float sums[4];
      float variance = 0.0f;
      float magnitude = 1.0f;  // in units of which x is
      for (bool is_again = false;; is_again = true) {
        forget(weight);  // lest it is kept as fp32
#pragma unroll
        for (float& sum : sums) sum = 0.0f;
#pragma unroll
        for (int k = 0; k < kGroups; ++k) {
          float w[kLanes];
          primitives::widen_lanes<T>(primitives::bits_of(weight[k]), w);
          float parts[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
          for (int i = 0; i < kLanes; ++i) {
            const float g = dz[k][i] * w[i];
            parts[0] = fmaf(x[k][i], share, parts[0]);
            parts[1] = fmaf(x[k][i], x[k][i], parts[1]);
            parts[2] = fmaf(g, share, parts[2]);
            parts[3] = fmaf(g, x[k][i], parts[3]);
          }
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[i] += parts[i];
        }
        sums_of_row.add_up(sums);
        if (!is_centered) sums[0] = sums[2] = 0.0f;
        const float square = sums[0] * sums[0];
        variance = fmaf(sums[1], share, -square);
        const bool is_small = variance < INFINITY;
        const bool is_near = is_small && (!is_centered || square <= kNearMean * variance);
        if (is_again || __all_sync(primitives::kWholeWarp, is_near)) break;
        const float center = is_near ? 0.0f : sums[0];
        magnitude = is_small ? 1.0f : kLargeMagnitude;
        const float scale = 1.0f / magnitude;
#pragma unroll
        for (int k = 0; k < kGroups; ++k) {
          const int lanes = columns_of_unit<kLanes>(place.unit + k * place.unit_step, cols);
#pragma unroll
          for (int i = 0; i < kLanes; ++i) {
            if (i < lanes) x[k][i] = (x[k][i] - center) * scale;
          }
        }
      }
      variance = (variance < 0.0f ? 0.0f : variance) * magnitude * magnitude;
      const float rstd =
          has_row ? primitives::reciprocal_root(variance + static_cast<float>(t.shape.eps)) : 0.0f;
      const float slope = rstd * magnitude;
      const float shift = -sums[0] * slope;
      const float mean_g = sums[2];
      float mean_gh = fmaf(sums[3] * share, slope, shift * mean_g);
      forget(weight);
      // What is too large for fp32 before it is scaled need not be so after.
      const bool is_finite = mean_gh - mean_gh == 0.0f;
      if (!__all_sync(primitives::kWholeWarp, is_finite)) {
        float mean[1] = {0.0f};
#pragma unroll
        for (int k = 0; k < kGroups; ++k) {
          float w[kLanes];
          primitives::widen_lanes<T>(primitives::bits_of(weight[k]), w);
#pragma unroll
          for (int i = 0; i < kLanes; ++i) {
            const float h = fmaf(x[k][i], slope, shift);
            mean[0] = fmaf(dz[k][i] * w[i] * share, h, mean[0]);
          }
        }
        product_of_row.add_up(mean);
        if (!is_finite) mean_gh = mean[0];
      }

      // Differentiate and store.
      forget(place.unit);
      Vec128<T> dx[kGroups];
#pragma unroll
      for (int k = 0; k < kGroups; ++k) {
        float w[kLanes];
        primitives::widen_lanes<T>(primitives::bits_of(weight[k]), w);
#pragma unroll
        for (int i = 0; i < kLanes; ++i) {
          const float h = fmaf(x[k][i], slope, shift);
          columns.at(k, i, 0) = fmaf(dz[k][i], h, columns.at(k, i, 0));
          columns.at(k, i, 1) += dz[k][i];
          x[k][i] = fmaf(-h, mean_gh, dz[k][i] * w[i] - mean_g) * rstd;
        }
        dx[k] = primitives::narrow_lanes<T>(x[k]);
      }
      if (t.dx == nullptr) continue;
      const std::int64_t row = place.row - place.row_step;
      primitives::store_slice<kIsAligned>(dx, t.dx + row * t.dx_stride, cols, place, has_row);
    }
    columns.fold(place);
  }
}

template <class T>
using Kernel = void (*)(Tensors<T>, int);

template <class T, bool kIsAligned>
Kernel<T> kernel_of(const primitives::RowLaunch& shape) {
  if (shape.groups == 1) return &differentiate_held_rows<T, 1, false, kIsAligned>;
  if (shape.cluster == 1) return &differentiate_held_rows<T, kMaxGroups<T>, false, kIsAligned>;
  return &differentiate_held_rows<T, kMaxGroups<T>, true, kIsAligned>;
}

template <class T>
bool is_aligned(const FusedBackwardParams& params) {
  const auto has_aligned_rows = [&](const auto& matrix) {
    return primitives::has_aligned_rows(static_cast<const T*>(matrix.data), params.rows,
                                        params.cols, matrix.stride);
  };
  return has_aligned_rows(params.x) && has_aligned_rows(params.dz0) &&
         (params.dx0.data == nullptr || has_aligned_rows(params.dx0));
}

template <class T>
std::size_t shared_bytes(const primitives::RowLaunch& shape) {
  return shape.groups == 1 ? ColumnPartials<T, 1>::shared_bytes(shape)
                           : ColumnPartials<T, kMaxGroups<T>>::shared_bytes(shape);
}

/// Shape and partial rows are the same at every address, and so are the bits: as many blocks as the
/// device holds of aligned rows.
template <class T>
cudaError_t plan_dtype(const FusedBackwardParams& params, BackwardPlan* plan) {
  const primitives::RowLimits narrow_limits{kLaunchGroups, 1};
  plan->rows = primitives::row_launch(params.cols, sizeof(T), narrow_limits);
  cudaError_t status = cudaSuccess;
  if (plan->rows.groups != 1) {
    status = primitives::device_row_launch(&plan->rows, params.cols, sizeof(float), kLaunchGroups,
                                           &differentiate_held_rows<T, kMaxGroups<T>, true, false>);
  }
  plan->is_plain = plan->rows.groups != 0;
  if (status != cudaSuccess || !plan->is_plain) return status;
  status =
      primitives::device_partial_rows(&plan->partials, kernel_of<T, true>(plan->rows), plan->rows,
                                      shared_bytes<T>(plan->rows), params.rows, params.cols);
  if (status != cudaSuccess) return status;
  const int sums = (params.dgamma0 != nullptr ? 1 : 0) + (params.dbeta0 != nullptr ? 1 : 0);
  plan->workspace_bytes =
      primitives::partial_bytes(plan->partials, primitives::partial_layout<T>(params.cols), sums);
  return cudaSuccess;
}

template <class T>
cudaError_t launch_dtype(const FusedBackwardParams& params, const BackwardPlan& plan,
                         void* workspace, cudaStream_t stream) {
  const primitives::PartialLayout layout = primitives::partial_layout<T>(params.cols);
  auto* dweight = params.dgamma0 != nullptr ? static_cast<float*>(workspace) : nullptr;
  auto* dbias = params.dbeta0 == nullptr ? nullptr
                : dweight == nullptr     ? static_cast<float*>(workspace)
                                         : dweight + plan.partials * layout.row_elements();
  const Tensors<T> tensors{static_cast<T*>(params.dx0.data),
                           static_cast<const T*>(params.dz0.data),
                           static_cast<const T*>(params.x.data),
                           static_cast<const T*>(params.gamma0),
                           dweight,
                           dbias,
                           params.rows,
                           params.dx0.stride,
                           params.dz0.stride,
                           params.x.stride,
                           row_shape(params.norm, params.cols, params.eps)};
  const auto kernel =
      is_aligned<T>(params) ? kernel_of<T, true>(plan.rows) : kernel_of<T, false>(plan.rows);
  const cudaError_t status = primitives::launch_rows(
      kernel, plan.rows, static_cast<unsigned>(plan.partials * plan.rows.cluster),
      shared_bytes<T>(plan.rows), stream, tensors, plan.rows.threads_per_row);
  if (status != cudaSuccess) return status;
  primitives::ColumnSums sums;
  sums.add(params.dgamma0, dweight);
  sums.add(params.dbeta0, dbias);
  return primitives::launch_column_sums(sums, params.weight_dtype, plan.partials, layout, stream);
}

}  // namespace

cudaError_t plan_plain(const FusedBackwardParams& params, BackwardPlan* plan) {
  plan->is_plain = false;
  if (!is_plain(params)) return cudaSuccess;
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return plan_dtype<decltype(type)>(params, plan); });
}

cudaError_t launch_plain(const FusedBackwardParams& params, const BackwardPlan& plan,
                         void* workspace, cudaStream_t stream) {
  return primitives::with_device_type(params.dtype, [&](auto type) {
    return launch_dtype<decltype(type)>(params, plan, workspace, stream);
  });
}

}  // namespace kernelhub::layer_norm::cuda
