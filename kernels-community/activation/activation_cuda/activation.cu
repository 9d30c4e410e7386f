// SPDX-License-Identifier: Apache-2.0
// Element-wise activations, one pass over memory.
//   unary  out[r, c] = act(input[r, c])
//   gated  out[r, c] = T(T(act(x)) * y), x = input[r, c], y = input[r, cols + c]
// dtypes fp32, fp16, bf16; arithmetic fp32. The formulas, their order and the compiler's default
// contraction are those of torch's CUDA kernels for silu and gelu, so that results are bit-equal.
// For 16 bits the division of silu and the whole of gelu_quick use the approximate units
// (approx_math.cuh); products of 16-bit values, gelu_fast and gelu_new use native 16-bit
// arithmetic, which rounds as T(.) does: fp32 has more than twice the digits plus two, so that
// rounding there first would change nothing (S. A. Figueroa, SIGNUM Newsletter 30 (1995), 21-26).
// Bytes per output element: read 1 (gated 2) x sizeof(T), write 1 x sizeof(T).
// Archs: sm_80, sm_90, sm_100, sm_120 and PTX. Never build with --use_fast_math.
#include "activation_cuda/activation_cuda.h"
#include "activation_cuda/approx_math.cuh"
#include "activation_cuda/approx_units.cuh"
#include "primitives/dtype_switch.cuh"
#include "primitives/elementwise.cuh"
#include "primitives/pair16.cuh"

namespace kernelhub::activation::cuda {
namespace {

using primitives::all_within;
using primitives::ElementwiseRows;
using primitives::Lanewise;
using primitives::map_pair;
using primitives::Pair;
using primitives::pair_at;
using primitives::pair_of_bits;
using primitives::set_pair;
using primitives::Vec128;
using primitives::widen;

// 16-byte groups that a thread loads before it computes the first: with the blocks of kVectorBlocks
// at least 32 KiB in flight on a multiprocessor, 48 KiB where an op is gated.
constexpr int kGroupsInFlight = 2;

constexpr float kSqrtHalf = 0.70710678118654752440f;
constexpr float kSqrtTwoOverPi = 0.79788456080286535588f;
constexpr float kCubic = 0.044715f;

/// Bits of the 16-bit constants; a constant of the contract is the sum of its split.
template <class T>
struct Bits;
template <>
struct Bits<__half> {
  static constexpr std::uint16_t kOne = 0x3c00, kHalf = 0x3800, kOrdinary = 0x5100;
  static constexpr std::uint16_t kSqrtTwoOverPi[2] = {0x3a62, 0x022a};
  static constexpr std::uint16_t kCubic[2] = {0x29b9, 0x0071};
};
template <>
struct Bits<__nv_bfloat16> {
  static constexpr std::uint16_t kOne = 0x3f80, kHalf = 0x3f00, kOrdinary = 0x4220;
  static constexpr std::uint16_t kSqrtTwoOverPi[2] = {0x3f4c, 0x3a84};
  static constexpr std::uint16_t kCubic[2] = {0x3d37, 0x381c};
};

/// Arithmetic on pairs of T for the stepwise forms.
template <class T>
struct Native {
  using Pair = primitives::Pair<T>;
  struct Split {
    Pair hi, lo;
  };
  __device__ static __forceinline__ Pair one() { return pair_of_bits<T>(Bits<T>::kOne); }
  __device__ static __forceinline__ Pair half() { return pair_of_bits<T>(Bits<T>::kHalf); }
  __device__ static __forceinline__ Split sqrt_two_over_pi() {
    return {pair_of_bits<T>(Bits<T>::kSqrtTwoOverPi[0]),
            pair_of_bits<T>(Bits<T>::kSqrtTwoOverPi[1])};
  }
  __device__ static __forceinline__ Split cubic() {
    return {pair_of_bits<T>(Bits<T>::kCubic[0]), pair_of_bits<T>(Bits<T>::kCubic[1])};
  }
  __device__ static __forceinline__ Pair mul(Pair a, Pair b) { return __hmul2_rn(a, b); }
  __device__ static __forceinline__ Pair add(Pair a, Pair b) { return __hadd2_rn(a, b); }
  __device__ static __forceinline__ Pair fma(Pair a, Pair b, Pair c) { return __hfma2(a, b, c); }
  __device__ static __forceinline__ Pair tanh(Pair u) {
    return map_pair<T>(u, tanh_beside_one<Units>);
  }
};

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ __forceinline__ float gelu(float x) {
  return x * 0.5f * (1.0f + selected_erf<Units>(x * kSqrtHalf));
}

__device__ __forceinline__ float gelu_tanh_inner(float x) {
  const float cube = x * x * x;
  return kSqrtTwoOverPi * (x + kCubic * cube);
}

__device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(gelu_tanh_inner(x)));
}

__device__ __forceinline__ float gelu_quick(float x) { return x / (1.0f + expf(-1.702f * x)); }

__device__ __forceinline__ float gelu_fast(float x) {
  const float a = __fmul_rn(x, 0.79788456f);
  const float b = __fadd_rn(1.0f, __fmul_rn(__fmul_rn(kCubic, x), x));
  return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, tanhf(__fmul_rn(a, b))));
}

__device__ __forceinline__ float gelu_new(float x) {
  const float cube = __fmul_rn(__fmul_rn(x, x), x);
  const float sum = __fadd_rn(x, __fmul_rn(kCubic, cube));
  return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, tanhf(__fmul_rn(0.79788456f, sum))));
}

/// x <= threshold is false for NaN, which stays.
__device__ __forceinline__ float fatrelu(float x, float threshold) {
  return x <= threshold ? 0.0f : x;
}

template <Op op>
__device__ __forceinline__ float activate(float x, float threshold) {
  if constexpr (op == Op::kSilu) return silu(x);
  if constexpr (op == Op::kGelu) return gelu(x);
  if constexpr (op == Op::kGeluTanh) return gelu_tanh(x);
  if constexpr (op == Op::kGeluQuick) return gelu_quick(x);
  if constexpr (op == Op::kGeluFast) return gelu_fast(x);
  if constexpr (op == Op::kGeluNew) return gelu_new(x);
  if constexpr (op == Op::kFatreluAndMul) return fatrelu(x, threshold);
}

/// Ops whose short form holds for magnitudes up to kOrdinary only.
constexpr bool has_bound(Op op) { return op == Op::kSilu || op == Op::kGeluQuick; }

/// T(act(x)) of a pair; for ops with a bound both magnitudes are within it.
template <Op op, class T>
__device__ __forceinline__ Pair<T> activate_pair(Pair<T> x, float threshold) {
  if constexpr (op == Op::kGeluFast) {
    return stepwise_gelu_fast<Native<T>>(x);
  } else if constexpr (op == Op::kGeluNew) {
    return stepwise_gelu_new<Native<T>>(x);
  } else if constexpr (op == Op::kSilu) {
    return map_pair<T>(x, [](float v) { return divide_by_one_plus<Units>(v, expf(-v)); });
  } else if constexpr (op == Op::kGeluTanh) {
    return map_pair<T>(
        x, [](float v) { return 0.5f * v * (1.0f + open_tanh<Units>(gelu_tanh_inner(v))); });
  } else if constexpr (op == Op::kGeluQuick) {
    return map_pair<T>(x, [](float v) { return quick_gelu<Units>(v); });
  } else {
    return map_pair<T>(x, [threshold](float v) { return activate<op>(v, threshold); });
  }
}

/// One op on one dtype, as launch_elementwise wants it.
template <Op op, class T>
struct Activation : Lanewise<Activation<op, T>, T, is_gated(op) ? 2 : 1, 1> {
  static constexpr bool kIsGated = is_gated(op);
  static constexpr int kInputs = kIsGated ? 2 : 1;
  static constexpr Op kAct = activation_of(op);
  static constexpr bool kHasBound = has_bound(kAct);
  // Which input is activated; the other one multiplies.
  static constexpr int kActivated = op == Op::kMulAndSilu ? 1 : 0;

  float threshold;

  __device__ __forceinline__ void element(const T (&in)[kInputs], T (&out)[1]) const {
    if constexpr (sizeof(T) == 4) {
      const float act = activate<kAct>(in[kActivated], threshold);
      out[0] = kIsGated ? act * in[kInputs - 1 - kActivated] : act;
    } else {
      Pair<T> pairs[kInputs];
      for (int i = 0; i < kInputs; ++i) pairs[i] = {in[i], in[i]};
      const float x = fabsf(widen(in[kActivated]));
      const bool has_short_form = !kHasBound || x <= kOrdinary;
      out[0] =
          (has_short_form ? product(activate_pair<kAct, T>(pairs[kActivated], threshold), pairs)
                          : product(full_form(pairs[kActivated]), pairs))
              .x;
    }
  }

  __device__ __forceinline__ bool is_ordinary(const Vec128<T> (&in)[kInputs]) const {
    if constexpr (sizeof(T) == 2 && kHasBound) {
      return all_within(in[kActivated], pair_of_bits<T>(Bits<T>::kOrdinary));
    } else {
      return true;
    }
  }

  __device__ __forceinline__ void vector(const Vec128<T> (&in)[kInputs],
                                         Vec128<T> (&out)[1]) const {
    if constexpr (sizeof(T) == 4) {
      Lanewise<Activation<op, T>, T, kInputs, 1>::vector(in, out);
    } else {
#pragma unroll
      for (int p = 0; p < Vec128<T>::kLanes / 2; ++p) {
        Pair<T> pairs[kInputs];
        for (int i = 0; i < kInputs; ++i) pairs[i] = pair_at(in[i], p);
        set_pair(out[0], p, product(activate_pair<kAct, T>(pairs[kActivated], threshold), pairs));
      }
    }
  }

 private:
  template <class P>
  __device__ static __forceinline__ P full_form(P x) {
    return map_pair<T>(x, [](float v) { return activate<kAct>(v, 0.0f); });
  }

  template <class P>
  __device__ static __forceinline__ P product(P activated, const P (&pairs)[kInputs]) {
    if constexpr (kIsGated) return __hmul2_rn(activated, pairs[1 - kActivated]);
    return activated;
  }
};

template <Op op, class T>
cudaError_t launch_op(const Params& params, cudaStream_t stream) {
  constexpr int kInputs = is_gated(op) ? 2 : 1;
  ElementwiseRows<T, kInputs, 1> tensors{};
  for (int i = 0; i < kInputs; ++i) {
    tensors.in[i] = static_cast<const T*>(params.input) + i * params.cols;
    tensors.in_stride[i] = params.input_stride;
  }
  tensors.out[0] = static_cast<T*>(params.out);
  tensors.out_stride[0] = params.out_stride;
  tensors.rows = params.rows;
  tensors.cols = params.cols;
  Activation<op, T> function{};
  function.threshold = static_cast<float>(params.threshold);
  return primitives::launch_elementwise<kGroupsInFlight>(tensors, function, stream);
}

template <class T>
cudaError_t launch_dtype(const Params& params, cudaStream_t stream) {
  return with_op(params.op,
                 [&](auto op) { return launch_op<decltype(op)::value, T>(params, stream); });
}

}  // namespace

cudaError_t launch(const Params& params, cudaStream_t stream) {
  return primitives::with_device_type(
      params.dtype, [&](auto type) { return launch_dtype<decltype(type)>(params, stream); });
}

}  // namespace kernelhub::activation::cuda
