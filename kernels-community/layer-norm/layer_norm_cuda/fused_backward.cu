// SPDX-License-Identifier: Apache-2.0
// Gradients of the fused op, and of plain norms whose rows are too wide for layer_norm_backward.cu.
//   g = sum_i dz_i * gamma_i, h = (x - mean) * rstd
//   dx = (g - mean(g) - h * mean(g * h)) * rstd + the gradient that reached x itself
//   dresidual = dx, dx1 = dropout(dx), dx0 = dropout(dx) * rowscale * rowscale_const * colscale
//   dgamma_i = sum dz_i * h, dbeta_i = sum dz_i, dcolscale = sum dropout(dx) * rowscale * x0
// The mean that a forward call stored is rounded; the mean of h, which it lacks, is taken off
// again. Two kernels: one walks rows, writes what has rows and leaves five numbers a row behind;
// the other walks columns, with as many sums as are asked for, and reads x and dz once more. No
// atomics: the same bits every time. Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with
// --use_fast_math.
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "layer_norm_cuda/moments.cuh"
#include "layer_norm_cuda/row_lanes.cuh"
#include "primitives/column_sums.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::RowLaunch;
using primitives::RowPlace;

constexpr int kHeldGroups = 4;
constexpr int kColumnThreads = 32;  // units side by side
constexpr int kColumnRows = 8;      // rows that a block of the column kernel reads at a time
constexpr std::int64_t kMaxRowsPerPartial = 2048;

// Blocks that must fit on a multiprocessor (kThreads).
template <class T, int kGroups>
constexpr int kBlocks = kGroups != 1     ? 1
                        : sizeof(T) == 4 ? 7
                                         : 6;
constexpr int kColumnBlocks = 2;

/// What the row kernel leaves behind for the column kernel.
struct RowTerms {
  float center, rstd, shift, mean_g, mean_gh;
};

/// One unit of h, from memory.
template <class T>
__device__ __forceinline__ void load_h(const FusedBackwardParams& p, std::int64_t row,
                                       unsigned unit, float center, float rstd, float shift,
                                       float (&h)[kLanesOf<T>]) {
  load_lanes<T>(p.residual_dtype, element<T>(p.residual_dtype, p.x.data, row * p.x.stride), unit,
                p.cols, h);
#pragma unroll
  for (int i = 0; i < kLanesOf<T>; ++i) h[i] = fmaf(h[i] - center, rstd, shift);
}

/// One unit of g, from memory.
template <class T>
__device__ __forceinline__ void load_g(const FusedBackwardParams& p, std::int64_t z_row,
                                       unsigned unit, float (&g)[kLanesOf<T>]) {
  constexpr int kLanes = kLanesOf<T>;
  float weight[kLanes];
  load_words<T>(static_cast<const T*>(p.dz0.data) + z_row * p.dz0.stride, unit, p.cols, g);
  if (p.gamma0 != nullptr) {
    load_lanes<T>(p.weight_dtype, p.gamma0, unit, p.cols, weight);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) g[i] *= weight[i];
  }
  if (p.dz1.data == nullptr) return;
  float second[kLanes];
  load_words<T>(static_cast<const T*>(p.dz1.data) + z_row * p.dz1.stride, unit, p.cols, second);
  if (p.gamma1 != nullptr) {
    load_lanes<T>(p.weight_dtype, p.gamma1, unit, p.cols, weight);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) second[i] *= weight[i];
  }
#pragma unroll
  for (int i = 0; i < kLanes; ++i) g[i] += second[i];
}

/// One unit of dx into `dx`; `h` and `g` as load_h and load_g gave them, nothing of both without z.
template <class T>
__device__ __forceinline__ void gradient_of_x(const FusedBackwardParams& p, std::int64_t row,
                                              const SubsetRow& z, unsigned unit,
                                              const RowTerms& terms, const float (&h)[kLanesOf<T>],
                                              const float (&g)[kLanesOf<T>],
                                              float (&dx)[kLanesOf<T>]) {
  constexpr int kLanes = kLanesOf<T>;
#pragma unroll
  for (int i = 0; i < kLanes; ++i) {
    dx[i] = z.is_outside ? NAN : 0.0f;
    if (z.row >= 0) dx[i] = (g[i] - terms.mean_g - h[i] * terms.mean_gh) * terms.rstd;
  }
  if (p.dx.data == nullptr) return;
  float more[kLanes];
  load_lanes<T>(p.residual_dtype, element<T>(p.residual_dtype, p.dx.data, row * p.dx.stride), unit,
                p.cols, more);
#pragma unroll
  for (int i = 0; i < kLanes; ++i) dx[i] += more[i];
}

/// Writes what follows from one unit of dx.
template <class T>
__device__ __forceinline__ void store_gradients(const FusedBackwardParams& p, std::int64_t row,
                                                std::int64_t x0_row, float scale, unsigned unit,
                                                const float (&dx)[kLanesOf<T>]) {
  constexpr int kLanes = kLanesOf<T>;
  const auto keep_scale = static_cast<float>(1.0 / (1.0 - p.dropout_p));
  if (p.dresidual.data != nullptr) {
    void* to = element<T>(p.residual_dtype, p.dresidual.data, row * p.dresidual.stride);
    store_lanes<T>(p.residual_dtype, dx, to, unit, p.cols);
  }
  float part[kLanes];
  if (p.dx1.data != nullptr) {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) part[i] = dx[i];
    if (p.dmask1.data != nullptr) {
      apply_mask(p.dmask1.data + row * p.dmask1.stride, unit, p.cols, keep_scale, part);
    }
    store_words<T>(part, static_cast<T*>(p.dx1.data) + row * p.dx1.stride, unit, p.cols);
  }
  if (p.dx0.data == nullptr || x0_row < 0) return;
#pragma unroll
  for (int i = 0; i < kLanes; ++i) part[i] = dx[i] * scale;
  if (p.dmask0.data != nullptr) {
    apply_mask(p.dmask0.data + x0_row * p.dmask0.stride, unit, p.cols, keep_scale, part);
  }
  if (p.colscale != nullptr) {
    float weight[kLanes];
    load_lanes<T>(p.weight_dtype, p.colscale, unit, p.cols, weight);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) part[i] *= weight[i];
  }
  store_words<T>(part, static_cast<T*>(p.dx0.data) + x0_row * p.dx0.stride, unit, p.cols);
}

template <class T, int kGroups>
__global__ void __launch_bounds__(kThreads<kGroups>, (kBlocks<T, kGroups>))
    fused_backward_rows(FusedBackwardParams p, RowShape shape, RowTerms* all_terms,
                        int threads_per_row) {
  constexpr int kLanes = kLanesOf<T>;
  constexpr bool kIsHeld = kGroups > 0;
  __shared__ MomentsMemory memory;
  __shared__ primitives::RowSumsMemory<double, 3> products_memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowMoments<false> moments(memory, place.threads_per_row);
  primitives::RowSums<double, 3, false> products(products_memory, place.threads_per_row);
  const unsigned row_units = static_cast<unsigned>((p.cols + kLanes - 1) / kLanes);
  const auto share = static_cast<float>(shape.share);
  const bool is_centered = p.norm == Norm::kLayer;
  for (; place.block_row < p.rows; place.next_row()) {
    const std::int64_t row = place.row;
    const bool has_row = row < p.rows;
    const SubsetRow z = has_row ? subset_row(p.z_subset, row, p.z_rows) : SubsetRow{-1, false};
    const bool has_z = z.row >= 0;
    const unsigned units = has_row ? row_units : 0;
    const unsigned z_units = has_z ? row_units : 0;

    // Statistics.
    RowTerms terms{};
    if (p.rsigma != nullptr) {
      if (has_row) terms.rstd = static_cast<const float*>(p.rsigma)[row];
      if (has_row && is_centered) terms.center = static_cast<const float*>(p.mu)[row];
    } else {
      const Moments found =
          moments.template of<ThreadSum<kGroups>, kLanes>(shape, [&](const auto& f) {
            each_unit<kGroups>(place, units, [&](unsigned unit, int) {
              float x[kLanes];
              load_lanes<T>(p.residual_dtype,
                            element<T>(p.residual_dtype, p.x.data, row * p.x.stride), unit, p.cols,
                            x);
              f(unit, x);
            });
          });
      terms.center = found.center;
      terms.rstd = found.rstd;
    }

    // Load and reduce.
    float h[kIsHeld ? kGroups : 1][kLanes];
    float g[kIsHeld ? kGroups : 1][kLanes];
    double sums[3] = {0.0, 0.0, 0.0};
    each_unit<kGroups>(place, z_units, [&](unsigned unit, int k) {
      load_h<T>(p, row, unit, terms.center, terms.rstd, 0.0f, h[k]);
      load_g<T>(p, z.row, unit, g[k]);
      const int columns = columns_of_unit<kLanes>(unit, p.cols);
      float partial[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float one = i < columns ? h[k][i] : 0.0f;
        partial[0] = fmaf(one, share, partial[0]);
        partial[1] = fmaf(g[k][i], share, partial[1]);
        partial[2] = fmaf(g[k][i] * share, one, partial[2]);
      }
#pragma unroll
      for (int i = 0; i < 3; ++i) sums[i] += static_cast<double>(partial[i]);
    });
    products.add_up(sums);
    const double lack = is_centered ? sums[0] : 0.0;
    terms.shift = static_cast<float>(-lack);
    terms.mean_g = is_centered ? static_cast<float>(sums[1]) : 0.0f;
    terms.mean_gh = static_cast<float>(sums[2] - lack * (is_centered ? sums[1] : 0.0));

    // Store.
    const SubsetRow x0 = has_row ? subset_row(p.x0_subset, row, p.x0_rows) : SubsetRow{-1, false};
    const float scale = has_row ? row_scale<T>(p, row) : 0.0f;
    if (has_row && place.unit == 0 && all_terms != nullptr) all_terms[row] = terms;
    each_unit<kGroups>(place, units, [&](unsigned unit, int k) {
      if constexpr (!kIsHeld) {
        if (has_z) {
          load_h<T>(p, row, unit, terms.center, terms.rstd, 0.0f, h[0]);
          load_g<T>(p, z.row, unit, g[0]);
        }
      }
#pragma unroll
      for (int i = 0; i < kLanes; ++i) h[k][i] += terms.shift;
      float dx[kLanes];
      gradient_of_x<T>(p, row, z, unit, terms, h[k], g[k], dx);
      store_gradients<T>(p, row, x0.row, scale, unit, dx);
    });
  }
}

/// Partial rows of the column kernel (column_sums.h); null where none are asked for.
struct PartialSums {
  float *dgamma0, *dbeta0, *dgamma1, *dbeta1, *dcolscale;
};

/// Adds up the threads that share columns and writes the partial row of this block.
template <int kLanes>
__device__ __forceinline__ void store_partial(float* partial, const float (&sum)[kLanes],
                                              float (&shared)[kColumnRows][kColumnThreads][kLanes],
                                              std::int64_t index, unsigned unit,
                                              std::int64_t cols) {
  if (partial == nullptr) return;
#pragma unroll
  for (int i = 0; i < kLanes; ++i) shared[threadIdx.y][threadIdx.x][i] = sum[i];
  __syncthreads();
  if (threadIdx.y == 0) {
    const primitives::PartialLayout layout{cols, kLanes};
    float* mine = partial + index * layout.row_elements() + unit;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      float total = shared[0][threadIdx.x][i];
      for (int row = 1; row < kColumnRows; ++row) total += shared[row][threadIdx.x][i];
      if (std::int64_t{unit} * kLanes < cols) mine[i * layout.pitch()] = total;
    }
  }
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(kColumnThreads* kColumnRows, kColumnBlocks)
    fused_backward_columns(FusedBackwardParams p, const RowTerms* all_terms, PartialSums partial,
                           unsigned blocks) {
  constexpr int kLanes = kLanesOf<T>;
  __shared__ float shared[kColumnRows][kColumnThreads][kLanes];
  // `blocks` side by side share the rows of one partial row.
  const unsigned unit = blockIdx.x % blocks * kColumnThreads + threadIdx.x;
  const std::int64_t index = blockIdx.x / blocks;
  const std::int64_t partials = gridDim.x / blocks;
  const std::int64_t begin = p.rows * index / partials;
  const std::int64_t end = p.rows * (index + 1) / partials;
  float dgamma0[kLanes] = {};
  float dbeta0[kLanes] = {};
  float dgamma1[kLanes] = {};
  float dbeta1[kLanes] = {};
  float dcolscale[kLanes] = {};
  const bool has_columns = std::int64_t{unit} * kLanes < p.cols;
  for (std::int64_t row = begin + threadIdx.y; has_columns && row < end; row += kColumnRows) {
    const RowTerms terms = all_terms[row];
    const SubsetRow z = subset_row(p.z_subset, row, p.z_rows);
    float h[kLanes];
    if (z.row >= 0) {
      load_h<T>(p, row, unit, terms.center, terms.rstd, terms.shift, h);
      float dz[kLanes];
      load_words<T>(static_cast<const T*>(p.dz0.data) + z.row * p.dz0.stride, unit, p.cols, dz);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        dgamma0[i] = fmaf(dz[i], h[i], dgamma0[i]);
        dbeta0[i] += dz[i];
      }
      if (p.dz1.data != nullptr) {
        load_words<T>(static_cast<const T*>(p.dz1.data) + z.row * p.dz1.stride, unit, p.cols, dz);
#pragma unroll
        for (int i = 0; i < kLanes; ++i) {
          dgamma1[i] = fmaf(dz[i], h[i], dgamma1[i]);
          dbeta1[i] += dz[i];
        }
      }
    }
    if (partial.dcolscale == nullptr) continue;
    const SubsetRow x0_row = subset_row(p.x0_subset, row, p.x0_rows);
    if (x0_row.row < 0) continue;
    // dz is read again, from L1: held beside the sums it would not fit into the registers.
    float g[kLanes];
    if (z.row >= 0) load_g<T>(p, z.row, unit, g);
    float dx[kLanes];
    gradient_of_x<T>(p, row, z, unit, terms, h, g, dx);
    if (p.dmask0.data != nullptr) {
      apply_mask(p.dmask0.data + x0_row.row * p.dmask0.stride, unit, p.cols,
                 static_cast<float>(1.0 / (1.0 - p.dropout_p)), dx);
    }
    float x0[kLanes];
    load_words<T>(static_cast<const T*>(p.x0.data) + x0_row.row * p.x0.stride, unit, p.cols, x0);
    const float scale = row_scale<T>(p, row);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) dcolscale[i] = fmaf(dx[i] * scale, x0[i], dcolscale[i]);
  }
  store_partial(partial.dgamma0, dgamma0, shared, index, unit, p.cols);
  store_partial(partial.dbeta0, dbeta0, shared, index, unit, p.cols);
  store_partial(partial.dgamma1, dgamma1, shared, index, unit, p.cols);
  store_partial(partial.dbeta1, dbeta1, shared, index, unit, p.cols);
  store_partial(partial.dcolscale, dcolscale, shared, index, unit, p.cols);
}

std::int64_t count_sums(const FusedBackwardParams& params) {
  std::int64_t count = 0;
  for (const void* sum :
       {params.dgamma0, params.dbeta0, params.dgamma1, params.dbeta1, params.dcolscale}) {
    count += sum != nullptr ? 1 : 0;
  }
  return count;
}

/// How the sums over rows are cut.
cudaError_t plan_columns(const FusedBackwardParams& params, BackwardPlan* plan) {
  const std::int64_t sums = count_sums(params);
  if (sums == 0) return cudaSuccess;
  int multiprocessors = 0;
  const cudaError_t status = primitives::count_multiprocessors(&multiprocessors);
  if (status != cudaSuccess) return status;
  const std::int64_t lanes = 16 / primitives::size_of(params.dtype);
  const std::int64_t blocks = (params.cols + lanes * kColumnThreads - 1) / (lanes * kColumnThreads);
  std::int64_t partials = std::int64_t{8} * multiprocessors / blocks;
  const std::int64_t least = (params.rows + kMaxRowsPerPartial - 1) / kMaxRowsPerPartial;
  const std::int64_t most = (params.rows + kColumnRows - 1) / kColumnRows;
  partials = partials < least ? least : partials > most ? most : partials;
  plan->column_blocks = static_cast<unsigned>(blocks);
  plan->partials = partials < 1 ? 1 : partials;
  constexpr std::int64_t kTerms = sizeof(RowTerms);
  plan->terms_bytes = (params.rows * kTerms + 15) / 16 * 16;
  const primitives::PartialLayout layout{params.cols, static_cast<int>(lanes)};
  plan->workspace_bytes =
      plan->terms_bytes + primitives::partial_bytes(plan->partials, layout, sums);
  return cudaSuccess;
}

/// The launch shape of wider rows is that of fp32 for every dtype: h and g fill the registers.
RowLaunch plan_rows(const FusedBackwardParams& params) {
  const primitives::RowLimits limits{kHeldGroups, 1};
  const RowLaunch launch =
      primitives::row_launch(params.cols, primitives::size_of(params.dtype), limits);
  return launch.groups == 1 ? launch : primitives::row_launch(params.cols, sizeof(float), limits);
}

/// The kernel that walks columns, and the sums of what it leaves behind `terms`.
template <class T>
cudaError_t launch_columns(const FusedBackwardParams& params, const BackwardPlan& plan,
                           const RowTerms* terms, float* partial, cudaStream_t stream) {
  const auto layout = primitives::partial_layout<T>(params.cols);
  const auto take = [&](const void* wanted) {
    float* taken = wanted != nullptr ? partial : nullptr;
    if (wanted != nullptr) partial += plan.partials * layout.row_elements();
    return taken;
  };
  PartialSums sums;
  sums.dgamma0 = take(params.dgamma0);
  sums.dbeta0 = take(params.dbeta0);
  sums.dgamma1 = take(params.dgamma1);
  sums.dbeta1 = take(params.dbeta1);
  sums.dcolscale = take(params.dcolscale);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(plan.column_blocks * static_cast<unsigned>(plan.partials));
  config.blockDim = dim3(kColumnThreads, kColumnRows);
  config.stream = stream;
  const cudaError_t status = cudaLaunchKernelEx(&config, &fused_backward_columns<T>, params, terms,
                                                sums, plan.column_blocks);
  if (status != cudaSuccess) return status;
  primitives::ColumnSums all;
  all.add(params.dgamma0, sums.dgamma0);
  all.add(params.dbeta0, sums.dbeta0);
  all.add(params.dgamma1, sums.dgamma1);
  all.add(params.dbeta1, sums.dbeta1);
  all.add(params.dcolscale, sums.dcolscale);
  return primitives::launch_column_sums(all, params.weight_dtype, plan.partials, layout, stream);
}

template <class T>
cudaError_t launch_dtype(const FusedBackwardParams& params, const BackwardPlan& plan,
                         void* workspace, cudaStream_t stream) {
  auto* terms = plan.workspace_bytes > 0 ? static_cast<RowTerms*>(workspace) : nullptr;
  constexpr int kGroups = kHeldGroups * kLanesOf<float> / kLanesOf<T>;
  auto* kernel = plan.rows.groups == 0   ? &fused_backward_rows<T, 0>
                 : plan.rows.groups == 1 ? &fused_backward_rows<T, 1>
                                         : &fused_backward_rows<T, kGroups>;
  const unsigned blocks = primitives::row_blocks(plan.rows, params.rows, primitives::kMaxRowBlocks);
  const cudaError_t status = primitives::launch_rows(
      kernel, plan.rows, blocks, 0, stream, params, row_shape(params.norm, params.cols, params.eps),
      terms, plan.rows.threads_per_row);
  if (status != cudaSuccess || terms == nullptr) return status;
  auto* partial = reinterpret_cast<float*>(static_cast<char*>(workspace) + plan.terms_bytes);
  return launch_columns<T>(params, plan, terms, partial, stream);
}

/// Zeros in the rows of dx0 outside a subset, and in the sums over no rows.
cudaError_t clear(const FusedBackwardParams& params, cudaStream_t stream) {
  const auto cols = static_cast<std::size_t>(params.cols);
  const auto size = static_cast<std::size_t>(primitives::size_of(params.dtype));
  const auto weight_size = static_cast<std::size_t>(primitives::size_of(params.weight_dtype));
  cudaError_t status = cudaSuccess;
  if (params.x0_subset != nullptr && params.dx0.data != nullptr && params.x0_rows > 0) {
    status = cudaMemset2DAsync(params.dx0.data, static_cast<std::size_t>(params.dx0.stride) * size,
                               0, cols * size, static_cast<std::size_t>(params.x0_rows), stream);
  }
  if (params.rows > 0) return status;
  for (void* sum :
       {params.dgamma0, params.dbeta0, params.dgamma1, params.dbeta1, params.dcolscale}) {
    if (status == cudaSuccess && sum != nullptr) {
      status = cudaMemsetAsync(sum, 0, cols * weight_size, stream);
    }
  }
  return status;
}

}  // namespace

cudaError_t plan_backward(const FusedBackwardParams& params, BackwardPlan* plan) {
  *plan = {};
  if (params.rows == 0) return cudaSuccess;
  const cudaError_t status = plan_plain(params, plan);
  if (status != cudaSuccess || plan->is_plain) return status;
  plan->rows = plan_rows(params);
  return plan_columns(params, plan);
}

cudaError_t launch_backward(const FusedBackwardParams& params, const BackwardPlan& plan,
                            void* workspace, cudaStream_t stream) {
  const cudaError_t status = clear(params, stream);
  if (status != cudaSuccess || params.rows == 0) return status;
  if (plan.is_plain) return launch_plain(params, plan, workspace, stream);
  return primitives::with_device_type(params.dtype, [&](auto type) {
    return launch_dtype<decltype(type)>(params, plan, workspace, stream);
  });
}

}  // namespace kernelhub::layer_norm::cuda
