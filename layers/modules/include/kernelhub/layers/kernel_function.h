// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/layers/replaceable.h"

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// A function, no module, that a kernel from a package may replace. It belongs to the module that
/// calls it, which lists it; the module's state and its children's names stay as they are.
///
///   class AttentionImpl : public torch::nn::Module, public kernelhub::KernelFunctionOwner {
///     std::vector<kernelhub::Swappable*> kernel_functions() override { return {&rotary_}; }
///     kernelhub::KernelFunction<std::tuple<at::Tensor, at::Tensor>(
///         at::Tensor, at::Tensor, at::Tensor, at::Tensor, std::int64_t)>
///         rotary_{"rotary_pos_emb", apply_rotary_pos_emb};
///   };
namespace kernelhub {

/// A module with functions that kernelize may swap.
class KERNELHUB_API KernelFunctionOwner {
 public:
  virtual ~KernelFunctionOwner();
  /// Members of this module, in a fixed order; kernelize reports each under the module's path and
  /// the function's layer name, "model.layers.0.self_attn.rotary_pos_emb".
  virtual std::vector<Swappable*> kernel_functions() = 0;
};

template <class Sig>
class KernelFunction;

/// Calls the bound kernel, or `reference` while there is none or it may not serve the call. A copy
/// shares the kernel. Not to be called while kernelize runs.
template <class R, class... A>
class KernelFunction<R(A...)> final : public Swappable {
  static_assert(detail::ForwardResult<R>::kIsKnown,
                "a kernel function returns a tensor or a tuple of tensors");

 public:
  /// `layer_name`: in the kernel mappings.
  KernelFunction(std::string layer_name, std::function<R(A...)> reference)
      : layer_name_(std::move(layer_name)), reference_(std::move(reference)) {}

  R operator()(A... args);

  std::string_view kernel_layer_name() const override { return layer_name_; }
  const Signature& signature() const override { return detail::forward_signature<R, A...>(); }
  void bind(std::shared_ptr<const BoundForward> bound, ModuleInputs inputs) override {
    slot_.bind(std::move(bound), std::move(inputs));
  }
  void unbind() noexcept override { slot_.unbind(); }
  const BoundForward* bound() const noexcept override { return slot_.bound(); }

 private:
  std::string layer_name_;
  std::function<R(A...)> reference_;
  KernelSlot slot_;
};

template <class R, class... A>
R KernelFunction<R(A...)>::operator()(A... args) {
  if (slot_) {
    if (std::optional<R> result = detail::run_bound<R>(slot_, *this, args...)) {
      return *std::move(result);
    }
  }
  return reference_(std::forward<A>(args)...);
}

}  // namespace kernelhub
