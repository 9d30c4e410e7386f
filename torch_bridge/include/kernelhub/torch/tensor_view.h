// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/abi/package.h"
#include "kernelhub/core/export.h"
#include "kernelhub/loader/function.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <type_traits>

/// Calls of tvm-ffi functions with at::Tensor, without copies.
///
///   kernelhub::call(kernel.function("gelu_fast"), out, x);
namespace kernelhub {

/// The DLTensor of an at::Tensor, for the duration of a call: data, sizes and strides stay the
/// tensor's, which must outlive the view and not be resized meanwhile.
class KERNELHUB_API TensorView {
 public:
  /// `argument`: index for messages. Throws LoadError kBadTensor for an undefined, sparse, nested,
  /// meta, symbolic-shape, conjugated or negated tensor, one without memory, or a dtype that
  /// DLPack has no code for.
  explicit TensorView(const at::Tensor& tensor, std::size_t argument = 0);
  DLTensor* get() noexcept { return &tensor_; }
  operator Value() noexcept { return Value(&tensor_); }

 private:
  DLTensor tensor_;
};

namespace detail {

template <class T>
decltype(auto) as_argument(const T& value, [[maybe_unused]] std::size_t index) {
  if constexpr (std::is_same_v<T, at::Tensor>) {
    return TensorView(value, index);
  } else {
    return (value);
  }
}

template <class... Views>
CallResult call_views(const Function& function, Views&&... views) {
  const std::array<Value, sizeof...(Views)> values{Value(views)...};
  return function.call(values.data(), values.size());
}

template <std::size_t... kIndex, class... Args>
CallResult call_indexed(const Function& function, std::index_sequence<kIndex...>,
                        const Args&... args) {
  return call_views(function, as_argument(args, kIndex)...);
}

}  // namespace detail

/// Calls `function` with at::Tensor arguments as views and anything that a Value takes. Throws
/// kBadTensor with the argument's index, and what Function::operator() throws.
template <class... Args>
CallResult call(const Function& function, const Args&... args) {
  return detail::call_indexed(function, std::index_sequence_for<Args...>{}, args...);
}

}  // namespace kernelhub
