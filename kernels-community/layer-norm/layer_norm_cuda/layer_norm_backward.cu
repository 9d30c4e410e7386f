// SPDX-License-Identifier: Apache-2.0
// Gradients of layer and root mean square normalisation in one pass.
//   g = dz * weight, h = (x - mean) * rstd (computed again), dweight = sum dz * h, dbias = sum dz
//   dx = (g - mean(g) - h * mean(g * h)) * rstd; rms_norm: no mean(g)
// dx, dz, x [rows, cols]; weight, dweight, dbias [cols]; fp32, fp16, bf16; sums in fp32 and fp64.
// Parameters of fp32 beside 16-bit rows: fused_backward.cu (the plan is not is_plain).
// x and dz lie in registers (rows.h): each is read once, dx is written once. The sums over rows are
// added up block by block, then over blocks (column_sums.cuh): no atomics, the same bits every
// time. Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "layer_norm_cuda/moments.cuh"
#include "primitives/column_sums.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::ColumnPartials;
using primitives::narrow;
using primitives::RowPlace;
using primitives::Vec128;
using primitives::widen;

// Columns of a thread in rows of several warps: with x, dz and both sums more would not fit into
// the registers. The launch shape is that of fp32 rows for every dtype.
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
  float* dweight;   // partial rows (column_sums.h)
  float* dbias;     // partial rows
  std::int64_t rows, dx_stride, dz_stride, x_stride;
  RowShape shape;
};

template <class T, int kGroups, bool kIsClustered>
__global__ void __launch_bounds__(kThreads<kGroups>, (kBlocks<T, kGroups>))
    differentiate_held_rows(Tensors<T> t, int threads_per_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  __shared__ MomentsMemory memory;
  __shared__ primitives::RowSumsMemory<float, 2> products_memory;
  const std::int64_t cols = t.shape.cols;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  RowMoments<kIsClustered> moments(memory, place.threads_per_row);
  primitives::RowSums<float, 2, kIsClustered> products(products_memory, place.threads_per_row);
  ColumnPartials<T, kGroups> dweight(t.dweight, place.cluster, cols);
  ColumnPartials<T, kGroups> dbias(t.dbias, place.cluster, cols);
  const auto share = static_cast<float>(t.shape.share);
  for (; place.block_row < t.rows; place.next_row()) {
    const std::int64_t row = place.row;
    const bool has_row = row < t.rows;

    // Load.
    Vec128<T> x[kGroups];
    Vec128<T> dz[kGroups];
    primitives::load_slice(x, t.x + row * t.x_stride, cols, place, has_row);
    primitives::load_slice(dz, t.dz + row * t.dz_stride, cols, place, has_row);

    // Reduce: moments, then mean(g) and mean(g * h); and the sums over rows.
    const Moments found = moments.template of<ThreadSum<kGroups>, kLanes>(
        t.shape, [&](const auto& f) { visit_held(x, place, f); });
    float means[2] = {0.0f, 0.0f};
    const unsigned units = has_row ? static_cast<unsigned>((cols + kLanes - 1) / kLanes) : 0;
    forget(place.unit);
    forget(x);
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      if (unit >= units) continue;
      const int columns = columns_of_unit<kLanes>(unit, cols);
      Vec128<T> w{};
      if (t.weight != nullptr) w = load_parameter(t.weight, unit, cols);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float d = widen(dz[k].lane[i]);
        const float h = fmaf(widen(x[k].lane[i]) - found.center, found.rstd, found.shift);
        const float g = (t.weight != nullptr ? d * widen(w.lane[i]) : d) * share;
        dweight.at(k, i) = fmaf(d, h, dweight.at(k, i));
        dbias.at(k, i) += d;
        means[0] += g;
        // Behind the row g is zero, but h may be infinite.
        means[1] = fmaf(g, i < columns ? h : 0.0f, means[1]);
      }
    }
    products.add_up(means);
    const float mean_g = t.shape.norm == Norm::kLayer ? means[0] : 0.0f;

    // Store.
    forget(place.unit);
    forget(x);
    forget(dz);
    if (t.dx != nullptr) {
#pragma unroll
      for (int k = 0; k < kGroups; ++k) {
        const unsigned unit = place.unit + k * place.unit_step;
        if (unit >= units) continue;
        Vec128<T> w{};
        if (t.weight != nullptr) w = load_parameter(t.weight, unit, cols);
#pragma unroll
        for (int i = 0; i < kLanes; ++i) {
          const float d = widen(dz[k].lane[i]);
          const float h = fmaf(widen(x[k].lane[i]) - found.center, found.rstd, found.shift);
          const float g = t.weight != nullptr ? d * widen(w.lane[i]) : d;
          x[k].lane[i] = narrow<T>((g - mean_g - h * means[1]) * found.rstd);
        }
      }
      forget(place.unit);
      primitives::store_slice(x, t.dx + row * t.dx_stride, cols, place, has_row);
    }
    const bool is_last = place.block_row + place.row_step >= t.rows;
    dweight.end_turn(place, is_last);
    dbias.end_turn(place, is_last);
  }
}

template <class T>
auto held_kernel(const primitives::RowLaunch& shape) {
  return shape.groups == 1 ? &differentiate_held_rows<T, 1, false>
                           : &differentiate_held_rows<T, kMaxGroups<T>, true>;
}

template <class T>
std::size_t shared_bytes(const primitives::RowLaunch& shape) {
  return shape.groups == 1 ? ColumnPartials<T, 1>::shared_bytes(shape)
                           : ColumnPartials<T, kMaxGroups<T>>::shared_bytes(shape);
}

template <class T>
cudaError_t plan_dtype(const FusedBackwardParams& params, BackwardPlan* plan) {
  const primitives::RowLimits narrow_limits{kLaunchGroups, 1};
  plan->rows = primitives::row_launch(params.cols, sizeof(T), narrow_limits);
  cudaError_t status = cudaSuccess;
  if (plan->rows.groups != 1) {
    status = primitives::device_row_launch(&plan->rows, params.cols, sizeof(float), kLaunchGroups,
                                           &differentiate_held_rows<T, kMaxGroups<T>, true>);
  }
  plan->is_plain = plan->rows.groups != 0;
  if (status != cudaSuccess || !plan->is_plain) return status;
  status = primitives::device_partial_rows(&plan->partials, held_kernel<T>(plan->rows), plan->rows,
                                           shared_bytes<T>(plan->rows), params.rows, params.cols);
  if (status != cudaSuccess) return status;
  plan->workspace_bytes =
      primitives::partial_bytes(plan->partials, primitives::partial_layout<T>(params.cols), 2);
  return cudaSuccess;
}

template <class T>
cudaError_t launch_dtype(const FusedBackwardParams& params, const BackwardPlan& plan,
                         void* workspace, cudaStream_t stream) {
  auto* partial = static_cast<float*>(workspace);
  const primitives::PartialLayout layout = primitives::partial_layout<T>(params.cols);
  const Tensors<T> tensors{static_cast<T*>(params.dx0.data),
                           static_cast<const T*>(params.dz0.data),
                           static_cast<const T*>(params.x.data),
                           static_cast<const T*>(params.gamma0),
                           partial,
                           partial + plan.partials * layout.row_elements(),
                           params.rows,
                           params.dx0.stride,
                           params.dz0.stride,
                           params.x.stride,
                           row_shape(params.norm, params.cols, params.eps)};
  const cudaError_t status = primitives::launch_rows(
      held_kernel<T>(plan.rows), plan.rows,
      static_cast<unsigned>(plan.partials * plan.rows.cluster), shared_bytes<T>(plan.rows), stream,
      tensors, plan.rows.threads_per_row);
  if (status != cudaSuccess) return status;
  primitives::ColumnSums sums;
  sums.add(params.dgamma0, tensors.dweight);
  sums.add(params.dbeta0, tensors.dbias);
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
