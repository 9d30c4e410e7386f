// SPDX-License-Identifier: Apache-2.0
#include "op_call.h"

#include "modules_errors.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace kernelhub::layers {

bool records_gradients(const c10::OperatorHandle& op) {
  constexpr c10::DispatchKey kKeys[] = {c10::DispatchKey::Autograd, c10::DispatchKey::AutogradCPU,
                                        c10::DispatchKey::AutogradCUDA,
                                        c10::DispatchKey::CompositeImplicitAutograd};
  return std::any_of(std::begin(kKeys), std::end(kKeys),
                     [&](c10::DispatchKey key) { return op.hasKernelForDispatchKey(key); });
}

at::Tensor make_output(const Step& step, c10::IntArrayRef sizes, const c10::TensorOptions& options,
                       std::string_view source, std::string_view layer) {
  const c10::TensorOptions wanted = step.dtype ? options.dtype(*step.dtype) : options;
  if (step.same_shape) return at::empty(sizes, wanted);
  std::vector<std::int64_t> shape = sizes.vec();
  if (shape.empty() || shape.back() % step.last_dim_divisor != 0) {
    throw modules_errors::guard_not_met(
        source, layer, fmt::format("the last dim must divide by {}", step.last_dim_divisor));
  }
  shape.back() = shape.back() / step.last_dim_divisor * step.last_dim_factor;
  return at::empty(shape, wanted);
}

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

at::Tensor laid_out(at::Tensor tensor, const TensorLayout& layout) {
  if (layout.contiguous && !tensor.is_contiguous()) tensor = tensor.contiguous();
  if (layout.as_2d) tensor = tensor.reshape({-1, tensor.size(-1)});
  if (layout.unsqueeze) tensor = tensor.unsqueeze(*layout.unsqueeze);
  return tensor;
}

void CallResults::call(const OpCall& call, c10::Stack& stack) {
  call.op.callBoxed(stack);
  if (call.returns_list) {
    returned_ = stack.at(0).toTensorVector();
    return;
  }
  returned_.reserve(stack.size());
  for (const c10::IValue& value : stack) {
    returned_.push_back(value.isTensor() ? value.toTensor() : at::Tensor());
  }
}

at::Tensor CallResults::get(const ResultRef& ref) const {
  if (ref.is_out) return outs_[ref.index];
  if (ref.index >= returned_.size()) {
    throw modules_errors::bad_binding(
        source_, layer_, "result",
        fmt::format("an index into the {} tensors of the op's list", returned_.size()),
        std::to_string(ref.index));
  }
  return returned_[ref.index];
}

}  // namespace kernelhub::layers
