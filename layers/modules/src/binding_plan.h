// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/bound_forward.h"
#include "kernelhub/layers/layer_binding.h"
#include "kernelhub/layers/mode.h"
#include "kernelhub/loader/package.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::layers {

enum class GuardFailure { kRunReference, kThrow };

/// A binding checked against the op it names: one step per argument of the op, so that a call does
/// no lookup by name.
class BindingPlan final : public BoundForward {
 public:
  /// Resolves the op in the package's namespace and checks count, types and mutability of the
  /// arguments, the forward parameters that are named, and the result. `source` names the package.
  /// Throws LayerError kInvalidBinding, LoadError kOpNotFound.
  static std::shared_ptr<const BindingPlan> make(const Package& package,
                                                 const LayerBinding& binding, std::string source,
                                                 GuardFailure on_guard);

  const std::string& source() const noexcept override { return source_; }
  ModuleInputs inputs_of(const Swappable& layer) const override;
  at::Tensor run(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) const override;

  at::Tensor run_unary(const ModuleInputs& inputs, const at::Tensor& x) const override;

  LayerAbilities abilities() const noexcept { return abilities_; }
  /// Throws LayerError kLayerSignatureMismatch unless a module with `signature` may be served.
  void require_signature(const Signature& signature) const;

 private:
  enum class StepKind : std::uint8_t { kForward, kTensor, kScalar, kConstant, kDim, kOutput };
  /// How one argument of the op is made; `index` is into the forward arguments (kForward, kDim,
  /// kOutput) or the module's tensors or scalars.
  struct Step {
    StepKind kind = StepKind::kConstant;
    std::uint32_t index = 0;
    bool contiguous = false;
    bool as_2d = false;
    std::optional<std::int64_t> unsqueeze;
    std::int64_t dim = 0;
    bool same_shape = true;
    std::int64_t last_dim_divisor = 1;
    std::int64_t last_dim_factor = 1;
    std::optional<c10::ScalarType> dtype;
    c10::IValue constant;
  };
  struct TensorInput {
    ModuleTensor source;
  };
  struct ScalarInput {
    ModuleScalar source;
    KernelAttr::Type type;
  };
  class Builder;
  using OutIn = void(at::Tensor&, const at::Tensor&);
  using OutInParameters = void(at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                               const std::optional<at::Tensor>&, double);

  BindingPlan(Package package, std::string layer, std::string source, c10::OperatorHandle op,
              GuardFailure on_guard);
  /// Null when the kernel may serve the call, else why not.
  const char* refusal(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) const;
  const char* tensor_refusal(const at::Tensor& tensor) const;
  const char* layout_refusal(const at::Tensor& tensor) const;
  const char* unary_refusal(const ModuleInputs& inputs, const at::Tensor& x) const;
  at::Tensor refuse(const char* reason) const;
  c10::IValue argument(const Step& step, const ModuleInputs& inputs,
                       c10::ArrayRef<c10::IValue> arguments) const;
  at::Tensor output(const Step& step, const at::Tensor& like) const;
  at::Tensor result(torch::jit::Stack& stack, const at::Tensor& out,
                    c10::ArrayRef<c10::IValue> arguments) const;

  Package package_;
  std::string layer_;
  std::string source_;
  c10::OperatorHandle op_;
  GuardFailure on_guard_;
  LayerAbilities abilities_;
  Signature forward_;
  std::vector<Step> steps_;
  std::vector<TensorInput> tensors_;
  std::vector<ScalarInput> scalars_;
  std::uint64_t dtypes_ = ~std::uint64_t{0};  // bit per c10::ScalarType
  BindingGuard guard_;
  bool has_layout_guard_ = false;
  std::optional<std::int64_t> result_index_;
  bool result_in_list_ = false;
  std::optional<std::uint32_t> reshape_like_;
  // The two commonest shapes of an op, called without a stack (boxed: +30 to 80 ns); unset
  // otherwise.
  std::optional<c10::TypedOperatorHandle<OutIn>> out_in_;
  std::optional<c10::TypedOperatorHandle<OutInParameters>> out_in_parameters_;
};

}  // namespace kernelhub::layers
