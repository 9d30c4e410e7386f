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
#include "primitives/pair16.cuh"
#include "primitives/rows.cuh"

namespace kernelhub::layer_norm::cuda {
namespace {

using primitives::bits_of;
using primitives::load_unit;
using primitives::load_vec128;
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
  std::int64_t rows, out_stride, x_stride;
  RowShape shape;
};

/// What leaves every value as it is, its sign too.
constexpr float kNoWeight = 1.0f;
constexpr float kNoBias = -0.0f;

/// A unit of equal values.
template <class T>
__device__ __forceinline__ uint4 filled(float value) {
  float lanes[Vec128<T>::kLanes];
#pragma unroll
  for (float& lane : lanes) lane = value;
  return bits_of(primitives::narrow_lanes<T>(lanes));
}

/// One unit of x -> the same unit of out.
template <class T>
__device__ __forceinline__ Vec128<T> normalized(const Vec128<T>& x, const Moments& row,
                                                uint4 weight, uint4 bias) {
  constexpr int kLanes = Vec128<T>::kLanes;
  float lanes[kLanes];
  float scale[kLanes];
  float shift[kLanes];
  primitives::widen_lanes<T>(bits_of(x), lanes);
  primitives::widen_lanes<T>(weight, scale);
  primitives::widen_lanes<T>(bias, shift);
#pragma unroll
  for (int i = 0; i < kLanes; ++i) {
    const float n = fmaf(lanes[i] - row.center, row.rstd, row.shift);
    lanes[i] = fmaf(n, scale[i], shift[i]);
  }
  return primitives::narrow_lanes<T>(lanes);
}

/// As `normalized`, with parameters at any address, which are read now.
template <class T>
__device__ __forceinline__ Vec128<T> normalized(const Tensors<T>& t, const Vec128<T>& x,
                                                const Moments& row, unsigned unit) {
  uint4 weight = filled<T>(kNoWeight);
  uint4 bias = filled<T>(kNoBias);
  if (t.weight != nullptr) weight = bits_of(load_parameter(t.weight, unit, t.shape.cols));
  if (t.bias != nullptr) bias = bits_of(load_parameter(t.bias, unit, t.shape.cols));
  return normalized(x, row, weight, bias);
}

// Groups whose parameters a thread loads together.
template <int kGroups>
constexpr int kParameterGroups = kGroups < 4 ? kGroups : 4;

/// Some units of a parameter, aligned or null. Held as words: nvcc 13.0 takes lanes of 16 bits
/// apart where two branches meet.
template <class T, int kGroups>
__device__ __forceinline__ void load_parameters(uint4 (&held)[kGroups], const T* parameter,
                                                float absent, unsigned units, const RowPlace& place,
                                                int first) {
  if (parameter == nullptr) {
#pragma unroll
    for (int k = 0; k < kGroups; ++k) held[k] = filled<T>(absent);
    return;
  }
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    // A unit behind the row, which is not stored, takes the last one's.
    unsigned unit = place.unit + (first + k) * place.unit_step;
    unit = unit < units ? unit : units - 1;
    held[k] = bits_of(load_vec128(parameter + std::int64_t{unit} * Vec128<T>::kLanes));
  }
}

/// kIsAligned: all tensors consist of aligned units (has_aligned_rows).
template <class T, int kGroups, bool kIsClustered, bool kIsAligned>
__global__ void __launch_bounds__(kThreads<kGroups>, kBlocks<kGroups>)
    normalize_held_rows(Tensors<T> t, int threads_per_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  constexpr int kTogether = kParameterGroups<kGroups>;
  __shared__ MomentsMemory memory;
  RowPlace place = RowPlace::here<kIsClustered>(threads_per_row);
  RowMoments<kIsClustered> moments(memory, place.threads_per_row);
  const std::int64_t cols = t.shape.cols;
  const auto row_units = static_cast<unsigned>((cols + kLanes - 1) / kLanes);
  for (; place.block_row < t.rows; place.next_row()) {
    const std::int64_t row = place.row;
    const bool has_row = row < t.rows;

    // Load.
    Vec128<T> held[kGroups];
    primitives::load_slice<kIsAligned>(held, t.x + row * t.x_stride, cols, place, has_row);

    // Reduce; the parameters are there when the moments are.
    uint4 weight[kTogether];
    uint4 bias[kTogether];
    const auto load = [&](int first) {
      conceal(place.unit);
      load_parameters<T>(weight, t.weight, kNoWeight, row_units, place, first);
      load_parameters<T>(bias, t.bias, kNoBias, row_units, place, first);
    };
    const Moments found = moments.template of<ThreadSum<kGroups>, kLanes, kIsAligned>(
        t.shape,
        [&](const auto& f) {
          if constexpr (!kIsAligned) conceal(held);
          visit_held(held, place, f);
        },
        [&] {
          if constexpr (kIsAligned) load(0);
        });

    // Normalise and store.
    conceal(place.unit);
    conceal(held);
    // Forgotten, lest every unit's address is computed from the row's number.
    auto address = reinterpret_cast<std::int64_t>(t.out + row * t.out_stride);
    forget(address);
    T* out = reinterpret_cast<T*>(address);
    const unsigned units = has_row ? row_units : 0;
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      if constexpr (kIsAligned) {
        if (k > 0 && k % kTogether == 0) load(k);
        held[k] = normalized(held[k], found, weight[k % kTogether], bias[k % kTogether]);
        if (unit < units) primitives::store_vec128(held[k], out + std::int64_t{unit} * kLanes);
      } else if (unit < units) {
        held[k] = normalized(t, held[k], found, unit);
      }
    }
    if constexpr (kIsAligned) continue;
    conceal(place.unit);
    primitives::store_slice(held, out, cols, place, has_row);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads<0>, kBlocks<0>)
    normalize_wide_rows(Tensors<T> t, int threads_per_row) {
  constexpr int kLanes = Vec128<T>::kLanes;
  __shared__ MomentsMemory memory;
  RowPlace place = RowPlace::here<false>(threads_per_row);
  RowMoments<false> moments(memory, place.threads_per_row);
  const std::int64_t cols = t.shape.cols;
  const auto units = static_cast<unsigned>((cols + kLanes - 1) / kLanes);
  for (; place.row < t.rows; place.next_row()) {
    const std::int64_t row = place.row;
    const T* x = t.x + row * t.x_stride;
    T* out = t.out + row * t.out_stride;
    const Moments found = moments.template of<ThreadSum<0>, kLanes>(t.shape, [&](const auto& f) {
      for (unsigned unit = place.unit; unit < units; unit += place.unit_step) {
        float lanes[kLanes];
        primitives::widen_lanes<T>(bits_of(load_unit(x, unit, cols)), lanes);
        f(unit, lanes);
      }
    });
    // Whole warps: store_units completes words from neighbours.
    const unsigned turns = (units + place.unit_step - 1) / place.unit_step;
    for (unsigned k = 0; k < turns; ++k) {
      const unsigned unit = place.unit + k * place.unit_step;
      const Vec128<T> vec =
          unit < units ? normalized(t, load_unit(x, unit, cols), found, unit) : Vec128<T>{};
      primitives::store_units(vec, out, unit, units, cols, place);
    }
  }
}

template <class T>
using Kernel = void (*)(Tensors<T>, int);

template <class T, bool kIsAligned>
Kernel<T> kernel_of(const RowLaunch& launch) {
  if (launch.groups == 0) return &normalize_wide_rows<T>;
  if (launch.groups == 1) return &normalize_held_rows<T, 1, false, kIsAligned>;
  if (launch.groups == 4) return &normalize_held_rows<T, 4, false, kIsAligned>;
  return &normalize_held_rows<T, kMaxGroups, true, kIsAligned>;
}

template <class T>
bool is_aligned(const Tensors<T>& t) {
  const std::int64_t cols = t.shape.cols;
  const auto is_aligned_parameter = [&](const T* parameter) {
    return parameter == nullptr || primitives::has_aligned_rows(parameter, 1, cols, cols);
  };
  return primitives::has_aligned_rows(t.x, t.rows, cols, t.x_stride) &&
         primitives::has_aligned_rows(t.out, t.rows, cols, t.out_stride) &&
         is_aligned_parameter(t.weight) && is_aligned_parameter(t.bias);
}

template <class T>
cudaError_t launch_dtype(const Params& params, cudaStream_t stream) {
  const Tensors<T> tensors{static_cast<T*>(params.out),
                           static_cast<const T*>(params.x),
                           static_cast<const T*>(params.weight),
                           static_cast<const T*>(params.bias),
                           params.rows,
                           params.out_stride,
                           params.x_stride,
                           row_shape(params.norm, params.cols, params.eps)};
  const auto kernel_of =
      is_aligned(tensors) ? &cuda::kernel_of<T, true> : &cuda::kernel_of<T, false>;
  RowLaunch launch;
  const cudaError_t status =
      primitives::device_row_launch(&launch, params.cols, sizeof(T), kMaxGroups,
                                    &normalize_held_rows<T, kMaxGroups, true, false>);
  if (status != cudaSuccess) return status;
  const unsigned blocks = primitives::row_blocks(launch, params.rows, primitives::kMaxRowBlocks);
  return primitives::launch_rows(kernel_of(launch), launch, blocks, 0, stream, tensors,
                                 launch.threads_per_row);
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  if (params.weight_dtype != params.dtype) return launch(fused(params), stream);
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return launch_dtype<decltype(type)>(params, stream); });
}

}  // namespace kernelhub::layer_norm::cuda
