// SPDX-License-Identifier: Apache-2.0
#include "binding_plan.h"

#include "modules_errors.h"

#include "kernelhub/layers/replaceable.h"
#include "kernelhub/torch/op.h"

#include <ATen/core/jit_type.h>
#include <torch/csrc/jit/frontend/function_schema_parser.h>

#include <algorithm>
#include <utility>

namespace kernelhub::layers {

/// Fills one plan.
class BindingPlan::Builder {
 public:
  Builder(BindingPlan& plan, const LayerBinding& binding)
      : plan_(plan),
        binding_(binding),
        calls_(plan.forward_, plan.source_, plan.layer_, plan.reads_) {}

  void build() {
    read_forward();
    plan_.call_ = calls_.forward_call(plan_.call_.op, binding_.call, "call");
    if (binding_.backward) read_backward(*binding_.backward);
    read_guard();
    find_typed_path();
    const c10::OperatorHandle& op = plan_.call_.op;
    plan_.abilities_.can_torch_compile =
        binding_.can_torch_compile || op.hasKernelForDispatchKey(c10::DispatchKey::Meta);
    plan_.op_records_gradients_ = records_gradients(op);
    plan_.abilities_.has_backward = plan_.op_records_gradients_ || plan_.backward_.has_value();
  }

 private:
  void read_forward() {
    try {
      plan_.forward_ = torch::jit::parseSchema("forward" + binding_.forward, false);
    } catch (const std::exception&) {  // the parser throws several unrelated types
      calls_.fail("forward", "a signature such as (Tensor x) -> Tensor", binding_.forward);
    }
    const auto& returns = plan_.forward_.returns();
    const bool gives_tensors =
        std::all_of(returns.begin(), returns.end(), [](const c10::Argument& returned) {
          return returned.type()->kind() == c10::TypeKind::TensorType;
        });
    if (returns.empty() || !gives_tensors) {
      calls_.fail("forward", "one Tensor or several as result", binding_.forward);
    }
  }

  void read_backward(const BackwardBinding& backward) {
    if (backward.call) {
      const auto op = detail::find_operator(plan_.package_, backward.call->op);
      plan_.training_call_ = calls_.forward_call(op, *backward.call, "backward.call");
    }
    const ForwardCall& forward = plan_.training_call_ ? *plan_.training_call_ : plan_.call_;
    const auto op = detail::find_operator(plan_.package_, backward.op);
    plan_.backward_ = calls_.backward_call(op, backward, forward);
  }

  void read_guard() {
    plan_.needs_contiguous_ = binding_.when.contiguous;
    plan_.last_dim_multiple_ = binding_.when.last_dim_multiple.value_or(1);
    if (binding_.when.max_dims) plan_.max_dims_ = *binding_.when.max_dims;
    if (binding_.when.dtypes.empty()) return;
    plan_.dtypes_ = 0;
    for (const std::string& name : binding_.when.dtypes) {
      plan_.dtypes_ |= std::uint64_t{1} << static_cast<int>(calls_.dtype(name, "when.dtypes"));
    }
  }

  /// A forward `(Tensor) -> Tensor` over `op(Tensor! out, Tensor in)` or the same with two optional
  /// parameters of the module and a float.
  void find_typed_path() {
    const ForwardCall& call = plan_.call_;
    const std::vector<Step>& steps = call.steps;
    if (plan_.forward_.arguments().size() != 1 || call.results.size() != 1) return;
    if (!call.results[0].is_out || call.reshape_like) return;
    if (steps.size() < 2 || !call.op.schema().returns().empty()) return;
    const Step& out = steps[0];
    const Step& in = steps[1];
    if (out.kind != StepKind::kOutput || !out.same_shape || out.dtype) return;
    if (in.kind != StepKind::kForward || in.layout.as_2d || in.layout.unsqueeze ||
        !in.layout.contiguous)
      return;
    try {
      if (steps.size() == 2) plan_.out_in_ = call.op.typed<OutIn>();
      if (steps.size() == 5 && takes_parameters()) {
        plan_.out_in_parameters_ = call.op.typed<OutInParameters>();
      }
    } catch (const c10::Error&) {
      // The op was registered with other C++ types (a tensor by value): the stack serves it.
    }
  }

  bool takes_parameters() const {
    const std::vector<Step>& steps = plan_.call_.steps;
    const auto& arguments = plan_.call_.op.schema().arguments();
    return steps[2].kind == StepKind::kTensor && is_optional(arguments[2]) && steps[2].index == 0 &&
           steps[3].kind == StepKind::kTensor && is_optional(arguments[3]) && steps[3].index == 1 &&
           steps[4].kind == StepKind::kScalar && !is_optional(arguments[4]) &&
           scalar_type(arguments[4]) == KernelAttr::Type::kFloat;
  }

  BindingPlan& plan_;
  const LayerBinding& binding_;
  const OpCallBuilder calls_;
};

BindingPlan::BindingPlan(Package package, std::string layer, std::string source,
                         c10::OperatorHandle op, GuardFailure on_guard)
    : package_(std::move(package)),
      layer_(std::move(layer)),
      source_(std::move(source)),
      on_guard_(on_guard),
      forward_("forward", "", {}, {}),
      call_(std::move(op)) {}

std::shared_ptr<const BindingPlan> BindingPlan::make(const Package& package,
                                                     const LayerBinding& binding,
                                                     std::string source, GuardFailure on_guard) {
  const c10::OperatorHandle op = detail::find_operator(package, binding.call.op);
  const std::shared_ptr<BindingPlan> plan(
      new BindingPlan(package, binding.layer, std::move(source), op, on_guard));
  Builder(*plan, binding).build();
  return plan;
}

void BindingPlan::require_signature(const Signature& signature) const {
  const auto same = [](const c10::Argument& a, const c10::Argument& b) {
    return *a.type() == *b.type();
  };
  const auto& arguments = forward_.arguments();
  const auto& wanted = signature.arguments();
  const bool fits = arguments.size() == wanted.size() &&
                    std::equal(arguments.begin(), arguments.end(), wanted.begin(), same) &&
                    signature.returns().size() == forward_.returns().size() &&
                    std::equal(forward_.returns().begin(), forward_.returns().end(),
                               signature.returns().begin(), same);
  if (fits) return;
  throw modules_errors::forward_differs(source_, layer_, c10::toString(forward_),
                                        c10::toString(signature));
}

}  // namespace kernelhub::layers
