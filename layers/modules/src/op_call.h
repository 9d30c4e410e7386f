// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/bound_forward.h"
#include "kernelhub/layers/layer_binding.h"

#include <ATen/core/TensorBase.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/ScalarType.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/SmallVector.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::layers {

/// How one argument of an op is made. `index` is into the forward arguments (kForward), the
/// module's tensors or scalars (kTensor, kScalar), the gradients of the forward's results (kGrad),
/// what a node saved (kSaved) or the gradients it gives (kNeeds).
enum class StepKind : std::uint8_t {
  kForward,
  kTensor,
  kScalar,
  kConstant,
  kDim,
  kOutput,
  kGrad,
  kSaved,
  kNeeds
};

struct Step {
  StepKind kind = StepKind::kConstant;
  bool of_module = false;  // kDim, kOutput: `index` is into the module's tensors
  std::uint32_t index = 0;
  TensorLayout layout;
  std::int64_t dim = 0;
  bool same_shape = true;
  std::int64_t last_dim_divisor = 1;
  std::int64_t last_dim_factor = 1;
  std::optional<c10::ScalarType> dtype;
  // kOutput: nothing unless one of these gradients is asked for; empty: always allocated.
  std::vector<std::uint32_t> only_for;
  c10::IValue constant;
};

/// Which tensor of a call: the index-th `out` argument, or the index-th it returned.
struct ResultRef {
  bool is_out = false;
  std::uint32_t index = 0;
};

/// What the calls of one binding read from a module, each once; ModuleInputs has the same order.
struct ModuleReads {
  struct Scalar {
    ModuleScalar source;
    KernelAttr::Type type;
  };
  std::vector<ModuleTensor> tensors;
  std::vector<Scalar> scalars;
};

/// One op with a step for each of its arguments.
struct OpCall {
  explicit OpCall(c10::OperatorHandle handle) : op(std::move(handle)) {}

  c10::OperatorHandle op;
  std::vector<Step> steps;
  bool returns_list = false;  // its one result is a Tensor[]
};

/// A call that runs a forward.
struct ForwardCall : OpCall {
  using OpCall::OpCall;
  std::vector<ResultRef> results;
  std::optional<std::uint32_t> reshape_like;  // forward argument
};

/// A call that gives the gradients of a forward.
struct BackwardCall : OpCall {
  using OpCall::OpCall;
  struct Grad {
    bool of_module = false;
    std::uint32_t index = 0;  // forward argument, or tensor of the module
    ResultRef result;
  };
  std::vector<Grad> grads;
  std::vector<ResultRef> saved;  // of the forward's call; index of a kSaved step
};

/// Makes the calls of one binding; every check of a binding against an op is here.
class OpCallBuilder {
 public:
  OpCallBuilder(const Signature& forward, std::string_view source, std::string_view layer,
                ModuleReads& reads)
      : forward_(forward), source_(source), layer_(layer), reads_(reads) {}

  /// `path`: of the call in the binding. All throw LayerError kInvalidBinding.
  ForwardCall forward_call(const c10::OperatorHandle& op, const BindingCall& call,
                           const std::string& path) const;
  BackwardCall backward_call(const c10::OperatorHandle& op, const BackwardBinding& backward,
                             const ForwardCall& forward) const;
  c10::ScalarType dtype(const std::string& name, const std::string& path) const;
  [[noreturn]] void fail(std::string_view path, std::string_view expected,
                         std::string_view found) const;

 private:
  struct Scope;

  void add_steps(OpCall& made, const std::vector<BindingArgument>& args, const Scope& scope) const;
  std::uint32_t parameter(const std::string& name, const std::string& path,
                          bool any_type = false) const;
  std::uint32_t read_tensor(const ModuleTensor& tensor) const;
  void point_at(Step& step, const std::string& name, const std::string& path,
                const Scope& scope) const;
  std::optional<std::uint32_t> parameter_of_module(const std::string& name) const;
  void require_type(const c10::Argument& argument, c10::TypeKind kind, const std::string& path,
                    std::string_view what) const;
  c10::IValue constant(const BindingConstant& value, const c10::Argument& argument,
                       const std::string& path) const;
  ResultRef result(const OpCall& call, const BindingResult& wanted, const std::string& path) const;
  void skip_where_not_asked(BackwardCall& made) const;

  Step step(const ForwardArgument& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const ModuleTensor& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const ModuleScalar& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const ConstantArgument& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const DimArgument& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const OutputArgument& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const GradArgument& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const SavedArgument& term, const c10::Argument& argument, const Scope& scope) const;
  Step step(const NeedsArgument& term, const c10::Argument& argument, const Scope& scope) const;

  const Signature& forward_;
  std::string_view source_;
  std::string_view layer_;
  ModuleReads& reads_;
};

/// Whether the op itself makes its results part of autograd's graph.
bool records_gradients(const c10::OperatorHandle& op);
/// `T?` rather than `T`.
bool is_optional(const c10::Argument& argument);
/// Kind of a scalar argument; nothing for tensors, lists and strings.
std::optional<KernelAttr::Type> scalar_type(const c10::Argument& argument);

/// What an `out` step allocates for a tensor of these sizes and options.
/// `source` and `layer` are named where the last dim does not divide: LayerError kGuardNotMet.
at::Tensor make_output(const Step& step, c10::IntArrayRef sizes, const c10::TensorOptions& options,
                       std::string_view source, std::string_view layer);
/// A scalar of a module as the op wants it.
c10::IValue scalar_value(const ModuleInputs::Scalar& scalar, KernelAttr::Type wanted);
/// The tensor as the layout asks for it.
at::Tensor laid_out(at::Tensor tensor, const TensorLayout& layout);
inline bool is_plain(const TensorLayout& layout) {
  return !layout.contiguous && !layout.as_2d && !layout.unsqueeze;
}

/// Tensors that a finished call gave.
class CallResults {
 public:
  /// `source` and `layer` are named in errors and must outlive this.
  CallResults(std::string_view source, std::string_view layer) : source_(source), layer_(layer) {}
  void add_out(const at::Tensor& out) { outs_.push_back(out); }
  /// Calls the op on the stack of its arguments and keeps what it returned.
  void call(const OpCall& call, c10::Stack& stack);
  /// Throws LayerError kInvalidBinding where the op returned a shorter list than the binding says.
  at::Tensor get(const ResultRef& ref) const;

 private:
  std::string_view source_;
  std::string_view layer_;
  c10::SmallVector<at::Tensor, 2> outs_;
  std::vector<at::Tensor> returned_;
};

}  // namespace kernelhub::layers
