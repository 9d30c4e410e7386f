// SPDX-License-Identifier: Apache-2.0
#include "binding_plan.h"
#include "modules_errors.h"

#include "kernelhub/core/log.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <fmt/format.h>

namespace kernelhub::layers {
namespace {

constexpr const char* kNoBackward = "gradients are asked for and the op has no backward";

c10::IValue scalar_value(const ModuleInputs::Scalar& scalar, KernelAttr::Type wanted) {
  if (scalar.address == nullptr) return scalar.constant;
  switch (scalar.type) {
    case KernelAttr::Type::kFloat:
      return *static_cast<const double*>(scalar.address);
    case KernelAttr::Type::kBool:
      return *static_cast<const bool*>(scalar.address);
    case KernelAttr::Type::kInt:
      break;
  }
  const std::int64_t integer = *static_cast<const std::int64_t*>(scalar.address);
  if (wanted == KernelAttr::Type::kFloat) return static_cast<double>(integer);
  return integer;
}

bool needs_grad(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) {
  for (const c10::IValue& argument : arguments) {
    if (argument.isTensor() && argument.toTensor().requires_grad()) return true;
  }
  for (const std::optional<at::Tensor>& tensor : inputs.tensors) {
    if (tensor && tensor->requires_grad()) return true;
  }
  return false;
}

}  // namespace

inline const char* BindingPlan::tensor_refusal(const at::Tensor& tensor) const {
  if ((dtypes_ >> static_cast<int>(tensor.scalar_type()) & 1) == 0) {
    return "the binding does not serve the dtype of an argument";
  }
  return has_layout_guard_ ? layout_refusal(tensor) : nullptr;
}

const char* BindingPlan::layout_refusal(const at::Tensor& tensor) const {
  if (guard_.contiguous && !tensor.is_contiguous()) return "an argument is not contiguous";
  if (guard_.max_dims && tensor.dim() > *guard_.max_dims) return "an argument has too many dims";
  if (guard_.last_dim_multiple &&
      (tensor.dim() == 0 || tensor.size(-1) % *guard_.last_dim_multiple != 0)) {
    return "the last dim of an argument is not a multiple of what the kernel needs";
  }
  return nullptr;
}

const char* BindingPlan::refusal(const ModuleInputs& inputs,
                                 c10::ArrayRef<c10::IValue> arguments) const {
  for (const c10::IValue& argument : arguments) {
    if (!argument.isTensor()) continue;
    const at::Tensor& tensor = argument.toTensor();
    if (!tensor.defined()) return "an argument is undefined";
    if (const char* reason = tensor_refusal(tensor)) return reason;
  }
  // Without a backward the result would be cut off from the graph (python spec 6.2).
  if (!abilities_.has_backward && at::GradMode::is_enabled() && needs_grad(inputs, arguments)) {
    return kNoBackward;
  }
  return nullptr;
}

at::Tensor BindingPlan::refuse(const char* reason) const {
  if (on_guard_ == GuardFailure::kThrow) {
    throw modules_errors::guard_not_met(source_, layer_, reason);
  }
  warn_once(
      fmt::format("layers.guard:{}:{}", layer_, reason),
      fmt::format("layer '{}' of {} runs the module's own forward: {}", layer_, source_, reason));
  return {};
}

at::Tensor BindingPlan::output(const Step& step, const at::Tensor& like) const {
  at::TensorOptions options = like.options();
  if (step.dtype) options = options.dtype(*step.dtype);
  if (step.same_shape) return at::empty_like(like, options, c10::MemoryFormat::Contiguous);
  std::vector<std::int64_t> sizes = like.sizes().vec();
  if (sizes.empty() || sizes.back() % step.last_dim_divisor != 0) {
    throw modules_errors::guard_not_met(
        source_, layer_, fmt::format("the last dim must divide by {}", step.last_dim_divisor));
  }
  sizes.back() = sizes.back() / step.last_dim_divisor * step.last_dim_factor;
  return at::empty(sizes, options);
}

c10::IValue BindingPlan::argument(const Step& step, const ModuleInputs& inputs,
                                  c10::ArrayRef<c10::IValue> arguments) const {
  switch (step.kind) {
    case StepKind::kForward:
      break;
    case StepKind::kTensor: {
      const std::optional<at::Tensor>& tensor = inputs.tensors[step.index];
      return tensor ? c10::IValue(*tensor) : c10::IValue();
    }
    case StepKind::kScalar:
      return scalar_value(inputs.scalars[step.index], scalars_[step.index].type);
    case StepKind::kConstant:
      return step.constant;
    case StepKind::kDim:
      return arguments[step.index].toTensor().size(step.dim);
    case StepKind::kOutput:
      return output(step, arguments[step.index].toTensor());
  }
  const c10::IValue& given = arguments[step.index];
  if (!step.contiguous && !step.as_2d && !step.unsqueeze) return given;
  at::Tensor tensor = given.toTensor();
  if (step.contiguous && !tensor.is_contiguous()) tensor = tensor.contiguous();
  if (step.as_2d) tensor = tensor.reshape({-1, tensor.size(-1)});
  if (step.unsqueeze) tensor = tensor.unsqueeze(*step.unsqueeze);
  return tensor;
}

at::Tensor BindingPlan::result(torch::jit::Stack& stack, const at::Tensor& out,
                               c10::ArrayRef<c10::IValue> arguments) const {
  at::Tensor tensor = out;
  if (result_index_) {
    const auto index = static_cast<std::size_t>(*result_index_);
    tensor = result_in_list_ ? stack.at(0).toTensorVector().at(index) : stack.at(index).toTensor();
  }
  return reshape_like_ ? tensor.reshape(arguments[*reshape_like_].toTensor().sizes()) : tensor;
}

inline const char* BindingPlan::unary_refusal(const ModuleInputs& inputs,
                                              const at::Tensor& x) const {
  if (!x.defined()) return "an argument is undefined";
  if (const char* reason = tensor_refusal(x)) return reason;
  const bool may_detach = !abilities_.has_backward && at::GradMode::is_enabled();
  return may_detach && needs_grad(inputs, c10::IValue(x)) ? kNoBackward : nullptr;
}

at::Tensor BindingPlan::run_unary(const ModuleInputs& inputs, const at::Tensor& x) const {
  if (!out_in_ && !out_in_parameters_) return run(inputs, c10::IValue(x));
  if (const char* reason = unary_refusal(inputs, x)) return refuse(reason);
  if (!x.is_contiguous()) return run(inputs, c10::IValue(x));
  // Each of these steps counts: floor of 20 ns over the op (benchmarks/layers).
  at::Tensor out = at::empty_like(x, {}, {}, {}, {}, c10::MemoryFormat::Contiguous);
  if (out_in_) {
    out_in_->call(out, x);
  } else {
    const ModuleInputs::Scalar& given = inputs.scalars[0];
    const bool is_member = given.address != nullptr && given.type == KernelAttr::Type::kFloat;
    const double scalar = is_member ? *static_cast<const double*>(given.address)
                                    : scalar_value(given, KernelAttr::Type::kFloat).toDouble();
    out_in_parameters_->call(out, x, inputs.tensors[0], inputs.tensors[1], scalar);
  }
  return out;
}

at::Tensor BindingPlan::run(const ModuleInputs& inputs,
                            c10::ArrayRef<c10::IValue> arguments) const {
  if (const char* reason = refusal(inputs, arguments)) return refuse(reason);
  torch::jit::Stack stack;
  stack.reserve(steps_.size());
  at::Tensor out;
  for (const Step& step : steps_) {
    stack.push_back(argument(step, inputs, arguments));
    if (step.kind == StepKind::kOutput) out = stack.back().toTensor();
  }
  op_.callBoxed(stack);
  return result(stack, out, arguments);
}

}  // namespace kernelhub::layers
