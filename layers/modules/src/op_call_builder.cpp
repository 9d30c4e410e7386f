// SPDX-License-Identifier: Apache-2.0
#include "modules_errors.h"
#include "op_call.h"

#include <ATen/core/jit_type.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace kernelhub::layers {
namespace {

struct NamedDtype {
  std::string_view name;
  c10::ScalarType scalar;
};
constexpr NamedDtype kDtypes[] = {
    {"bool", c10::ScalarType::Bool},
    {"uint8", c10::ScalarType::Byte},
    {"int8", c10::ScalarType::Char},
    {"int16", c10::ScalarType::Short},
    {"int32", c10::ScalarType::Int},
    {"int64", c10::ScalarType::Long},
    {"float16", c10::ScalarType::Half},
    {"bfloat16", c10::ScalarType::BFloat16},
    {"float32", c10::ScalarType::Float},
    {"float64", c10::ScalarType::Double},
    {"float8_e4m3fn", c10::ScalarType::Float8_e4m3fn},
    {"float8_e5m2", c10::ScalarType::Float8_e5m2},
};
constexpr std::string_view kDtypeNames =
    "bool, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, float8_e4m3fn, "
    "float8_e5m2";

/// The type under `T?`, or the type itself.
const c10::Type& plain_type(const c10::Argument& argument) {
  return is_optional(argument) ? *argument.type()->castRaw<c10::OptionalType>()->getElementType()
                               : *argument.type();
}

bool is_tensor(const c10::Argument& argument) {
  return argument.type()->kind() == c10::TypeKind::TensorType;
}

std::string described(const c10::Argument& argument) {
  return argument.type()->annotation_str() + " " + argument.name();
}

}  // namespace

bool is_optional(const c10::Argument& argument) {
  return argument.type()->kind() == c10::TypeKind::OptionalType;
}

std::optional<KernelAttr::Type> scalar_type(const c10::Argument& argument) {
  switch (plain_type(argument).kind()) {
    case c10::TypeKind::FloatType:
      return KernelAttr::Type::kFloat;
    case c10::TypeKind::IntType:
      return KernelAttr::Type::kInt;
    case c10::TypeKind::BoolType:
      return KernelAttr::Type::kBool;
    default:
      return {};
  }
}

/// Where a term stands, and in a backward what it may refer to.
struct OpCallBuilder::Scope {
  std::string path;
  BackwardCall* backward = nullptr;
  const ForwardCall* forward = nullptr;
  const BackwardBinding* binding = nullptr;
};

void OpCallBuilder::fail(std::string_view path, std::string_view expected,
                         std::string_view found) const {
  throw modules_errors::bad_binding(source_, layer_, path, expected, found);
}

c10::ScalarType OpCallBuilder::dtype(const std::string& name, const std::string& path) const {
  const auto* found = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const NamedDtype& d) { return d.name == name; });
  if (found == std::end(kDtypes)) fail(path, kDtypeNames, name);
  return found->scalar;
}

/// Position of a forward parameter; a tensor unless `any_type`.
std::uint32_t OpCallBuilder::parameter(const std::string& name, const std::string& path,
                                       bool any_type) const {
  const auto index = forward_.argumentIndexWithName(name);
  if (!index) fail(path, "a parameter of forward " + c10::toString(forward_), name);
  const c10::Argument& argument = forward_.arguments()[static_cast<std::size_t>(*index)];
  if (!any_type && !is_tensor(argument)) fail(path, "a Tensor parameter", described(argument));
  return static_cast<std::uint32_t>(*index);
}

/// Position among the tensors that the binding reads, where a step already reads it.
std::optional<std::uint32_t> OpCallBuilder::parameter_of_module(const std::string& name) const {
  const auto found =
      std::find_if(reads_.tensors.begin(), reads_.tensors.end(), [&](const ModuleTensor& tensor) {
        return tensor.kind == ModuleTensor::Kind::kParameter && tensor.name == name;
      });
  if (found == reads_.tensors.end()) return {};
  return static_cast<std::uint32_t>(found - reads_.tensors.begin());
}

std::uint32_t OpCallBuilder::read_tensor(const ModuleTensor& tensor) const {
  const auto found =
      std::find_if(reads_.tensors.begin(), reads_.tensors.end(), [&](const ModuleTensor& known) {
        return known.kind == tensor.kind && known.name == tensor.name &&
               known.optional == tensor.optional;
      });
  const auto index = static_cast<std::uint32_t>(found - reads_.tensors.begin());
  if (found == reads_.tensors.end()) reads_.tensors.push_back(tensor);
  return index;
}

/// The tensor whose shape a `dim` or `out` term takes.
void OpCallBuilder::point_at(Step& step, const std::string& name, const std::string& path,
                             const Scope& scope) const {
  const auto of_module = scope.backward ? parameter_of_module(name) : std::nullopt;
  if (of_module && !forward_.argumentIndexWithName(name)) {
    step.of_module = true;
    step.index = *of_module;
  } else {
    step.index = parameter(name, path);
  }
}

void OpCallBuilder::require_type(const c10::Argument& argument, c10::TypeKind kind,
                                 const std::string& path, std::string_view what) const {
  if (plain_type(argument).kind() == kind) return;
  fail(path, described(argument), what);
}

/// The constant as the op's type; a whole number may stand for a float.
c10::IValue OpCallBuilder::constant(const BindingConstant& value, const c10::Argument& argument,
                                    const std::string& path) const {
  const auto type = scalar_type(argument);
  if (std::holds_alternative<std::monostate>(value) && is_optional(argument)) return {};
  if (const bool* flag = std::get_if<bool>(&value); flag && type == KernelAttr::Type::kBool) {
    return *flag;
  }
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    if (type == KernelAttr::Type::kInt) return *integer;
    if (type == KernelAttr::Type::kFloat) return static_cast<double>(*integer);
  }
  if (const auto* number = std::get_if<double>(&value);
      number && type == KernelAttr::Type::kFloat) {
    return *number;
  }
  fail(path, described(argument), "another constant");
}

Step OpCallBuilder::step(const ForwardArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  Step made;
  made.kind = StepKind::kForward;
  made.index = parameter(term.name, scope.path, is_plain(term.layout));
  const c10::Argument& given = forward_.arguments()[made.index];
  if (!given.type()->isSubtypeOf(*argument.type())) {
    fail(scope.path, argument.type()->annotation_str(), described(given));
  }
  made.layout = term.layout;
  return made;
}

Step OpCallBuilder::step(const ModuleTensor& term, const c10::Argument& argument,
                         const Scope& scope) const {
  require_type(argument, c10::TypeKind::TensorType, scope.path, "the tensor " + term.name);
  if (term.optional && !is_optional(argument)) {
    fail(scope.path, "no \"optional\", the op needs this tensor", "\"optional\": true");
  }
  Step made;
  made.kind = StepKind::kTensor;
  made.index = read_tensor(term);
  return made;
}

Step OpCallBuilder::step(const ModuleScalar& term, const c10::Argument& argument,
                         const Scope& scope) const {
  const auto type = scalar_type(argument);
  if (!type) fail(scope.path, argument.type()->annotation_str(), "the attribute " + term.name);
  if (term.fallback) (void)constant(*term.fallback, argument, scope.path);
  Step made;
  made.kind = StepKind::kScalar;
  made.index = static_cast<std::uint32_t>(reads_.scalars.size());
  reads_.scalars.push_back({term, *type});
  return made;
}

Step OpCallBuilder::step(const ConstantArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  Step made;
  made.constant = constant(term.value, argument, scope.path);
  return made;
}

Step OpCallBuilder::step(const DimArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  require_type(argument, c10::TypeKind::IntType, scope.path, "a dimension");
  Step made;
  made.kind = StepKind::kDim;
  point_at(made, term.name, scope.path, scope);
  if (made.of_module && reads_.tensors[made.index].optional) {
    fail(scope.path, "a tensor that is always there", "one the module may lack: " + term.name);
  }
  made.dim = term.dim;
  return made;
}

Step OpCallBuilder::step(const OutputArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  require_type(argument, c10::TypeKind::TensorType, scope.path, "an output tensor");
  Step made;
  made.kind = StepKind::kOutput;
  point_at(made, term.like, scope.path, scope);
  if (made.of_module && reads_.tensors[made.index].optional && !is_optional(argument)) {
    fail(scope.path, described(argument) + ", a tensor", "one the module may lack: " + term.like);
  }
  made.last_dim_divisor = term.last_dim_divisor;
  made.last_dim_factor = term.last_dim_factor;
  made.same_shape = term.last_dim_divisor == 1 && term.last_dim_factor == 1;
  if (!term.dtype.empty()) made.dtype = dtype(term.dtype, scope.path + ".out.dtype");
  return made;
}

Step OpCallBuilder::step(const GradArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  require_type(argument, c10::TypeKind::TensorType, scope.path, "a gradient");
  if (static_cast<std::size_t>(term.index) >= scope.forward->results.size()) {
    fail(scope.path, fmt::format("a result of forward {}", c10::toString(forward_)),
         std::to_string(term.index));
  }
  Step made;
  made.kind = StepKind::kGrad;
  made.index = static_cast<std::uint32_t>(term.index);
  made.layout = term.layout;
  return made;
}

Step OpCallBuilder::step(const SavedArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  require_type(argument, c10::TypeKind::TensorType, scope.path, "a saved tensor");
  Step made;
  made.kind = StepKind::kSaved;
  made.index = static_cast<std::uint32_t>(scope.backward->saved.size());
  made.layout = term.layout;
  scope.backward->saved.push_back(result(*scope.forward, term.result, scope.path));
  return made;
}

Step OpCallBuilder::step(const NeedsArgument& term, const c10::Argument& argument,
                         const Scope& scope) const {
  require_type(argument, c10::TypeKind::BoolType, scope.path, "a flag");
  const auto& grads = scope.binding->grads;
  const auto found = std::find_if(grads.begin(), grads.end(),
                                  [&](const auto& grad) { return grad.first == term.name; });
  if (found == grads.end()) fail(scope.path, "a name in backward.grads", term.name);
  Step made;
  made.kind = StepKind::kNeeds;
  made.index = static_cast<std::uint32_t>(found - grads.begin());
  return made;
}

void OpCallBuilder::add_steps(OpCall& made, const std::vector<BindingArgument>& args,
                              const Scope& scope) const {
  const auto& wanted = made.op.schema().arguments();
  if (wanted.size() != args.size()) {
    fail(scope.path,
         fmt::format("{} arguments of {}", wanted.size(), c10::toString(made.op.schema())),
         std::to_string(args.size()));
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    Scope here = scope;
    here.path = fmt::format("{}[{}]", scope.path, i);
    const c10::Argument& argument = wanted[i];
    const bool is_output = std::holds_alternative<OutputArgument>(args[i]);
    const bool is_written = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    if (is_output != is_written) {
      fail(here.path,
           is_written ? "an out term, the op writes this argument"
                      : "no out term, the op only reads this argument",
           argument.name());
    }
    made.steps.push_back(
        std::visit([&](const auto& term) { return step(term, argument, here); }, args[i]));
  }
  const auto& returns = made.op.schema().returns();
  made.returns_list = returns.size() == 1 && returns[0].type()->kind() == c10::TypeKind::ListType;
}

ResultRef OpCallBuilder::result(const OpCall& call, const BindingResult& wanted,
                                const std::string& path) const {
  if (wanted.index > std::numeric_limits<std::uint32_t>::max()) {
    fail(path, "the index of a result", std::to_string(wanted.index));
  }
  const auto index = static_cast<std::uint32_t>(wanted.index);
  if (wanted.is_out) return {true, index};
  const auto& returns = call.op.schema().returns();
  if (!call.returns_list && (index >= returns.size() || !is_tensor(returns[index]))) {
    fail(path, "the index of a Tensor among the results of " + c10::toString(call.op.schema()),
         std::to_string(wanted.index));
  }
  return {false, index};
}

ForwardCall OpCallBuilder::forward_call(const c10::OperatorHandle& op, const BindingCall& call,
                                        const std::string& path) const {
  ForwardCall made(op);
  add_steps(made, call.args, {path + ".args"});
  if (call.results.size() != forward_.returns().size()) {
    fail(
        path + ".result",
        fmt::format("{} results of forward {}", forward_.returns().size(), c10::toString(forward_)),
        std::to_string(call.results.size()));
  }
  for (const BindingResult& wanted : call.results) {
    made.results.push_back(result(made, wanted, path + ".result"));
  }
  if (!call.reshape_like.empty()) {
    made.reshape_like = parameter(call.reshape_like, path + ".reshape_like");
  }
  return made;
}

BackwardCall OpCallBuilder::backward_call(const c10::OperatorHandle& op,
                                          const BackwardBinding& backward,
                                          const ForwardCall& forward) const {
  BackwardCall made(op);
  add_steps(made, backward.args, {"backward.args", &made, &forward, &backward});
  for (const c10::Argument& returned : forward.op.schema().returns()) {
    if (returned.alias_info() == nullptr) continue;
    fail("backward", "a forward whose results are new tensors", c10::toString(forward.op.schema()));
  }
  for (const auto& [name, wanted] : backward.grads) {
    const std::string path = "backward.grads." + name;
    BackwardCall::Grad grad;
    grad.result = result(made, wanted, path);
    const auto index = forward_.argumentIndexWithName(name);
    if (const auto tensor = parameter_of_module(name); tensor && !index) {
      grad.of_module = true;
      grad.index = *tensor;
    } else if (index && plain_type(forward_.arguments()[static_cast<std::size_t>(*index)]).kind() ==
                            c10::TypeKind::TensorType) {
      grad.index = static_cast<std::uint32_t>(*index);
    } else {
      fail(path, "a tensor of forward " + c10::toString(forward_) + " or a parameter in call.args",
           name);
    }
    made.grads.push_back(grad);
  }
  skip_where_not_asked(made);
  return made;
}

/// An `out` that the op takes as optional is given where a gradient that it holds is asked for.
void OpCallBuilder::skip_where_not_asked(BackwardCall& made) const {
  std::uint32_t outputs = 0;
  for (std::size_t i = 0; i < made.steps.size(); ++i) {
    Step& step = made.steps[i];
    if (step.kind != StepKind::kOutput) continue;
    const std::uint32_t output = outputs++;
    if (!is_optional(made.op.schema().arguments()[i])) continue;
    for (std::size_t grad = 0; grad < made.grads.size(); ++grad) {
      const ResultRef& result = made.grads[grad].result;
      if (!result.is_out || result.index != output) continue;
      step.only_for.push_back(static_cast<std::uint32_t>(grad));
    }
  }
}

}  // namespace kernelhub::layers
