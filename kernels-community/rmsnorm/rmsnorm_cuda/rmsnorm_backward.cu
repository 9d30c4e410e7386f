// SPDX-License-Identifier: Apache-2.0
// Gradients of RMS normalisation in one pass over the rows.
//   n = x * rstd, g = (offset + weight) * grad_out
//   grad_x = rstd * (g - n * mean(g * n)), grad_weight = the sum of grad_out * n over rows
// grad_out [rows, cols] of T or fp32; x, grad_x [rows, cols] of T; weight, grad_weight [cols] of
// any dtype; rstd [rows] of fp32; T is fp32, fp16 or bf16. Arithmetic fp32, one rounding at the
// store. grad_weight in two stages: partial rows of fp32 in the workspace, one a block or cluster,
// then their sum in fp64; the bits depend on how many blocks the device holds at once, neither on
// the run nor on addresses. Bytes per element: reads sizeof(T) + sizeof(grad_out) from DRAM, writes
// sizeof(T). Rows too wide for registers and clusters are read again, and their partial row lives
// in L2. Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "primitives/column_sums.cuh"
#include "primitives/dtype_switch.cuh"
#include "rmsnorm_cuda/rmsnorm_cuda.h"
#include "rmsnorm_cuda/row_factors.cuh"

namespace kernelhub::rmsnorm::cuda {
namespace {

using primitives::ColumnPartials;
using primitives::narrow;
using primitives::RowLaunch;
using primitives::RowSums;
using primitives::RowSumsMemory;
using primitives::widen;

// Sixteen column sums a thread, beside two held rows.
template <class T>
constexpr int kBackwardGroups = sizeof(T);

template <class T, class G>
struct Backward {
  T* grad_x;
  float* partial;  // partial rows, or null where nobody asks for grad_weight
  const G* grad_out;
  const T* x;
  const void* weight;
  DType weight_dtype;
  const float* rstd;
  std::int64_t rows, cols;
  std::int64_t grad_x_stride, grad_out_stride, x_stride;
  double share;  // 1 / cols
  float offset;
};

template <class T, class G>
__device__ __forceinline__ float lane_of(const Vec128<G> (&parts)[kParts<T, G>], int lane) {
  return widen(parts[lane / kLanes<G>].lane[lane % kLanes<G>]);
}

// Blocks that must fit on a multiprocessor: two, of which one loads while the other waits for its
// sum, where nvcc 13.0 reaches that without a spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr bool kHasRoom = false;
#else
constexpr bool kHasRoom = true;
#endif
template <class T, bool kIsAligned>
constexpr int kBackwardBlocks = kHasRoom&& kIsAligned && sizeof(T) == 2 ? 2 : 1;

/// Rows held in registers. kIsAligned: all tensors are of T and consist of aligned units.
template <class T, class G, int kGroups, bool kIsClustered, bool kIsAligned>
__global__ void __launch_bounds__(primitives::kMaxRowThreads, (kBackwardBlocks<T, kIsAligned>))
    rms_norm_backward_rows(Backward<T, G> tensors, int threads_per_row) {
  if constexpr (kIsClustered && !primitives::kHasClusters) return;
  __shared__ RowSumsMemory<float, 1> memory;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  RowSums<float, 1, kIsClustered> sums(memory, place.threads_per_row, true);
  ColumnPartials<T, kGroups> columns({tensors.partial}, place.cluster, tensors.cols);
  while (place.block_row < tensors.rows) {
#pragma unroll 1
    for (int turn = 0; turn < primitives::kRowsPerFold && place.block_row < tensors.rows;
         ++turn, place.next_row()) {
      // Load.
      const bool has_row = place.row < tensors.rows;
      std::int64_t row_index = place.row;
      // Row addresses are computed anew each turn: carried from turn to turn they would spill.
      primitives::forget(row_index);
      const unsigned units = has_row ? units_of<T>(tensors.cols) : 0;
      Vec128<T> x[kGroups];
      // Gradients wider than x are read again where they are needed: held, they would spill.
      constexpr bool kHoldsGrad = sizeof(T) == sizeof(G);
      Vec128<G> grad[kGroups][kParts<T, G>];
      const T* x_row = tensors.x + row_index * tensors.x_stride;
      const G* grad_row = tensors.grad_out + row_index * tensors.grad_out_stride;
      primitives::begin_slice<kIsAligned>(x, x_row, tensors.cols, place, has_row);
      if constexpr (kHoldsGrad) {
        // Copied, 16-bit lanes would be taken apart by nvcc 13.0.
        auto& held = reinterpret_cast<Vec128<G>(&)[kGroups]>(grad);
        primitives::begin_slice<kIsAligned>(held, grad_row, tensors.cols, place, has_row);
        primitives::complete_slice<kIsAligned>(held, grad_row, tensors.cols, place, has_row);
      }
      primitives::complete_slice<kIsAligned>(x, x_row, tensors.cols, place, has_row);
      const float rstd = has_row ? tensors.rstd[place.row] : 0.0f;

      // Reduce, and add to the columns.
      float products[1] = {};
#pragma unroll
      for (int k = 0; k < kGroups; ++k) {
        const unsigned unit = place.unit + k * place.unit_step;
        if (unit >= units) continue;
        if constexpr (!kHoldsGrad) load_parts<T>(grad_row, unit, tensors.cols, grad[k]);
        float weight[kLanes<T>];
        load_weight<T, kIsAligned>(tensors.weight, tensors.weight_dtype, unit, tensors.cols,
                                   tensors.offset, weight);
        float product = 0.0f;
#pragma unroll
        for (int i = 0; i < kLanes<T>; ++i) {
          const float n = widen(x[k].lane[i]) * rstd;
          const float g = lane_of<T, G>(grad[k], i);
          product = fmaf(g * weight[i], n, product);
          columns.at(k, i) = fmaf(g, n, columns.at(k, i));
        }
        products[0] += product;
      }
      sums.add_up(products);

      // Differentiate and store.
      primitives::forget(place.unit);
      primitives::forget(x);
      if constexpr (kHoldsGrad) {
#pragma unroll
        for (auto& parts : grad) primitives::forget(parts);
      }
      const auto mean = static_cast<float>(static_cast<double>(products[0]) * tensors.share);
      if (tensors.grad_x != nullptr) {
#pragma unroll
        for (int k = 0; k < kGroups; ++k) {
          const unsigned unit = place.unit + k * place.unit_step;
          if (unit >= units) continue;
          if constexpr (!kHoldsGrad) load_parts<T>(grad_row, unit, tensors.cols, grad[k]);
          float weight[kLanes<T>];
          load_weight<T, kIsAligned>(tensors.weight, tensors.weight_dtype, unit, tensors.cols,
                                     tensors.offset, weight);
#pragma unroll
          for (int i = 0; i < kLanes<T>; ++i) {
            const float n = widen(x[k].lane[i]) * rstd;
            const float g = lane_of<T, G>(grad[k], i) * weight[i];
            x[k].lane[i] = narrow<T>(rstd * fmaf(-n, mean, g));
          }
        }
        primitives::store_slice<kIsAligned>(x, tensors.grad_x + row_index * tensors.grad_x_stride,
                                            tensors.cols, place, has_row);
      }
    }
    columns.fold(place);
  }
}

/// Rows of any width, one a block; the partial row of the block is added to in memory.
template <class T, class G>
__global__ void __launch_bounds__(primitives::kMaxRowThreads, 1)
    rms_norm_backward_wide_rows(Backward<T, G> tensors, int threads_per_row) {
  __shared__ RowSumsMemory<double, 1> memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowSums<double, 1, false> sums(memory, place.threads_per_row);
  const unsigned units = units_of<T>(tensors.cols);
  const unsigned turns = (units + place.unit_step - 1) / place.unit_step;
  const primitives::PartialLayout layout = primitives::partial_layout<T>(tensors.cols);
  const std::int64_t pitch = layout.pitch();
  float* partial = tensors.partial + place.cluster * layout.row_elements();
  for (bool is_first = true; place.block_row < tensors.rows; place.next_row(), is_first = false) {
    const T* x = tensors.x + place.row * tensors.x_stride;
    const G* grad_out = tensors.grad_out + place.row * tensors.grad_out_stride;
    const float rstd = tensors.rstd[place.row];
    double products[1] = {};
    float pending = 0.0f;
    for (unsigned turn = 0; turn < turns; ++turn) {
      const unsigned unit = place.unit + turn * place.unit_step;
      if (unit >= units) break;
      const auto vec = primitives::load_unit(x, unit, tensors.cols);
      Vec128<G> grad[kParts<T, G>];
      load_parts<T>(grad_out, unit, tensors.cols, grad);
      float weight[kLanes<T>];
      load_weight<T, false>(tensors.weight, tensors.weight_dtype, unit, tensors.cols,
                            tensors.offset, weight);
      float product = 0.0f;
#pragma unroll
      for (int i = 0; i < kLanes<T>; ++i) {
        const float n = widen(vec.lane[i]) * rstd;
        const float g = lane_of<T, G>(grad, i);
        product = fmaf(g * weight[i], n, product);
        if (tensors.partial == nullptr) continue;
        float& sum = partial[i * pitch + unit];
        sum = is_first ? g * n : fmaf(g, n, sum);
      }
      pending += product;
      if (turn % kTurnsPerFold != kTurnsPerFold - 1) continue;
      products[0] += static_cast<double>(pending);
      pending = 0.0f;
    }
    products[0] += static_cast<double>(pending);
    sums.add_up(products);
    if (tensors.grad_x == nullptr) continue;

    const auto mean = static_cast<float>(products[0] * tensors.share);
    T* grad_x = tensors.grad_x + place.row * tensors.grad_x_stride;
    for (unsigned turn = 0; turn < turns; ++turn) {
      const unsigned unit = place.unit + turn * place.unit_step;
      Vec128<T> vec{};
      if (unit < units) {
        vec = primitives::load_unit(x, unit, tensors.cols);
        Vec128<G> grad[kParts<T, G>];
        load_parts<T>(grad_out, unit, tensors.cols, grad);
        float weight[kLanes<T>];
        load_weight<T, false>(tensors.weight, tensors.weight_dtype, unit, tensors.cols,
                              tensors.offset, weight);
#pragma unroll
        for (int i = 0; i < kLanes<T>; ++i) {
          const float n = widen(vec.lane[i]) * rstd;
          vec.lane[i] = narrow<T>(rstd * fmaf(-n, mean, lane_of<T, G>(grad, i) * weight[i]));
        }
      }
      primitives::store_units(vec, grad_x, unit, units, tensors.cols, place);
    }
  }
}

template <class T>
bool is_aligned(const BackwardParams& params) {
  const auto has_aligned_rows = [&](const void* data, std::int64_t stride) {
    return primitives::has_aligned_rows(static_cast<const T*>(data), params.rows, params.cols,
                                        stride);
  };
  return has_aligned_rows(params.x, params.x_stride) &&
         has_aligned_rows(params.grad_out, params.grad_out_stride) &&
         (params.grad_x == nullptr || has_aligned_rows(params.grad_x, params.grad_x_stride)) &&
         is_aligned_weight<T>(params.weight, params.weight_dtype, params.cols);
}

template <class T, class G>
using BackwardKernel = void (*)(Backward<T, G>, int);

template <class T, class G>
BackwardKernel<T, G> backward_kernel(const RowLaunch& shape, bool is_aligned) {
  constexpr int kGroups = kBackwardGroups<T>;
  const bool is_shared = shape.cluster > 1;
  if (shape.groups == 0) return &rms_norm_backward_wide_rows<T, G>;
  if constexpr (sizeof(T) == sizeof(G)) {
    if (is_aligned && is_shared) return &rms_norm_backward_rows<T, G, kGroups, true, true>;
    if (is_aligned) return &rms_norm_backward_rows<T, G, kGroups, false, true>;
  }
  return is_shared ? &rms_norm_backward_rows<T, G, kGroups, true, false>
                   : &rms_norm_backward_rows<T, G, kGroups, false, false>;
}

template <class T>
std::size_t shared_bytes(const RowLaunch& shape) {
  return shape.groups == 0 ? 0 : ColumnPartials<T, kBackwardGroups<T>>::shared_bytes(shape);
}

/// Shape and partial rows are the same at every address, and so are the bits: as many blocks as the
/// device holds of aligned rows, which others take in two waves.
template <class T, class G>
cudaError_t plan_types(std::int64_t rows, std::int64_t cols, bool is_aligned, BackwardPlan* plan) {
  plan->is_aligned = is_aligned;
  constexpr bool kCanBeAligned = sizeof(T) == sizeof(G);
  cudaError_t status =
      primitives::device_row_launch(&plan->shape, cols, sizeof(T), kBackwardGroups<T>,
                                    &rms_norm_backward_rows<T, G, kBackwardGroups<T>, true, false>);
  if (status == cudaSuccess) {
    status = primitives::device_partial_rows(&plan->partials,
                                             backward_kernel<T, G>(plan->shape, kCanBeAligned),
                                             plan->shape, shared_bytes<T>(plan->shape), rows, cols);
  }
  if (status != cudaSuccess) return status;
  plan->workspace_bytes =
      primitives::partial_bytes(plan->partials, primitives::partial_layout<T>(cols), 1);
  return cudaSuccess;
}

template <class T, class G>
cudaError_t launch_types(const BackwardParams& params, const BackwardPlan& plan,
                         cudaStream_t stream) {
  auto* partial = params.grad_weight == nullptr ? nullptr : static_cast<float*>(params.workspace);
  const Backward<T, G> tensors{static_cast<T*>(params.grad_x),
                               partial,
                               static_cast<const G*>(params.grad_out),
                               static_cast<const T*>(params.x),
                               params.weight,
                               params.weight_dtype,
                               params.rstd,
                               params.rows,
                               params.cols,
                               params.grad_x_stride,
                               params.grad_out_stride,
                               params.x_stride,
                               1.0 / static_cast<double>(params.cols),
                               addend(params.offset)};
  const RowLaunch& shape = plan.shape;
  const cudaError_t status =
      primitives::launch_rows(backward_kernel<T, G>(shape, plan.is_aligned), shape,
                              static_cast<unsigned>(plan.partials * shape.cluster),
                              shared_bytes<T>(shape), stream, tensors, shape.threads_per_row);
  if (status != cudaSuccess || partial == nullptr) return status;
  primitives::ColumnSums sums;
  sums.add(params.grad_weight, partial);
  return primitives::launch_column_sums(sums, params.weight_dtype, plan.partials,
                                        primitives::partial_layout<T>(params.cols), stream);
}

}  // namespace

cudaError_t plan_backward(const BackwardParams& params, BackwardPlan* plan) {
  return primitives::with_device_type(params.dtype, [&](auto type) {
    using T = decltype(type);
    if (params.grad_dtype != params.dtype) {
      return plan_types<T, float>(params.rows, params.cols, false, plan);
    }
    return plan_types<T, T>(params.rows, params.cols, is_aligned<T>(params), plan);
  });
}

cudaError_t backward_workspace(DType dtype, std::int64_t rows, std::int64_t cols,
                               std::int64_t* size_bytes) {
  *size_bytes = 0;
  if (rows == 0 || cols == 0) return cudaSuccess;
  return primitives::with_device_type(dtype, [&](auto type) {
    using T = decltype(type);
    BackwardPlan plans[2] = {};  // for either dtype of grad_out
    cudaError_t status = plan_types<T, T>(rows, cols, true, &plans[0]);
    if (status == cudaSuccess) status = plan_types<T, float>(rows, cols, false, &plans[1]);
    for (const BackwardPlan& plan : plans) {
      *size_bytes = plan.workspace_bytes > *size_bytes ? plan.workspace_bytes : *size_bytes;
    }
    return status;
  });
}

cudaError_t launch_backward(const BackwardParams& params, const BackwardPlan& plan,
                            cudaStream_t stream) {
  return primitives::with_device_type(params.dtype, [&](auto type) {
    using T = decltype(type);
    return params.grad_dtype == params.dtype ? launch_types<T, T>(params, plan, stream)
                                             : launch_types<T, float>(params, plan, stream);
  });
}

}  // namespace kernelhub::rmsnorm::cuda
