// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding of up to two tensors in one launch.
//   out1 = x1 cos - x2 sin, out2 = x1 sin + x2 cos (conj: sin with the other sign)
// x, out [places..., repeats, columns] in fp32, fp16 or bf16; cos, sin in that dtype or fp32, the
// same row for all repeats (heads) of a place. fp32 arithmetic, both products rounded before they
// are added, one rounding to the dtype at the store: the bits of the composed fp32 formula.
// Bytes per element: reads and writes 1 x sizeof(T); cos and sin once per kRowsInFlight rows, of
// which all but the first find them in a cache: the blocks of a place start one after the other.
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include <cassert>

#include "primitives/vec128.cuh"
#include "rotary_cuda/rotary_config.h"
#include "rotary_cuda/rotary_cuda.h"

namespace kernelhub::rotary::cuda {
namespace {

using primitives::DType;
using primitives::load_vec128;
using primitives::narrow;
using primitives::store_vec128;
using primitives::Vec128;
using primitives::widen;

// Blocks that must fit on a multiprocessor: as many as nvcc 13.0 reaches without a spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kBlocks = 3;
#else
constexpr int kBlocks = 4;
#endif

struct KernelParams {
  Part parts[2];
  Walk walks[2];
  Cut cut;
  int count;
  bool conj;
  bool has_wide_positions;
  std::int64_t cos_stride;
  std::int64_t sin_stride;
  std::int64_t table_rows;
};

/// One element of either half.
struct Turned {
  float first, second;
};

/// Products are rounded before they are added: no contraction.
__device__ __forceinline__ Turned turn(float x1, float x2, float c, float s) {
  return {__fsub_rn(__fmul_rn(x1, c), __fmul_rn(x2, s)),
          __fadd_rn(__fmul_rn(x2, c), __fmul_rn(x1, s))};
}

/// First rows of a place, in elements behind every operand's first.
struct Place {
  std::int64_t x1, x2, out1, out2, cos, sin;
  bool is_in_table;  // false: the position is outside, and no row of cos or sin may be read
};

__device__ __forceinline__ std::int64_t position_at(const KernelParams& params, const Part& part,
                                                    std::int64_t offset) {
  if (params.has_wide_positions) {
    return static_cast<const std::int64_t*>(part.positions.data)[offset];
  }
  return static_cast<const std::int32_t*>(part.positions.data)[offset];
}

__device__ __forceinline__ Place place_at(const KernelParams& params, int which, std::int64_t index,
                                          std::int64_t first_repeat) {
  const Part& part = params.parts[which];
  const Walk& walk = params.walks[which];
  const int repeat = walk.repeat_dim;
  Place place{first_repeat * part.x1.strides[repeat],
              first_repeat * part.x2.strides[repeat],
              first_repeat * part.out1.strides[repeat],
              first_repeat * part.out2.strides[repeat],
              0,
              0,
              true};
  std::int64_t position = 0;
#pragma unroll
  for (int d = kMaxDims - 1; d >= 0; --d) {
    const std::int64_t size = walk.sizes[d];
    if (size == 1) continue;
    // Divisions are dear: the outermost dimension needs none.
    const std::int64_t rest = index < size ? 0 : index / size;
    const std::int64_t i = index - rest * size;
    index = rest;
    place.x1 += i * part.x1.strides[d];
    place.x2 += i * part.x2.strides[d];
    place.out1 += i * part.out1.strides[d];
    place.out2 += i * part.out2.strides[d];
    place.cos += i * part.cos.strides[d];
    place.sin += i * part.sin.strides[d];
    position += i * part.positions.strides[d];
  }
  if (part.positions.data != nullptr) {
    const std::int64_t row = position_at(params, part, position);
    place.is_in_table = row >= 0 && row < params.table_rows;
    assert(place.is_in_table && "rotary: a position lies outside the table");
    place.cos = row * params.cos_stride;
    place.sin = row * params.sin_stride;
  }
  return place;
}

/// kCount values of a table as fp32. `is_aligned`: at a multiple of their bytes, at most 16.
template <int kCount, class S>
__device__ __forceinline__ void load_table(const S* from, bool is_aligned, float (&to)[kCount]) {
  constexpr int kBytes = kCount * static_cast<int>(sizeof(S));
  if constexpr (kBytes % 16 == 0) {
    if (is_aligned) {
      constexpr int kLanes = Vec128<S>::kLanes;
#pragma unroll
      for (int i = 0; i < kCount; i += kLanes) {
        const Vec128<S> vec = load_vec128(from + i);
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) to[i + lane] = widen(vec.lane[lane]);
      }
      return;
    }
  } else if constexpr (kBytes == 8) {
    if (is_aligned) {
      struct alignas(8) Half {
        S lane[kCount];
      };
      const Half half = *reinterpret_cast<const Half*>(from);
#pragma unroll
      for (int i = 0; i < kCount; ++i) to[i] = widen(half.lane[i]);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = widen(from[i]);
}

/// cos and sin of kCount pairs.
template <int kCount>
struct Angles {
  float cos[kCount];
  float sin[kCount];

  template <class S>
  __device__ __forceinline__ void load(const S* cos_row, const S* sin_row, std::int64_t pair,
                                       bool is_aligned, bool is_in_table, bool conj) {
    if (!is_in_table) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) cos[i] = sin[i] = __int_as_float(0x7fffffff);
      return;
    }
    load_table(cos_row + pair, is_aligned, cos);
    load_table(sin_row + pair, is_aligned, sin);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sin[i] = conj ? -sin[i] : sin[i];
  }
};

/// The 16 bytes of either half, or interleaved of the row, that hold one group of pairs.
template <class T, bool kInterleaved>
struct Group {
  static constexpr int kVectors = kInterleaved ? 1 : 2;
  static constexpr int kPairs = Vec128<T>::kLanes * kVectors / 2;

  Vec128<T> vectors[kVectors];

  __device__ __forceinline__ void load(const T* x1, const T* x2) {
    vectors[0] = load_vec128(x1);
    if constexpr (!kInterleaved) vectors[1] = load_vec128(x2);
  }

  __device__ __forceinline__ void turn_by(const Angles<kPairs>& angles) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      T& x1 = vectors[0].lane[kInterleaved ? 2 * i : i];
      T& x2 = vectors[kVectors - 1].lane[kInterleaved ? 2 * i + 1 : i];
      const Turned turned = turn(widen(x1), widen(x2), angles.cos[i], angles.sin[i]);
      x1 = narrow<T>(turned.first);
      x2 = narrow<T>(turned.second);
    }
  }

  __device__ __forceinline__ void store(T* out1, T* out2) const {
    store_vec128(vectors[0], out1);
    if constexpr (!kInterleaved) store_vec128(vectors[1], out2);
  }
};

/// The rows of one place that one thread rotates: the pointers of the first, and the way on.
template <class T, class S>
struct Rows {
  const T* x1;
  const T* x2;
  T* out1;
  T* out2;
  const S* cos;
  const S* sin;
  std::int64_t x1_step, x2_step, out1_step, out2_step;
  bool is_in_table;

  __device__ __forceinline__ Rows(const KernelParams& params, int which, const Place& place)
      : x1(static_cast<const T*>(params.parts[which].x1.data) + place.x1),
        x2(static_cast<const T*>(params.parts[which].x2.data) + place.x2),
        out1(static_cast<T*>(params.parts[which].out1.data) + place.out1),
        out2(static_cast<T*>(params.parts[which].out2.data) + place.out2),
        cos(static_cast<const S*>(params.parts[which].cos.data) + place.cos),
        sin(static_cast<const S*>(params.parts[which].sin.data) + place.sin),
        x1_step(params.parts[which].x1.strides[params.walks[which].repeat_dim]),
        x2_step(params.parts[which].x2.strides[params.walks[which].repeat_dim]),
        out1_step(params.parts[which].out1.strides[params.walks[which].repeat_dim]),
        out2_step(params.parts[which].out2.strides[params.walks[which].repeat_dim]),
        is_in_table(place.is_in_table) {}

  /// kCount rows from row `first` on, one group of pairs of each. `angles_of()` is called once the
  /// rows are on their way.
  template <int kCount, bool kInterleaved, class AnglesOf>
  __device__ __forceinline__ void groups(const AnglesOf& angles_of, int first,
                                         std::int64_t column) const {
    Group<T, kInterleaved> group[kCount];
    const T* from1 = x1 + first * x1_step + column;
    const T* from2 = x2 + first * x2_step + column;
#pragma unroll
    for (int r = 0; r < kCount; ++r, from1 += x1_step, from2 += x2_step)
      group[r].load(from1, from2);
    const Angles<Group<T, kInterleaved>::kPairs> angles = angles_of();
    T* to1 = out1 + first * out1_step + column;
    T* to2 = out2 + first * out2_step + column;
#pragma unroll
    for (int r = 0; r < kCount; ++r, to1 += out1_step, to2 += out2_step) {
      group[r].turn_by(angles);
      group[r].store(to1, to2);
    }
  }

  /// kCount rows from row `first` on, one pair of each.
  template <int kCount, class AnglesOf>
  __device__ __forceinline__ void pairs(const AnglesOf& angles_of, int first,
                                        std::int64_t column) const {
    T a[kCount];
    T b[kCount];
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
      a[r] = x1[(first + r) * x1_step + column];
      b[r] = x2[(first + r) * x2_step + column];
    }
    const Angles<1> angles = angles_of();
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
      const Turned turned = turn(widen(a[r]), widen(b[r]), angles.cos[0], angles.sin[0]);
      out1[(first + r) * out1_step + column] = narrow<T>(turned.first);
      out2[(first + r) * out2_step + column] = narrow<T>(turned.second);
    }
  }

  /// Columns [column, column + count) of `rows` rows as they are.
  template <int kCount>
  __device__ __forceinline__ void copy(int rows, std::int64_t column, std::int64_t count,
                                       bool is_aligned) const {
#pragma unroll 1
    for (int r = 0; r < rows; ++r) {
      const T* from = x1 + r * x1_step + column;
      T* to = out1 + r * out1_step + column;
      if (kCount == Vec128<T>::kLanes && is_aligned && count >= kCount) {
        store_vec128(load_vec128(from), to);
        continue;
      }
#pragma unroll 1
      for (int i = 0; i < kCount && i < count; ++i) to[i] = from[i];
    }
  }
};

/// One unit of the rows of a place: a group of pairs, one pair, or some columns of the tail.
template <class T, class S, bool kInterleaved, bool kVectorized>
__device__ __forceinline__ void do_unit(const KernelParams& params, const Rows<T, S>& rows,
                                        int count, std::int64_t unit, std::int64_t tail) {
  using RowGroup = Group<T, kInterleaved>;
  constexpr int kStep = kInterleaved ? 2 : 1;  // columns from one pair's first to the next's
  constexpr int kCopied = kVectorized ? Vec128<T>::kLanes : 1;
  const Cut& cut = params.cut;
  if (kVectorized && unit < cut.groups) {
    const std::int64_t pair = cut.head + unit * RowGroup::kPairs;
    const auto load_angles = [&] {
      Angles<RowGroup::kPairs> angles;
      angles.load(rows.cos, rows.sin, pair, cut.has_aligned_tables, rows.is_in_table, params.conj);
      return angles;
    };
    if (count == kRowsInFlight) {
      rows.template groups<kRowsInFlight, kInterleaved>(load_angles, 0, pair * kStep);
      return;
    }
    const auto angles = load_angles();
#pragma unroll 1
    for (int r = 0; r < count; ++r) {
      rows.template groups<1, kInterleaved>([&] { return angles; }, r, pair * kStep);
    }
    return;
  }
  const std::int64_t single = kVectorized ? unit - cut.groups : unit;
  if (single < cut.singles) {
    const std::int64_t pair =
        !kVectorized || single < cut.head ? single : single + cut.groups * RowGroup::kPairs;
    const auto load_angles = [&] {
      Angles<1> angles;
      angles.load(rows.cos, rows.sin, pair, false, rows.is_in_table, params.conj);
      return angles;
    };
    if (!kVectorized && count == kRowsInFlight) {
      rows.template pairs<kRowsInFlight>(load_angles, 0, pair * kStep);
      return;
    }
    const auto angles = load_angles();
#pragma unroll 1
    for (int r = 0; r < count; ++r) {
      rows.template pairs<1>([&] { return angles; }, r, pair * kStep);
    }
    return;
  }
  const std::int64_t column = (single - cut.singles) * kCopied;
  if (column >= tail) return;
  rows.template copy<kCopied>(count, 2 * cut.pairs + column, tail - column, cut.has_aligned_tails);
}

template <class T, class S, bool kInterleaved, bool kVectorized>
__global__ void __launch_bounds__(kThreads, kBlocks)
    rotary_kernel(const __grid_constant__ KernelParams params, std::int64_t units) {
  const std::int64_t chunks =
      params.walks[0].chunks + (params.count > 1 ? params.walks[1].chunks : 0);
  for (std::int64_t x = blockIdx.x; x < chunks; x += gridDim.x) {
    const int which = x < params.walks[0].chunks ? 0 : 1;
    const Walk& walk = params.walks[which];
    const std::int64_t first = (which == 0 ? x : x - params.walks[0].chunks) * kRowsInFlight;
    const std::int64_t left = walk.repeats - first;
    const int count = left < kRowsInFlight ? static_cast<int>(left) : kRowsInFlight;
    const std::int64_t place_step = std::int64_t{gridDim.y} * blockDim.y;
    // Units outside: nothing of a place lives in registers while another one is rotated.
    for (std::int64_t unit = threadIdx.x; unit < units; unit += blockDim.x) {
      for (std::int64_t p = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; p < walk.places;
           p += place_step) {
        const Rows<T, S> rows(params, which, place_at(params, which, p, first));
        do_unit<T, S, kInterleaved, kVectorized>(params, rows, count, unit,
                                                 params.parts[which].tail);
      }
    }
  }
}

template <class T, class S, bool kInterleaved>
cudaError_t launch_form(const KernelParams& params, cudaStream_t stream) {
  constexpr std::int64_t kLanes = Vec128<T>::kLanes;
  const Cut& cut = params.cut;
  std::int64_t tail = 0;
  std::int64_t places = 0;
  std::int64_t chunks = 0;
  for (int i = 0; i < params.count; ++i) {
    tail = std::max(tail, params.parts[i].tail);
    places = std::max(places, params.walks[i].places);
    chunks += params.walks[i].chunks;
  }
  const std::int64_t units = cut.is_vectorized
                                 ? cut.groups + cut.singles + (tail + kLanes - 1) / kLanes
                                 : cut.pairs + tail;
  const Shape shape = launch_shape(units, places, chunks);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks_x, shape.blocks_y);
  config.blockDim = dim3(shape.threads_x, shape.threads_y);
  config.stream = stream;
  const auto kernel = cut.is_vectorized ? rotary_kernel<T, S, kInterleaved, true>
                                        : rotary_kernel<T, S, kInterleaved, false>;
  return cudaLaunchKernelEx(&config, kernel, params, units);
}

template <class T, class S>
cudaError_t launch_types(const KernelParams& params, bool interleaved, cudaStream_t stream) {
  return interleaved ? launch_form<T, S, true>(params, stream)
                     : launch_form<T, S, false>(params, stream);
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  KernelParams kernel{};
  kernel.count = params.count;
  for (int i = 0; i < params.count; ++i) {
    kernel.parts[i] = params.parts[i];
    kernel.walks[i] = walk_of(params.parts[i]);
  }
  kernel.cut = cut_rows(params);
  kernel.conj = params.conj;
  kernel.has_wide_positions = params.has_wide_positions;
  kernel.cos_stride = params.cos_stride;
  kernel.sin_stride = params.sin_stride;
  kernel.table_rows = params.table_rows;
  const bool has_fp32_table = params.table_dtype == DType::kFloat32;
  switch (params.dtype) {
    case DType::kFloat32:
      return launch_types<float, float>(kernel, params.interleaved, stream);
    case DType::kFloat16:
      return has_fp32_table ? launch_types<__half, float>(kernel, params.interleaved, stream)
                            : launch_types<__half, __half>(kernel, params.interleaved, stream);
    case DType::kBFloat16:
      return has_fp32_table
                 ? launch_types<__nv_bfloat16, float>(kernel, params.interleaved, stream)
                 : launch_types<__nv_bfloat16, __nv_bfloat16>(kernel, params.interleaved, stream);
    case DType::kFloat64:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace kernelhub::rotary::cuda
