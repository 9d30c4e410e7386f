// SPDX-License-Identifier: Apache-2.0
// Gradients of one row: that of the weight is a sum over rows elsewhere, here that row's share
// itself. No partial sums in memory, which would take longer than all the rest of a small call. The
// bits are those of differentiate_chunk and add_up.
#pragma once

#include "rmsnorm_cpu/rmsnorm_simd.h"

HWY_BEFORE_NAMESPACE();
namespace kernelhub::rmsnorm::HWY_NAMESPACE {

// No symbol of this file may reach the linker: it would be one that only a wide CPU can run.
namespace {

/// With grad_weight, and grad_x where it is asked for.
template <class X, class Weight, class GradOut>
inline void differentiate_only_row(const BackwardParams& params) {
  const auto* x = static_cast<const typename X::Storage*>(params.x);
  const auto* grad = static_cast<const typename GradOut::Storage*>(params.grad_out);
  const auto* weight = static_cast<const typename Weight::Storage*>(params.weight);
  auto* grad_x = static_cast<typename X::Storage*>(params.grad_x);
  auto* grad_weight = static_cast<typename Weight::Storage*>(params.grad_weight);
  using Order = OrderOf<X, Weight, GradOut>;
  const V offset = lanes_of_offset(params.offset);
  const V scale = hn::Set(F32(), params.rstd[0]);
  V mean = hn::Zero(F32());
  if (grad_x != nullptr) {
    const auto add = [&](auto part, V(&products)[1]) {
      const V g =
          hn::Mul(part.template load<GradOut>(grad), factor_of<Weight>(part, weight, offset));
      const V n = hn::Mul(part.template load<X>(x), scale);
      products[0] = hn::MulAdd(g, n, products[0]);
    };
    const double total = simd::folded_sums<1, Order>(params.cols, add).of[0];
    mean = hn::Set(F32(), static_cast<float>(total / static_cast<double>(params.cols)));
  }
  const V nan = hn::Set(F32(), std::numeric_limits<float>::quiet_NaN());
  const V zero = hn::Zero(F32());
  simd::RowWriter<X, Order> writer(grad_x, false);
  simd::RowWriter<Weight, Order> weight_writer(grad_weight, false);
  simd::for_each_part<X, Order>(params.cols, [&](auto part) {
    const V go = part.template load<GradOut>(grad);
    const V n = hn::Mul(part.template load<X>(x), scale);
    // As the sum over rows that it is alone in: +0 where it is a zero, also one that underflowed
    // below it, and the default NaN.
    const V sum = hn::Add(hn::MulAdd(go, n, zero), zero);
    weight_writer.put(part, hn::IfThenElse(hn::IsNaN(sum), nan, sum));
    if (grad_x == nullptr) return;
    const V g = hn::Mul(go, factor_of<Weight>(part, weight, offset));
    const V value = hn::Mul(scale, hn::NegMulAdd(n, mean, g));
    writer.put(part, simd::storable<X, Weight, GradOut>(value));
  });
}

inline void differentiate_one(const BackwardParams& params) {
  with_format(params.dtype, [&](auto x) {
    with_format(params.weight_dtype, [&](auto weight) {
      with_result_format<decltype(x)>(params.dtype, params.grad_dtype, [&](auto grad) {
        differentiate_only_row<decltype(x), decltype(weight), decltype(grad)>(params);
      });
    });
  });
}

}  // namespace
}  // namespace kernelhub::rmsnorm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
