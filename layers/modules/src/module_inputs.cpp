// SPDX-License-Identifier: Apache-2.0
#include "binding_plan.h"
#include "modules_errors.h"

#include "kernelhub/layers/replaceable.h"

#include <torch/nn/module.h>

#include <algorithm>

namespace kernelhub::layers {
namespace {

using NamedTensors = torch::OrderedDict<std::string, at::Tensor>;

std::vector<std::string> attr_names(const std::vector<KernelAttr>& attrs) {
  std::vector<std::string> names;
  for (const KernelAttr& attr : attrs) names.push_back(attr.name);
  return names;
}

const char* type_name(KernelAttr::Type type) {
  switch (type) {
    case KernelAttr::Type::kFloat:
      return "float";
    case KernelAttr::Type::kInt:
      return "int";
    case KernelAttr::Type::kBool:
      return "bool";
  }
  return "";
}

c10::IValue to_ivalue(const BindingConstant& value, KernelAttr::Type type) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    return type == KernelAttr::Type::kFloat ? c10::IValue(static_cast<double>(*integer))
                                            : c10::IValue(*integer);
  }
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  return {};
}

}  // namespace

ModuleInputs BindingPlan::inputs_of(const Swappable& layer) const {
  ModuleInputs inputs;
  if (!reads_.tensors.empty()) {
    const auto* module = dynamic_cast<const torch::nn::Module*>(&layer);  // null: a function
    const NamedTensors parameters = module ? module->named_parameters() : NamedTensors();
    const NamedTensors buffers = module ? module->named_buffers() : NamedTensors();
    for (const ModuleTensor& wanted : reads_.tensors) {
      const bool is_buffer = wanted.kind == ModuleTensor::Kind::kBuffer;
      const NamedTensors& named = is_buffer ? buffers : parameters;
      const at::Tensor* found = named.find(wanted.name);
      if (found == nullptr && !wanted.optional) {
        throw modules_errors::missing_input(source_, layer_, is_buffer ? "buffer" : "parameter",
                                            wanted.name, named.keys());
      }
      inputs.tensors.push_back(found ? std::optional(*found) : std::nullopt);
    }
  }
  const std::vector<KernelAttr>& attrs = layer.kernel_attrs();
  for (const ModuleReads::Scalar& wanted : reads_.scalars) {
    const auto found = std::find_if(attrs.begin(), attrs.end(), [&](const KernelAttr& attr) {
      return attr.name == wanted.source.name;
    });
    if (found == attrs.end()) {
      if (!wanted.source.fallback) {
        throw modules_errors::missing_input(source_, layer_, "attribute", wanted.source.name,
                                            attr_names(attrs));
      }
      inputs.scalars.push_back(
          {wanted.type, nullptr, to_ivalue(*wanted.source.fallback, wanted.type)});
      continue;
    }
    const bool widened =
        wanted.type == KernelAttr::Type::kFloat && found->type == KernelAttr::Type::kInt;
    if (found->type != wanted.type && !widened) {
      throw modules_errors::wrong_attr_type(source_, layer_, found->name, type_name(wanted.type),
                                            type_name(found->type));
    }
    inputs.scalars.push_back({found->type, found->address(layer), {}});
  }
  return inputs;
}

}  // namespace kernelhub::layers
