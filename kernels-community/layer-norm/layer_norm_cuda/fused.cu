// SPDX-License-Identifier: Apache-2.0
// Dropout, scaling, residual addition and normalisation in one pass.
//   x = dropout(x0 * rowscale * rowscale_const * colscale) + dropout(x1) + residual
//   z_i = (x - mean) * rstd * gamma_i + beta_i, from the unrounded x
// x0, x1, z [rows, cols] of T; residual, x of T or fp32; gammas, betas, colscale [cols] of T or
// fp32; masks uint8. An element of a row that fits into the registers is read once. Wider rows are
// composed from memory in the pass that stores x and again in each pass that reduces (two, one
// without a mean) and in the one that stores z, from L2 where they fit; masks are drawn and stored
// as often. Dropout: dropout.h. No product is contracted with a sum: rows have the same bits in
// either kernel.
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "layer_norm/dropout.h"
#include "layer_norm_cuda/layer_norm_cuda.h"
#include "layer_norm_cuda/moments.cuh"
#include "layer_norm_cuda/row_lanes.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::RowLaunch;
using primitives::RowPlace;

constexpr int kHeldGroups = 4;

// Blocks that must fit on a multiprocessor (kThreads).
template <class T, int kGroups>
constexpr int kBlocks = kGroups == 1                               ? (sizeof(T) == 4 ? 8 : 7)
                        : kGroups == kHeldGroups && sizeof(T) == 4 ? 2
                                                                   : 1;

template <class T, int kGroups>
constexpr int kAlignedBlocks = kGroups != 1     ? 1
                               : sizeof(T) == 4 ? 8
                                                : 7;

/// Bit i: whether element i of a unit of kLanes columns is kept. Not inlined: its code is long, and
/// a row has many units.
template <int kLanes>
__device__ __noinline__ unsigned kept_columns(std::uint64_t seed, std::uint64_t limit,
                                              std::uint32_t stream, std::int64_t row,
                                              unsigned unit) {
  unsigned bits = 0;
#pragma unroll
  for (int first = 0; first < kLanes; first += 4) {
    const Random4 random = random_words(seed, stream, static_cast<std::uint64_t>(row),
                                        unit * (kLanes / 4) + static_cast<unsigned>(first / 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) bits |= (random.word[i] < limit ? 1u : 0u) << (first + i);
  }
  return bits;
}

/// Draws the mask of one unit, stores it and drops what it does not keep.
template <int kLanes>
__device__ __forceinline__ void drop(const FusedParams& p, std::uint32_t stream,
                                     const MaskOut& masks, std::int64_t row, unsigned unit,
                                     float (&x)[kLanes]) {
  const std::uint64_t limit = keep_below(p.dropout_p);
  const auto scale = static_cast<float>(1.0 / (1.0 - p.dropout_p));
  const auto seed = static_cast<std::uint64_t>(*p.seed);
  const std::int64_t col = std::int64_t{unit} * kLanes;
  std::uint8_t* mask = masks.data + row * masks.stride + col;
  const unsigned bits = kept_columns<kLanes>(seed, limit, stream, row, unit);
#pragma unroll
  for (int i = 0; i < kLanes; ++i) x[i] = bits >> i & 1 ? x[i] * scale : 0.0f;
  if (col + kLanes <= p.cols && reinterpret_cast<std::uintptr_t>(mask) % 4 == 0) {
#pragma unroll
    for (int first = 0; first < kLanes; first += 4) {
      // Four bits -> the lowest bits of four bytes.
      const unsigned nibble = bits >> first & 0xf;
      *reinterpret_cast<unsigned*>(mask + first) = nibble * 0x00204081u & 0x01010101u;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kLanes; ++i) {
    if (col + i < p.cols) mask[i] = bits >> i & 1;
  }
}

/// What a thread knows of its row.
struct Row {
  std::int64_t row;
  SubsetRow x0;
  SubsetRow z;
  float scale;
};

/// One unit of x.
template <class T>
__device__ __forceinline__ void compose(const FusedParams& p, const Row& at, unsigned unit,
                                        float (&x)[kLanesOf<T>]) {
  constexpr int kLanes = kLanesOf<T>;
  float more[kLanes];
#pragma unroll
  for (int i = 0; i < kLanes; ++i) x[i] = at.x0.is_outside || at.z.is_outside ? NAN : 0.0f;
  if (at.x0.row >= 0 && !at.z.is_outside) {
    const T* x0 = static_cast<const T*>(p.x0.data) + at.x0.row * p.x0.stride;
    load_words<T>(x0, unit, p.cols, x);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) x[i] = __fmul_rn(x[i], at.scale);
    if (p.colscale != nullptr) {
      load_lanes<T>(p.weight_dtype, p.colscale, unit, p.cols, more);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) x[i] = __fmul_rn(x[i], more[i]);
    }
    if (p.dmask0.data != nullptr) drop(p, 0, p.dmask0, at.x0.row, unit, x);
  }
  if (p.x1.data != nullptr) {
    load_words<T>(static_cast<const T*>(p.x1.data) + at.row * p.x1.stride, unit, p.cols, more);
    if (p.dmask1.data != nullptr) drop(p, 1, p.dmask1, at.row, unit, more);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) x[i] = __fadd_rn(x[i], more[i]);
  }
  if (p.residual.data != nullptr) {
    load_lanes<T>(p.residual_dtype,
                  element<T>(p.residual_dtype, p.residual.data, at.row * p.residual.stride), unit,
                  p.cols, more);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) x[i] = __fadd_rn(x[i], more[i]);
  }
}

/// One unit of z.
template <class T>
__device__ __forceinline__ void store_z(const FusedParams& p, const Row& at, const Moments& found,
                                        const float (&x)[kLanesOf<T>], unsigned unit, const Out& z,
                                        const void* gamma, const void* beta) {
  constexpr int kLanes = kLanesOf<T>;
  if (z.data == nullptr || at.z.row < 0) return;
  float n[kLanes];
  float weight[kLanes];
#pragma unroll
  for (int i = 0; i < kLanes; ++i) n[i] = fmaf(x[i] - found.center, found.rstd, found.shift);
  if (gamma != nullptr) {
    load_lanes<T>(p.weight_dtype, gamma, unit, p.cols, weight);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) n[i] = __fmul_rn(n[i], weight[i]);
  }
  if (beta != nullptr) {
    load_lanes<T>(p.weight_dtype, beta, unit, p.cols, weight);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) n[i] = __fadd_rn(n[i], weight[i]);
  }
  store_words<T>(n, static_cast<T*>(z.data) + at.z.row * z.stride, unit, p.cols);
}

/// The units that a thread has of x = x0 * scale + residual, of aligned rows: all that they are
/// composed of is on its way together.
template <class T, int kGroups>
__device__ __forceinline__ void compose_aligned(const FusedParams& p, std::int64_t row,
                                                const RowPlace& place, unsigned units,
                                                float (&x)[kGroups][kLanesOf<T>]) {
  HeldUnits<T, kGroups> x0;
  HeldUnits<T, kGroups> residual;
  x0.load_as(static_cast<const T*>(p.x0.data) + row * p.x0.stride, place.unit, place.unit_step,
             units);
  if (p.residual.data != nullptr) {
    const void* from = element<T>(p.residual_dtype, p.residual.data, row * p.residual.stride);
    residual.load(p.residual_dtype, from, place.unit, place.unit_step, units);
  }
  const float scale = row_scale<T>(p, row);
  x0.template combine_as<T>(x, [&](float& lane, float value) { lane = __fmul_rn(value, scale); });
  if (p.residual.data != nullptr) {
    residual.combine(p.residual_dtype, x,
                     [](float& lane, float value) { lane = __fadd_rn(lane, value); });
  }
}

/// Stores the units of x of an aligned row.
template <class T, int kGroups>
__device__ __forceinline__ void store_aligned_x(const FusedParams& p, std::int64_t row,
                                                const RowPlace& place, unsigned units,
                                                const float (&x)[kGroups][kLanesOf<T>]) {
  if (p.x.data == nullptr) return;
  void* to = element<T>(p.residual_dtype, p.x.data, row * p.x.stride);
  if (p.residual_dtype == DType::kFloat32) {
    store_units_as<T>(x, static_cast<float*>(to), place.unit, place.unit_step, units);
  } else if constexpr (sizeof(T) == 2) {
    store_units_as<T>(x, static_cast<T*>(to), place.unit, place.unit_step, units);
  }
}

// Groups whose parameters a thread loads together.
constexpr int kTogether = 2;

/// The units of z of an aligned row that has `units`; it is stored where there are `stored`.
template <class T, int kGroups>
__device__ __forceinline__ void store_aligned_z(const FusedParams& p, std::int64_t z_row,
                                                const Moments& found, RowPlace& place,
                                                unsigned units, unsigned stored,
                                                const float (&x)[kGroups][kLanesOf<T>]) {
  constexpr int kBatch = kGroups < kTogether ? kGroups : kTogether;
  T* row = static_cast<T*>(p.z0.data) + z_row * p.z0.stride;
#pragma unroll
  for (int first = 0; first < kGroups; first += kBatch) {
    forget(place.unit);
    const unsigned first_unit = place.unit + first * place.unit_step;
    HeldUnits<T, kBatch> gamma;
    HeldUnits<T, kBatch> beta;
    if (p.gamma0 != nullptr) {
      gamma.load(p.weight_dtype, p.gamma0, first_unit, place.unit_step, units);
    }
    if (p.beta0 != nullptr) {
      beta.load(p.weight_dtype, p.beta0, first_unit, place.unit_step, units);
    }
    float n[kBatch][kLanesOf<T>];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
#pragma unroll
      for (int i = 0; i < kLanesOf<T>; ++i) {
        n[k][i] = fmaf(x[first + k][i] - found.center, found.rstd, found.shift);
      }
    }
    if (p.gamma0 != nullptr) {
      gamma.combine(p.weight_dtype, n,
                    [](float& lane, float value) { lane = __fmul_rn(lane, value); });
    }
    if (p.beta0 != nullptr) {
      beta.combine(p.weight_dtype, n,
                   [](float& lane, float value) { lane = __fadd_rn(lane, value); });
    }
    store_units_as<T>(n, row, first_unit, place.unit_step, stored);
  }
}

/// Rows held in registers whose tensors all consist of aligned units, of a call that has neither
/// dropout nor subsets, nor a scale of columns, nor a second input or output.
template <class T, int kGroups>
__global__ void __launch_bounds__(kThreads<kGroups>, (kAlignedBlocks<T, kGroups>))
    fused_aligned_rows(FusedParams p, RowShape shape, int threads_per_row) {
  constexpr int kLanes = kLanesOf<T>;
  __shared__ MomentsMemory memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowMoments<false> moments(memory, place.threads_per_row);
  const auto units = static_cast<unsigned>(p.cols / kLanes);
  for (; place.block_row < p.rows; place.next_row()) {
    // Threads without a row compute the last one and store nothing.
    const bool has_row = place.row < p.rows;
    std::int64_t row = has_row ? place.row : p.rows - 1;
    forget(row);
    const unsigned stored = has_row ? units : 0;
    float held[kGroups][kLanes];
    compose_aligned<T>(p, row, place, units, held);
    store_aligned_x<T>(p, row, place, stored, held);
    const Moments found = moments.template of<ThreadSum<kGroups>, kLanes, true>(
        shape,
        [&](const auto& f) {
          each_unit<kGroups>(place, units, [&](unsigned unit, int k) { f(unit, held[k]); });
        },
        [] {});
    if (has_row && place.unit == 0) {
      if (p.mu != nullptr) static_cast<float*>(p.mu)[row] = found.center + found.lack;
      if (p.rsigma != nullptr) static_cast<float*>(p.rsigma)[row] = found.rstd;
    }
    store_aligned_z<T>(p, row, found, place, units, stored, held);
  }
}

template <class T, int kGroups>
__global__ void __launch_bounds__(kThreads<kGroups>, (kBlocks<T, kGroups>))
    fused_rows(FusedParams p, RowShape shape, int threads_per_row) {
  constexpr int kLanes = kLanesOf<T>;
  constexpr bool kIsHeld = kGroups > 0;
  __shared__ MomentsMemory memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowMoments<false> moments(memory, place.threads_per_row);
  const unsigned row_units = static_cast<unsigned>((p.cols + kLanes - 1) / kLanes);
  for (; place.block_row < p.rows; place.next_row()) {
    Row at{place.row, {-1, false}, {-1, false}, 1.0f};
    const bool has_row = at.row < p.rows;
    const unsigned units = has_row ? row_units : 0;
    if (has_row) {
      at.x0 = subset_row(p.x0_subset, at.row, p.x0_rows);
      at.z = subset_row(p.z_subset, at.row, p.z_rows);
      at.scale = row_scale<T>(p, at.row);
    }

    // Compose and store x.
    float held[kIsHeld ? kGroups : 1][kLanes] = {};
    each_unit<kGroups>(place, units, [&](unsigned unit, int k) {
      compose<T>(p, at, unit, held[k]);
      if (p.x.data == nullptr) return;
      void* x = element<T>(p.residual_dtype, p.x.data, at.row * p.x.stride);
      store_lanes<T>(p.residual_dtype, held[k], x, unit, p.cols);
    });

    // Reduce.
    const Moments found =
        moments.template of<ThreadSum<kGroups>, kLanes>(shape, [&](const auto& f) {
          each_unit<kGroups>(place, units, [&](unsigned unit, int k) {
            if constexpr (!kIsHeld) compose<T>(p, at, unit, held[0]);
            f(unit, held[k]);
          });
        });
    if (has_row && place.unit == 0) {
      if (p.mu != nullptr) static_cast<float*>(p.mu)[at.row] = found.center + found.lack;
      if (p.rsigma != nullptr) static_cast<float*>(p.rsigma)[at.row] = found.rstd;
    }

    // Normalise and store z.
    each_unit<kGroups>(place, units, [&](unsigned unit, int k) {
      if constexpr (!kIsHeld) compose<T>(p, at, unit, held[0]);
      store_z<T>(p, at, found, held[k], unit, p.z0, p.gamma0, p.beta0);
      store_z<T>(p, at, found, held[k], unit, p.z1, p.gamma1, p.beta1);
    });
  }
}

/// Whether fused_aligned_rows takes a call, whose rows fit into registers.
template <class T>
bool is_aligned(const FusedParams& p) {
  const auto has_aligned_rows = [&](DType dtype, const void* data, std::int64_t rows,
                                    std::int64_t stride) {
    if (data == nullptr) return true;
    return dtype == DType::kFloat32
               ? primitives::has_aligned_rows(static_cast<const float*>(data), rows, p.cols, stride)
               : primitives::has_aligned_rows(static_cast<const T*>(data), rows, p.cols, stride);
  };
  const auto is_aligned_matrix = [&](DType dtype, const auto& matrix) {
    return has_aligned_rows(dtype, matrix.data, p.rows, matrix.stride);
  };
  const auto is_aligned_parameter = [&](const void* parameter) {
    return has_aligned_rows(p.weight_dtype, parameter, 1, p.cols);
  };
  const bool is_plain = p.dmask0.data == nullptr && p.x1.data == nullptr && p.colscale == nullptr &&
                        p.x0_subset == nullptr && p.z_subset == nullptr && p.z0.data != nullptr &&
                        p.z1.data == nullptr;
  return is_plain && p.cols % kLanesOf<T> == 0 && is_aligned_matrix(p.dtype, p.x0) &&
         is_aligned_matrix(p.residual_dtype, p.residual) &&
         is_aligned_matrix(p.residual_dtype, p.x) && is_aligned_matrix(p.dtype, p.z0) &&
         is_aligned_parameter(p.gamma0) && is_aligned_parameter(p.beta0);
}

template <class T>
auto kernel_of(const RowLaunch& launch, bool is_aligned) {
  if (launch.groups == 0) return &fused_rows<T, 0>;
  if (launch.groups == 1) return is_aligned ? &fused_aligned_rows<T, 1> : &fused_rows<T, 1>;
  return is_aligned ? &fused_aligned_rows<T, kHeldGroups> : &fused_rows<T, kHeldGroups>;
}

template <class T>
cudaError_t launch_dtype(const FusedParams& params, cudaStream_t stream) {
  const RowLaunch launch = primitives::row_launch(params.cols, sizeof(T), {kHeldGroups, 1});
  const unsigned blocks = primitives::row_blocks(launch, params.rows, primitives::kMaxRowBlocks);
  return primitives::launch_rows(kernel_of<T>(launch, is_aligned<T>(params)), launch, blocks, 0,
                                 stream, params, row_shape(params.norm, params.cols, params.eps),
                                 launch.threads_per_row);
}

}  // namespace

cudaError_t launch(const FusedParams& params, cudaStream_t stream) {
  const auto size = static_cast<std::size_t>(primitives::size_of(params.dtype));
  const auto clear = [&](auto& matrix, std::size_t element_size, std::int64_t rows) {
    if (matrix.data == nullptr || rows == 0) return cudaSuccess;
    return cudaMemset2DAsync(matrix.data, static_cast<std::size_t>(matrix.stride) * element_size, 0,
                             static_cast<std::size_t>(params.cols) * element_size,
                             static_cast<std::size_t>(rows), stream);
  };
  cudaError_t status = cudaSuccess;
  if (params.cols == 0) {
    for (void* statistics : {params.mu, params.rsigma}) {
      if (status != cudaSuccess || statistics == nullptr) continue;
      const auto bytes = static_cast<std::size_t>(params.rows) * sizeof(float);
      status = cudaMemsetAsync(statistics, 0xff, bytes, stream);  // NaNs
    }
    return status;
  }
  if (params.x0_subset != nullptr) status = clear(params.dmask0, 1, params.x0_rows);
  if (status == cudaSuccess && params.z_subset != nullptr) {
    status = clear(params.z0, size, params.z_rows);
    if (status == cudaSuccess) status = clear(params.z1, size, params.z_rows);
  }
  if (status != cudaSuccess || params.rows == 0) return status;
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return launch_dtype<decltype(type)>(params, stream); });
}

}  // namespace kernelhub::layer_norm::cuda
