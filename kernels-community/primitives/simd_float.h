// SPDX-License-Identifier: Apache-2.0
// fp32 lanes over fp32, fp16 and bf16 memory, for translation units that are compiled once per
// instruction set. Everything lies in Highway's per-target namespace: two such units share no
// symbol, so no wide instruction can leak into a path that an older CPU runs.
#pragma once

#ifndef HWY_COMPILE_ONLY_STATIC
#error "define HWY_COMPILE_ONLY_STATIC: dynamic dispatch would need libhwy at run time"
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace kernelhub::primitives::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::Rebind<std::uint32_t, F32>;
using I32 = hn::Rebind<std::int32_t, F32>;
using U16 = hn::Rebind<std::uint16_t, F32>;
using V = hn::Vec<F32>;

/// The elements of one vector of memory as fp32 lanes. Which element a lane holds is the format's
/// own choice, so batches of different formats do not match.
template <class Format>
struct Batch {
  V of[Format::kVectors];
};

/// Elements of a batch.
template <class Format>
constexpr std::int64_t kBatch = Format::kVectors* static_cast<std::int64_t>(hn::MaxLanes(F32()));

/// Storage formats. `load` widens exactly; `store` rounds to nearest even and keeps NaN; `round` is
/// the value that a store followed by a load would give. `load_batch` and `store_batch` do the same
/// with kBatch elements and fewer instructions; `stream_batch` stores past the caches, to an
/// address aligned as a vector, where there are vectors. `store_fp32` stores a batch of several
/// vectors as fp32, its elements in order; `load_fp32` is the batch of such elements. 16-bit
/// formats have `unpacked`, the batch that a vector of memory is, and `packed`, its inverse.
struct Float32 {
  using Storage = float;
  static constexpr int kVectors = 1;
  static HWY_INLINE V load(const float* HWY_RESTRICT from) { return hn::LoadU(F32(), from); }
  static HWY_INLINE void store(V value, float* HWY_RESTRICT to) { hn::StoreU(value, F32(), to); }
  /// A store past the caches, to an address aligned as the vector.
  static HWY_INLINE void stream(V value, float* HWY_RESTRICT to) { hn::Stream(value, F32(), to); }
  static HWY_INLINE V round(V value) { return value; }
  static HWY_INLINE Batch<Float32> load_batch(const float* HWY_RESTRICT from) {
    return {{load(from)}};
  }
  static HWY_INLINE Batch<Float32> load_fp32(const float* HWY_RESTRICT from) {
    return load_batch(from);
  }
  static HWY_INLINE void store_batch(const Batch<Float32>& batch, float* HWY_RESTRICT to) {
    store(batch.of[0], to);
  }
  static HWY_INLINE void stream_batch(const Batch<Float32>& batch, float* HWY_RESTRICT to) {
    stream(batch.of[0], to);
  }
};

/// Batches of a format that has nothing better: one vector each.
template <class Format>
struct SingleVectors {
  static constexpr int kVectors = 1;
  static HWY_INLINE Batch<Format> load_fp32(const float* HWY_RESTRICT from) {
    return {{hn::LoadU(F32(), from)}};
  }
  template <class T>
  static HWY_INLINE Batch<Format> load_batch(const T* HWY_RESTRICT from) {
    return {{Format::load(from)}};
  }
  template <class T>
  static HWY_INLINE void store_batch(const Batch<Format>& batch, T* HWY_RESTRICT to) {
    Format::store(batch.of[0], to);
  }
  template <class T>
  static HWY_INLINE void stream_batch(const Batch<Format>& batch, T* HWY_RESTRICT to) {
    Format::store(batch.of[0], to);
  }
};

#if HWY_TARGET != HWY_SCALAR
using Packed16 = hn::Repartition<std::uint16_t, F32>;  // as many bits as fp32 lanes
#endif

// The last 16 bits of a NaN lane must be zero, or rounding could carry into its sign. So it is for
// every lane computed from bf16 memory: a NaN comes from there or is the default one.
struct BFloat16
#if HWY_TARGET == HWY_SCALAR
    : SingleVectors<BFloat16>
#endif
{
  using Storage = std::uint16_t;
  static HWY_INLINE hn::Vec<U32> nearest_even(V value) {
    const U32 du;
    const auto bits = hn::BitCast(du, value);
#if HWY_TARGET == HWY_AVX3
    const auto is_odd = hn::TestBit(bits, hn::Set(du, 0x10000));
    return hn::Add(bits, hn::IfThenElse(is_odd, hn::Set(du, 0x8000), hn::Set(du, 0x7fff)));
#else
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    return hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
#endif
  }
  static HWY_INLINE V load(const std::uint16_t* HWY_RESTRICT from) {
    const auto bits = hn::PromoteTo(U32(), hn::LoadU(U16(), from));
    return hn::BitCast(F32(), hn::ShiftLeft<16>(bits));
  }
  static HWY_INLINE void store(V value, std::uint16_t* HWY_RESTRICT to) {
    hn::StoreU(hn::TruncateTo(U16(), hn::ShiftRight<16>(nearest_even(value))), U16(), to);
  }
  static HWY_INLINE V round(V value) {
    return hn::BitCast(F32(), hn::And(nearest_even(value), hn::Set(U32(), 0xffff0000u)));
  }

#if HWY_TARGET != HWY_SCALAR
  // Elements with even numbers, then those with odd ones: no lane changes its place.
  static constexpr int kVectors = 2;
  static HWY_INLINE Batch<BFloat16> unpacked(hn::Vec<Packed16> packed) {
    const auto pairs = hn::BitCast(U32(), packed);
    return {{hn::BitCast(F32(), hn::ShiftLeft<16>(pairs)),
             hn::BitCast(F32(), hn::And(pairs, hn::Set(U32(), 0xffff0000u)))}};
  }
  static HWY_INLINE Batch<BFloat16> load_batch(const std::uint16_t* HWY_RESTRICT from) {
    return unpacked(hn::LoadU(Packed16(), from));
  }
  static HWY_INLINE hn::Vec<Packed16> packed(const Batch<BFloat16>& batch) {
    const auto even = hn::ShiftRight<16>(nearest_even(batch.of[0]));
    return hn::OddEven(hn::BitCast(Packed16(), nearest_even(batch.of[1])),
                       hn::BitCast(Packed16(), even));
  }
  static HWY_INLINE void store_batch(const Batch<BFloat16>& batch, std::uint16_t* HWY_RESTRICT to) {
    hn::StoreU(packed(batch), Packed16(), to);
  }
  static HWY_INLINE void stream_batch(const Batch<BFloat16>& batch,
                                      std::uint16_t* HWY_RESTRICT to) {
    hn::Stream(packed(batch), Packed16(), to);
  }
  static HWY_INLINE void store_fp32(const Batch<BFloat16>& batch, float* HWY_RESTRICT to) {
    hn::StoreInterleaved2(batch.of[0], batch.of[1], F32(), to);
  }
  static HWY_INLINE Batch<BFloat16> load_fp32(const float* HWY_RESTRICT from) {
    Batch<BFloat16> batch;
    hn::LoadInterleaved2(F32(), from, batch.of[0], batch.of[1]);
    return batch;
  }
#endif
};

struct Float16
#if HWY_TARGET == HWY_SCALAR
    : SingleVectors<Float16>
#endif
{
  using Storage = std::uint16_t;

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  using H = hn::Rebind<hwy::float16_t, F32>;
  static HWY_INLINE V widen(hn::Vec<U16> half) {
    return hn::PromoteTo(F32(), hn::BitCast(H(), half));
  }
  static HWY_INLINE hn::Vec<U16> narrow(V value) {
    return hn::BitCast(U16(), hn::DemoteTo(H(), value));
  }
  static HWY_INLINE V load(const std::uint16_t* HWY_RESTRICT from) {
    return widen(hn::LoadU(U16(), from));
  }
  static HWY_INLINE void store(V value, std::uint16_t* HWY_RESTRICT to) {
    hn::StoreU(narrow(value), U16(), to);
  }
  static HWY_INLINE V round(V value) { return hn::PromoteTo(F32(), hn::DemoteTo(H(), value)); }

  // The lower half, then the upper one.
  static constexpr int kVectors = 2;
  static HWY_INLINE Batch<Float16> unpacked(hn::Vec<Packed16> packed) {
    return {{widen(hn::LowerHalf(U16(), packed)), widen(hn::UpperHalf(U16(), packed))}};
  }
  static HWY_INLINE Batch<Float16> load_batch(const std::uint16_t* HWY_RESTRICT from) {
    return {{load(from), load(from + hn::MaxLanes(F32()))}};
  }
  static HWY_INLINE hn::Vec<Packed16> packed(const Batch<Float16>& batch) {
    return hn::Combine(Packed16(), narrow(batch.of[1]), narrow(batch.of[0]));
  }
  // Two stores take less time than one of both vectors put together.
  static HWY_INLINE void store_batch(const Batch<Float16>& batch, std::uint16_t* HWY_RESTRICT to) {
    store(batch.of[0], to);
    store(batch.of[1], to + hn::MaxLanes(F32()));
  }
  static HWY_INLINE void stream_batch(const Batch<Float16>& batch, std::uint16_t* HWY_RESTRICT to) {
    hn::Stream(narrow(batch.of[0]), U16(), to);
    hn::Stream(narrow(batch.of[1]), U16(), to + hn::MaxLanes(F32()));
  }
  static HWY_INLINE void store_fp32(const Batch<Float16>& batch, float* HWY_RESTRICT to) {
    hn::StoreU(batch.of[0], F32(), to);
    hn::StoreU(batch.of[1], F32(), to + hn::MaxLanes(F32()));
  }
  static HWY_INLINE Batch<Float16> load_fp32(const float* HWY_RESTRICT from) {
    return {{hn::LoadU(F32(), from), hn::LoadU(F32(), from + hn::MaxLanes(F32()))}};
  }
#else
  // binary16 placed at the fraction of a binary32 and scaled by 2^112: exact also for subnormals.
  static HWY_INLINE V widen(hn::Vec<U32> half) {
    const U32 du;
    const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000)));
    const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7fff)));
    const auto scaled =
        hn::Mul(hn::BitCast(F32(), magnitude), hn::BitCast(F32(), hn::Set(du, 0x77800000)));
    const auto is_special = hn::Gt(hn::BitCast(I32(), magnitude), hn::Set(I32(), 0x0f7fffff));
    const auto special = hn::Or(magnitude, hn::Set(du, 0x7f800000));
    const auto bits =
        hn::IfThenElse(hn::RebindMask(du, is_special), special, hn::BitCast(du, scaled));
    return hn::BitCast(F32(), hn::Or(bits, sign));
  }
  // Normal results round in integer arithmetic; subnormal ones by adding 0.5, whose last place is
  // 2^-24, the spacing of binary16 subnormals.
  static HWY_INLINE hn::Vec<U32> narrow(V value) {
    const U32 du;
    const I32 di;
    const auto bits = hn::BitCast(du, value);
    const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000));
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffff));
    const auto order = hn::BitCast(di, magnitude);
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1));
    const auto normal =
        hn::ShiftRight<13>(hn::Add(magnitude, hn::Add(odd, hn::Set(du, 0xc8000fffu))));
    const auto half = hn::Set(F32(), 0.5f);
    const auto subnormal = hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(F32(), magnitude), half)),
                                   hn::BitCast(du, half));
    auto result = hn::IfThenElse(hn::RebindMask(du, hn::Lt(order, hn::Set(di, 0x38800000))),
                                 subnormal, normal);
    result = hn::IfThenElse(hn::RebindMask(du, hn::Gt(order, hn::Set(di, 0x477fefff))),
                            hn::Set(du, 0x7c00), result);
    result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), hn::Set(du, 0x7e00), result);
    return hn::Or(result, sign);
  }
  static HWY_INLINE V load(const std::uint16_t* HWY_RESTRICT from) {
    return widen(hn::PromoteTo(U32(), hn::LoadU(U16(), from)));
  }
  static HWY_INLINE void store(V value, std::uint16_t* HWY_RESTRICT to) {
    hn::StoreU(hn::TruncateTo(U16(), narrow(value)), U16(), to);
  }
  static HWY_INLINE V round(V value) { return widen(narrow(value)); }
#endif
};

/// The first `count` <= Lanes(F32()) elements; the other lanes are zero.
template <class Format>
HWY_INLINE V load_first(const typename Format::Storage* HWY_RESTRICT from, std::size_t count) {
  if (count == hn::Lanes(F32())) return Format::load(from);
  HWY_ALIGN typename Format::Storage lanes[hn::MaxLanes(F32())] = {};
  for (std::size_t i = 0; i < count; ++i) lanes[i] = from[i];
  return Format::load(lanes);
}

template <class Format>
HWY_INLINE void store_first(V value, typename Format::Storage* HWY_RESTRICT to, std::size_t count) {
  if (count == hn::Lanes(F32())) return Format::store(value, to);
  HWY_ALIGN typename Format::Storage lanes[hn::MaxLanes(F32())];
  Format::store(value, lanes);
  for (std::size_t i = 0; i < count; ++i) to[i] = lanes[i];
}

}  // namespace kernelhub::primitives::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
