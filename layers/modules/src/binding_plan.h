// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "op_call.h"

#include "kernelhub/layers/bound_forward.h"
#include "kernelhub/layers/layer_binding.h"
#include "kernelhub/layers/mode.h"
#include "kernelhub/loader/package.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::layers {

enum class GuardFailure { kRunReference, kThrow };

/// A binding checked against the ops it names: one step per argument of an op, so that a call does
/// no lookup by name.
class BindingPlan final : public BoundForward, public std::enable_shared_from_this<BindingPlan> {
 public:
  /// Resolves the ops in the package's namespace and checks count, types and mutability of the
  /// arguments, the forward parameters that are named, and the result. `source` names the package.
  /// Throws LayerError kInvalidBinding, LoadError kOpNotFound.
  static std::shared_ptr<const BindingPlan> make(const Package& package,
                                                 const LayerBinding& binding, std::string source,
                                                 GuardFailure on_guard);

  const std::string& source() const noexcept override { return source_; }
  ModuleInputs inputs_of(const Swappable& layer) const override;
  at::Tensor run(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) const override;
  BoundResults run_several(const ModuleInputs& inputs,
                           c10::ArrayRef<c10::IValue> arguments) const override;
  at::Tensor run_unary(const ModuleInputs& inputs, const at::Tensor& x) const override;

  LayerAbilities abilities() const noexcept { return abilities_; }
  /// Throws LayerError kLayerSignatureMismatch unless a module with `signature` may be served.
  void require_signature(const Signature& signature) const;

 private:
  class Builder;
  class GradientNode;
  using OutIn = void(at::Tensor&, const at::Tensor&);
  using OutInParameters = void(at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                               const std::optional<at::Tensor>&, double);

  BindingPlan(Package package, std::string layer, std::string source, c10::OperatorHandle op,
              GuardFailure on_guard);
  /// Null when the kernel may serve the call, else why not.
  const char* refusal(c10::ArrayRef<c10::IValue> arguments) const;
  const char* tensor_refusal(const at::Tensor& tensor) const;
  at::Tensor refuse(const char* reason) const;
  c10::IValue argument(const Step& step, const ModuleInputs& inputs,
                       c10::ArrayRef<c10::IValue> arguments) const;
  /// Runs one forward call; `given` takes every tensor that the op gave.
  BoundResults call(const ForwardCall& forward, const ModuleInputs& inputs,
                    c10::ArrayRef<c10::IValue> arguments, CallResults& given) const;
  /// A call for which gradients are asked and whose op records none: runs with the binding's
  /// backward, or refuses.
  BoundResults run_recorded(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) const;
  bool gives_gradients(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) const;

  Package package_;
  std::string layer_;
  std::string source_;
  GuardFailure on_guard_;
  LayerAbilities abilities_;
  Signature forward_;
  ModuleReads reads_;
  ForwardCall call_;
  std::optional<ForwardCall> training_call_;  // in place of call_ where gradients are asked for
  std::optional<BackwardCall> backward_;
  bool op_records_gradients_ = false;
  std::uint64_t dtypes_ = ~std::uint64_t{0};  // bit per c10::ScalarType
  std::int64_t max_dims_ = std::numeric_limits<std::int64_t>::max();
  std::int64_t last_dim_multiple_ = 1;
  bool needs_contiguous_ = false;
  // The two commonest shapes of an op, called without a stack (boxed: +30 to 80 ns); unset
  // otherwise.
  std::optional<c10::TypedOperatorHandle<OutIn>> out_in_;
  std::optional<c10::TypedOperatorHandle<OutInParameters>> out_in_parameters_;
};

}  // namespace kernelhub::layers
