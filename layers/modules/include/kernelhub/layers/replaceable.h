// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/layers/bound_forward.h"

#include <ATen/core/op_registration/infer_schema.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

/// Marks a torch::nn module whose forward a kernel from a package may replace.
///
///   struct RMSNormImpl : torch::nn::Cloneable<RMSNormImpl>,
///                        kernelhub::Replaceable<RMSNormImpl, at::Tensor(at::Tensor)> {
///     KERNELHUB_KERNEL_LAYER("RMSNorm")
///     explicit RMSNormImpl(int64_t size) : size_(size) { reset(); }
///     void reset() override {
///       weight = register_parameter("weight", at::ones({size_}));
///       KERNELHUB_ATTR("variance_epsilon", eps_);
///     }
///     at::Tensor reference_forward(at::Tensor x);
///     ...
///   };
///
/// A forward returns a tensor or a std::tuple of tensors; it takes tensors, std::optional of them,
/// and double, std::int64_t, bool.
namespace kernelhub {

/// What kernelize sees of a module. Not to be called while another thread runs the same module.
class KERNELHUB_API Swappable {
 public:
  virtual ~Swappable();
  /// Name looked up in the kernel mappings.
  virtual std::string_view kernel_layer_name() const = 0;
  /// False keeps this instance on its own forward.
  virtual bool kernel_condition() const { return true; }
  /// Types of forward; argument names are not compared.
  virtual const Signature& signature() const = 0;
  /// Fills the slot; `inputs` come from `bound->inputs_of(*this)`.
  virtual void bind(std::shared_ptr<const BoundForward> bound, ModuleInputs inputs) = 0;
  virtual void unbind() noexcept = 0;
  /// Null while the module runs its own forward.
  virtual const BoundForward* bound() const noexcept = 0;

  /// Scalars a kernel may read from this module.
  const std::vector<KernelAttr>& kernel_attrs() const noexcept { return attrs_; }

 protected:
  /// Adds, or replaces by name: reset() runs again in a clone.
  void set_kernel_attr(KernelAttr attr);

 private:
  std::vector<KernelAttr> attrs_;
};

namespace detail {

template <class T>
constexpr KernelAttr::Type kernel_attr_type() {
  static_assert(
      std::is_same_v<T, double> || std::is_same_v<T, std::int64_t> || std::is_same_v<T, bool>,
      "a kernel attribute is a double, int64_t or bool member");
  if constexpr (std::is_same_v<T, double>) return KernelAttr::Type::kFloat;
  if constexpr (std::is_same_v<T, std::int64_t>) return KernelAttr::Type::kInt;
  return KernelAttr::Type::kBool;
}

/// The results of a forward as C++ returns them: one tensor, or a tuple of two or more.
template <class R>
struct ForwardResult {
  static constexpr bool kIsKnown = std::is_same_v<R, at::Tensor>;
  static constexpr std::size_t kCount = 1;
};

template <class... T>
struct ForwardResult<std::tuple<T...>> {
  static constexpr bool kIsKnown = sizeof...(T) >= 2 && (std::is_same_v<T, at::Tensor> && ...);
  static constexpr std::size_t kCount = sizeof...(T);

  static std::tuple<T...> of(BoundResults& results) {
    return of(results, std::index_sequence_for<T...>());
  }
  template <std::size_t... kIndex>
  static std::tuple<T...> of(BoundResults& results, std::index_sequence<kIndex...>) {
    return {std::move(results[kIndex])...};
  }
};

/// What the kernel in `slot` gives for these arguments; nothing where it may not serve the call.
template <class R, class... A>
std::optional<R> run_bound(KernelSlot& slot, const Swappable& owner, const A&... args) {
  const ModuleInputs& inputs = slot.inputs(owner);
  const std::array<c10::IValue, sizeof...(A)> boxed{c10::IValue(args)...};
  if constexpr (ForwardResult<R>::kCount == 1) {
    at::Tensor result = slot.bound()->run(inputs, boxed);
    if (result.defined()) return result;
  } else {
    BoundResults results = slot.bound()->run_several(inputs, boxed);
    if (!results.empty()) return ForwardResult<R>::of(results);
  }
  return {};
}

template <class R, class... A>
const Signature& forward_signature() {
  static const Signature schema =
      c10::inferFunctionSchemaFlattenedReturns<R(A...)>().cloneWithName("forward", "");
  return schema;
}

}  // namespace detail

template <class Self, class Sig>
class Replaceable;

/// Gives `Self` a forward that runs the bound kernel, or `Self::reference_forward` while the slot
/// is empty or the kernel may not serve the call. Cost of an empty slot: one test of a pointer.
template <class Self, class R, class... A>
class Replaceable<Self, R(A...)> : public Swappable {
  static_assert(detail::ForwardResult<R>::kIsKnown,
                "the forward of a kernel layer returns a tensor or a tuple of tensors");

 public:
  R forward(A... args);

  const Signature& signature() const override { return detail::forward_signature<R, A...>(); }
  void bind(std::shared_ptr<const BoundForward> bound, ModuleInputs inputs) override {
    slot_.bind(std::move(bound), std::move(inputs));
  }
  void unbind() noexcept override { slot_.unbind(); }
  const BoundForward* bound() const noexcept override { return slot_.bound(); }

 protected:
  /// `member` of Self under the name that bindings use; see KERNELHUB_ATTR.
  template <class T>
  void kernel_attr(std::string name, T Self::*member);

 private:
  static constexpr bool kIsUnary = sizeof...(A) == 1 &&
                                   (std::is_same_v<std::decay_t<A>, at::Tensor> && ...) &&
                                   std::is_same_v<R, at::Tensor>;
  Self& self() noexcept { return static_cast<Self&>(*this); }

  KernelSlot slot_;
};

template <class Self, class R, class... A>
R Replaceable<Self, R(A...)>::forward(A... args) {
  if (slot_) {
    if constexpr (kIsUnary) {
      at::Tensor result = slot_.bound()->run_unary(slot_.inputs(*this), args...);
      if (result.defined()) return result;
    } else if (std::optional<R> result = detail::run_bound<R>(slot_, *this, args...)) {
      return *std::move(result);
    }
  }
  return self().reference_forward(std::forward<A>(args)...);
}

template <class Self, class R, class... A>
template <class T>
void Replaceable<Self, R(A...)>::kernel_attr(std::string name, T Self::*member) {
  set_kernel_attr({std::move(name), detail::kernel_attr_type<T>(),
                   [member](const Swappable& layer) -> const void* {
                     return &(static_cast<const Self&>(static_cast<const Replaceable&>(layer)).*
                              member);
                   }});
}

}  // namespace kernelhub

/// In the body of a module: the name that kernel mappings use, as
/// `use_kernel_forward_from_hub(name)` does in Python.
#define KERNELHUB_KERNEL_LAYER(name) \
  std::string_view kernel_layer_name() const override { return name; }

/// In reset(): offers a scalar member to kernels under the name that bindings use.
#define KERNELHUB_ATTR(name, member) \
  this->kernel_attr(name, &std::remove_reference_t<decltype(*this)>::member)
