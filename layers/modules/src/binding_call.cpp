// SPDX-License-Identifier: Apache-2.0
#include "binding_plan.h"
#include "modules_errors.h"

#include "kernelhub/core/log.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>

namespace kernelhub::layers {
namespace {

bool needs_grad(const ModuleInputs& inputs, c10::ArrayRef<c10::IValue> arguments) {
  for (const c10::IValue& argument : arguments) {
    if (argument.isTensor() && argument.toTensor().requires_grad()) return true;
  }
  for (const std::optional<at::Tensor>& tensor : inputs.tensors) {
    if (tensor && tensor->requires_grad()) return true;
  }
  return false;
}

/// An uninitialised contiguous tensor as `x`. Where nothing but the CPU's own kernel would answer a
/// dispatched empty_like, that is what runs, without asking: it costs more than all the rest of a
/// layer's call.
at::Tensor empty_as(const at::Tensor& x) {
  constexpr c10::DispatchKeySet kPlain({c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU,
                                        c10::DispatchKey::ADInplaceOrView,
                                        c10::DispatchKey::BackendSelect});
  const c10::impl::LocalDispatchKeySet thread = c10::impl::tls_local_dispatch_key_set();
  const c10::DispatchKeySet keys = (x.key_set() | thread.included_) - thread.excluded_;
  if ((keys | kPlain) == kPlain) {
    return at::Tensor(at::detail::empty_cpu(x.sizes(), x.scalar_type()));
  }
  return at::empty_like(x, {}, {}, {}, {}, c10::MemoryFormat::Contiguous);
}

}  // namespace

inline const char* BindingPlan::tensor_refusal(const at::Tensor& tensor) const {
  if ((dtypes_ >> static_cast<int>(tensor.scalar_type()) & 1) == 0) {
    return "the binding does not serve the dtype of an argument";
  }
  if (tensor.dim() > max_dims_) return "an argument has too many dims";
  if (needs_contiguous_ && !tensor.is_contiguous()) return "an argument is not contiguous";
  if (last_dim_multiple_ != 1 && (tensor.dim() == 0 || tensor.size(-1) % last_dim_multiple_ != 0)) {
    return "the last dim of an argument is not a multiple of what the kernel needs";
  }
  return nullptr;
}

const char* BindingPlan::refusal(c10::ArrayRef<c10::IValue> arguments) const {
  for (const c10::IValue& argument : arguments) {
    if (!argument.isTensor()) continue;
    const at::Tensor& tensor = argument.toTensor();
    if (!tensor.defined()) return "an argument is undefined";
    if (const char* reason = tensor_refusal(tensor)) return reason;
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
      return scalar_value(inputs.scalars[step.index], reads_.scalars[step.index].type);
    case StepKind::kConstant:
      return step.constant;
    case StepKind::kDim:
      return arguments[step.index].toTensor().size(step.dim);
    case StepKind::kOutput: {
      const at::Tensor& like = arguments[step.index].toTensor();
      return make_output(step, like.sizes(), like.options(), source_, layer_);
    }
    case StepKind::kGrad:
    case StepKind::kSaved:
    case StepKind::kNeeds:
      break;  // only in a backward, made by its node
  }
  const c10::IValue& given = arguments[step.index];
  return is_plain(step.layout) ? given : laid_out(given.toTensor(), step.layout);
}

at::Tensor BindingPlan::run_unary(const ModuleInputs& inputs, const at::Tensor& x) const {
  if (!out_in_ && !out_in_parameters_) return run(inputs, c10::IValue(x));
  if (!x.defined()) return refuse("an argument is undefined");
  if (const char* reason = tensor_refusal(x)) return refuse(reason);
  if (!x.is_contiguous()) return run(inputs, c10::IValue(x));
  // Each of these steps counts: floor of 20 ns over the op (benchmarks/layers).
  at::Tensor out = empty_as(x);
  // What inference mode allocates says so, and spares the question to the thread's grad mode.
  if (!out.is_inference() && !op_records_gradients_ && at::GradMode::is_enabled() &&
      needs_grad(inputs, c10::IValue(x))) {
    out.reset();  // a recorded call allocates its own
    BoundResults results = run_recorded(inputs, c10::IValue(x));
    return results.empty() ? at::Tensor() : std::move(results[0]);
  }
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

BoundResults BindingPlan::call(const ForwardCall& forward, const ModuleInputs& inputs,
                               c10::ArrayRef<c10::IValue> arguments, CallResults& given) const {
  torch::jit::Stack stack;
  stack.reserve(forward.steps.size());
  for (const Step& step : forward.steps) {
    stack.push_back(argument(step, inputs, arguments));
    if (step.kind == StepKind::kOutput) given.add_out(stack.back().toTensor());
  }
  given.call(forward, stack);
  BoundResults results;
  for (const ResultRef& ref : forward.results) results.push_back(given.get(ref));
  if (forward.reshape_like) {
    results[0] = results[0].reshape(arguments[*forward.reshape_like].toTensor().sizes());
  }
  return results;
}

BoundResults BindingPlan::run_several(const ModuleInputs& inputs,
                                      c10::ArrayRef<c10::IValue> arguments) const {
  if (const char* reason = refusal(arguments)) {
    refuse(reason);
    return {};
  }
  // Without a backward the result would be cut off from the graph (python spec 6.2).
  if (!op_records_gradients_ && at::GradMode::is_enabled() && needs_grad(inputs, arguments)) {
    return run_recorded(inputs, arguments);
  }
  CallResults given(source_, layer_);
  return call(call_, inputs, arguments, given);
}

at::Tensor BindingPlan::run(const ModuleInputs& inputs,
                            c10::ArrayRef<c10::IValue> arguments) const {
  BoundResults results = run_several(inputs, arguments);
  return results.empty() ? at::Tensor() : std::move(results[0]);
}

}  // namespace kernelhub::layers
