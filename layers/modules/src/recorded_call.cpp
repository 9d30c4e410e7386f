// SPDX-License-Identifier: Apache-2.0
// The forward of a binding with a backward, recorded as one node of autograd's graph.
#include "binding_plan.h"
#include "modules_errors.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/DimVector.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace kernelhub::layers {
namespace {

using torch::autograd::Edge;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// Sizes and options of a tensor that the backward asks no values of.
struct Shape {
  bool is_tensor = false;
  c10::DimVector sizes;
  c10::TensorOptions options;
};

Shape shape_of(const at::Tensor* tensor) {
  if (tensor == nullptr || !tensor->defined()) return {};
  return {true, c10::DimVector(tensor->sizes()), tensor->options()};
}

const at::Tensor* tensor_of(const c10::IValue& value) {
  return value.isTensor() ? &value.toTensor() : nullptr;
}

const at::Tensor* tensor_of(const std::optional<at::Tensor>& value) {
  return value ? &*value : nullptr;
}

Edge edge_to(const at::Tensor* tensor) {
  if (tensor == nullptr || !tensor->requires_grad()) return {};
  return torch::autograd::impl::gradient_edge(*tensor);
}

bool is_used(const BackwardCall& backward, StepKind kind, std::size_t index) {
  return std::any_of(backward.steps.begin(), backward.steps.end(),
                     [&](const Step& step) { return step.kind == kind && step.index == index; });
}

}  // namespace

/// Keeps what the backward reads of one call: values only where a step asks for them.
class BindingPlan::GradientNode final : public torch::autograd::Node {
 public:
  GradientNode(std::shared_ptr<const BindingPlan> plan, const ModuleInputs& inputs,
               c10::ArrayRef<c10::IValue> arguments);

  /// Makes `results` part of the graph and keeps what the backward reads of the call.
  void record(const std::shared_ptr<Node>& self, const ForwardCall& forward, BoundResults& results,
              const CallResults& given);
  variable_list apply(variable_list&& grads) override;
  void release_variables() override;
  std::string name() const override { return "kernelhub::" + plan_->layer_; }

 private:
  struct Values {
    ModuleInputs inputs;
    std::vector<c10::IValue> arguments;
    std::vector<at::Tensor> saved;
  };

  const BackwardCall& backward() const { return *plan_->backward_; }
  const Shape& shape(bool of_module, std::size_t index) const {
    return of_module ? module_shapes_[index] : argument_shapes_[index];
  }
  Values unpack();
  c10::IValue argument(const Step& step, const Values& values, const variable_list& grads) const;
  variable_list gradients(const variable_list& grads);

  std::shared_ptr<const BindingPlan> plan_;
  std::vector<Shape> argument_shapes_;
  std::vector<Shape> module_shapes_;
  std::vector<c10::IValue> plain_arguments_;  // None where the forward had a tensor
  std::vector<ModuleInputs::Scalar> scalars_;
  std::vector<SavedVariable> arguments_;
  std::vector<SavedVariable> module_tensors_;
  std::vector<SavedVariable> saved_;
};

BindingPlan::GradientNode::GradientNode(std::shared_ptr<const BindingPlan> plan,
                                        const ModuleInputs& inputs,
                                        c10::ArrayRef<c10::IValue> arguments)
    : plan_(std::move(plan)), arguments_(arguments.size()), module_tensors_(inputs.tensors.size()) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const at::Tensor* tensor = tensor_of(arguments[i]);
    argument_shapes_.push_back(shape_of(tensor));
    plain_arguments_.push_back(tensor ? c10::IValue() : arguments[i]);
    if (tensor && is_used(backward(), StepKind::kForward, i)) {
      arguments_[i] = SavedVariable(*tensor, /*is_output=*/false);
    }
  }
  for (std::size_t i = 0; i < inputs.tensors.size(); ++i) {
    const at::Tensor* tensor = tensor_of(inputs.tensors[i]);
    module_shapes_.push_back(shape_of(tensor));
    if (tensor && is_used(backward(), StepKind::kTensor, i)) {
      module_tensors_[i] = SavedVariable(*tensor, /*is_output=*/false);
    }
  }
  // As they are now: a module may change its scalars before the backward.
  for (std::size_t i = 0; i < inputs.scalars.size(); ++i) {
    const KernelAttr::Type type = plan_->reads_.scalars[i].type;
    scalars_.push_back({type, nullptr, scalar_value(inputs.scalars[i], type)});
  }
  torch::autograd::edge_list edges;
  for (const BackwardCall::Grad& grad : backward().grads) {
    edges.push_back(edge_to(grad.of_module ? tensor_of(inputs.tensors[grad.index])
                                           : tensor_of(arguments[grad.index])));
  }
  set_next_edges(std::move(edges));
}

void BindingPlan::GradientNode::record(const std::shared_ptr<Node>& self,
                                       const ForwardCall& forward, BoundResults& results,
                                       const CallResults& given) {
  if (forward.reshape_like) {
    // The result shares memory with what the backward may read: an edit of it must be noticed.
    const at::Tensor raw = given.get(forward.results[0]);
    if (!raw.is_same(results[0])) {
      torch::autograd::impl::set_version_counter(results[0],
                                                 torch::autograd::impl::version_counter(raw));
    }
  }
  for (const at::Tensor& result : results) torch::autograd::set_history(result, self);
  for (const ResultRef& ref : backward().saved) {
    const at::Tensor tensor = given.get(ref);
    const bool is_output = std::any_of(results.begin(), results.end(),
                                       [&](const at::Tensor& r) { return r.is_same(tensor); });
    saved_.emplace_back(tensor, is_output);
  }
}

void BindingPlan::GradientNode::release_variables() {
  const std::lock_guard lock(mutex_);
  for (SavedVariable& tensor : arguments_) tensor.reset_data();
  for (SavedVariable& tensor : module_tensors_) tensor.reset_data();
  for (SavedVariable& tensor : saved_) tensor.reset_data();
}

BindingPlan::GradientNode::Values BindingPlan::GradientNode::unpack() {
  Values values;
  values.arguments = plain_arguments_;
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    if (argument_shapes_[i].is_tensor && is_used(backward(), StepKind::kForward, i)) {
      values.arguments[i] = arguments_[i].unpack();
    }
  }
  values.inputs.scalars = scalars_;
  values.inputs.tensors.resize(module_tensors_.size());
  for (std::size_t i = 0; i < module_tensors_.size(); ++i) {
    if (module_shapes_[i].is_tensor && is_used(backward(), StepKind::kTensor, i)) {
      values.inputs.tensors[i] = module_tensors_[i].unpack();
    }
  }
  for (const SavedVariable& tensor : saved_) {
    values.saved.push_back(tensor.unpack(shared_from_this()));
  }
  return values;
}

c10::IValue BindingPlan::GradientNode::argument(const Step& step, const Values& values,
                                                const variable_list& grads) const {
  switch (step.kind) {
    case StepKind::kGrad:
      return laid_out(grads[step.index], step.layout);
    case StepKind::kSaved:
      return laid_out(values.saved[step.index], step.layout);
    case StepKind::kNeeds:
      return task_should_compute_output(step.index);
    case StepKind::kDim: {
      const Shape& like = shape(step.of_module, step.index);
      const auto dims = static_cast<std::int64_t>(like.sizes.size());
      return like.sizes[static_cast<std::size_t>(
          c10::maybe_wrap_dim(step.dim, dims, /*wrap_scalar=*/false))];
    }
    case StepKind::kOutput: {
      const Shape& like = shape(step.of_module, step.index);
      if (!like.is_tensor) return {};
      if (!step.only_for.empty() &&
          std::none_of(step.only_for.begin(), step.only_for.end(),
                       [this](std::uint32_t grad) { return task_should_compute_output(grad); })) {
        return {};
      }
      return make_output(step, like.sizes, like.options, plan_->source_, plan_->layer_);
    }
    default:
      return plan_->argument(step, values.inputs, values.arguments);
  }
}

variable_list BindingPlan::GradientNode::gradients(const variable_list& grads) {
  const Values values = unpack();
  torch::jit::Stack stack;
  CallResults given(plan_->source_, plan_->layer_);
  for (const Step& step : backward().steps) {
    stack.push_back(argument(step, values, grads));
    if (step.kind == StepKind::kOutput) {
      given.add_out(stack.back().isTensor() ? stack.back().toTensor() : at::Tensor());
    }
  }
  given.call(backward(), stack);
  variable_list gradients(backward().grads.size());
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!task_should_compute_output(i)) continue;
    const BackwardCall::Grad& grad = backward().grads[i];
    at::Tensor gradient = given.get(grad.result);
    const Shape& like = shape(grad.of_module, grad.index);
    const bool differs = gradient.defined() && gradient.sizes() != like.sizes;
    gradients[i] = differs ? gradient.reshape(like.sizes) : std::move(gradient);
  }
  return gradients;
}

variable_list BindingPlan::GradientNode::apply(variable_list&& grads) {
  const std::lock_guard lock(mutex_);
  const bool is_asked_again = at::GradMode::is_enabled();  // create_graph
  if (std::none_of(grads.begin(), grads.end(), [](const auto& g) { return g.defined(); })) {
    return variable_list(backward().grads.size());
  }
  variable_list results;
  {
    const at::AutoGradMode no_grad(false);
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) grads[i] = input_metadata(i).zeros_like();
    }
    results = gradients(grads);
  }
  if (!is_asked_again) return results;
  // The op's gradient has no graph of its own: who differentiates it gets an error, not a zero.
  for (at::Tensor& gradient : results) {
    if (gradient.defined()) gradient = gradient.detach().set_requires_grad(true);
  }
  const auto error = std::make_shared<torch::autograd::DelayedError>(
      modules_errors::no_second_derivative(plan_->source_, plan_->layer_),
      static_cast<std::int64_t>(results.size()));
  return (*error)(std::move(results));
}

bool BindingPlan::gives_gradients(const ModuleInputs& inputs,
                                  c10::ArrayRef<c10::IValue> arguments) const {
  const auto lacks = [&](bool of_module, std::size_t index, const at::Tensor* tensor) {
    if (tensor == nullptr || !tensor->requires_grad()) return false;
    return std::none_of(backward_->grads.begin(), backward_->grads.end(),
                        [&](const BackwardCall::Grad& grad) {
                          return grad.of_module == of_module && grad.index == index;
                        });
  };
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (lacks(false, i, tensor_of(arguments[i]))) return false;
  }
  for (std::size_t i = 0; i < inputs.tensors.size(); ++i) {
    if (lacks(true, i, tensor_of(inputs.tensors[i]))) return false;
  }
  return true;
}

BoundResults BindingPlan::run_recorded(const ModuleInputs& inputs,
                                       c10::ArrayRef<c10::IValue> arguments) const {
  if (!backward_) {
    refuse("gradients are asked for and the op has no backward");
    return {};
  }
  if (!gives_gradients(inputs, arguments)) {
    refuse("a gradient is asked for that the backward does not give");
    return {};
  }
  const std::shared_ptr<GradientNode> node(new GradientNode(shared_from_this(), inputs, arguments),
                                           torch::autograd::deleteNode);
  const ForwardCall& forward = training_call_ ? *training_call_ : call_;
  CallResults given(source_, layer_);
  BoundResults results;
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    results = call(forward, inputs, arguments, given);
  }
  node->record(node, forward, results, given);
  return results;
}

}  // namespace kernelhub::layers
