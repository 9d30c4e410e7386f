// SPDX-License-Identifier: Apache-2.0
#include "binding_plan.h"

#include "modules_errors.h"

#include "kernelhub/layers/replaceable.h"
#include "kernelhub/torch/op.h"

#include <ATen/core/jit_type.h>
#include <fmt/format.h>
#include <torch/csrc/jit/frontend/function_schema_parser.h>

#include <algorithm>
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

bool is_optional(const c10::Argument& argument) {
  return argument.type()->kind() == c10::TypeKind::OptionalType;
}

/// The type under `T?`, or the type itself.
const c10::Type& plain_type(const c10::Argument& argument) {
  return is_optional(argument) ? *argument.type()->castRaw<c10::OptionalType>()->getElementType()
                               : *argument.type();
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

bool has_kernel(const c10::OperatorHandle& op, std::initializer_list<c10::DispatchKey> keys) {
  return std::any_of(keys.begin(), keys.end(),
                     [&](c10::DispatchKey key) { return op.hasKernelForDispatchKey(key); });
}

}  // namespace

/// Fills one plan; every check of a binding against its op is here.
class BindingPlan::Builder {
 public:
  Builder(BindingPlan& plan, const LayerBinding& binding) : plan_(plan), binding_(binding) {}

  void build() {
    read_forward();
    add_steps();
    read_guard();
    read_result();
    find_typed_path();
    using Key = c10::DispatchKey;
    plan_.abilities_.can_torch_compile =
        binding_.can_torch_compile || has_kernel(plan_.op_, {Key::Meta});
    plan_.abilities_.has_backward = has_kernel(
        plan_.op_,
        {Key::Autograd, Key::AutogradCPU, Key::AutogradCUDA, Key::CompositeImplicitAutograd});
  }

 private:
  [[noreturn]] void fail(std::string_view path, std::string_view expected,
                         std::string_view found) const {
    throw modules_errors::bad_binding(plan_.source_, binding_.layer, path, expected, found);
  }

  void read_forward() {
    try {
      plan_.forward_ = torch::jit::parseSchema("forward" + binding_.forward, false);
    } catch (const std::exception&) {  // the parser throws several unrelated types
      fail("forward", "a signature such as (Tensor x) -> Tensor", binding_.forward);
    }
    const auto& returns = plan_.forward_.returns();
    if (returns.size() != 1 || returns[0].type()->kind() != c10::TypeKind::TensorType) {
      fail("forward", "one Tensor as result", binding_.forward);
    }
  }

  /// Position of a forward parameter; a tensor unless `any_type`.
  std::uint32_t parameter(const std::string& name, const std::string& path,
                          bool any_type = false) const {
    const auto index = plan_.forward_.argumentIndexWithName(name);
    if (!index) fail(path, "a parameter of forward " + binding_.forward, name);
    const c10::Argument& argument = plan_.forward_.arguments()[static_cast<std::size_t>(*index)];
    if (!any_type && argument.type()->kind() != c10::TypeKind::TensorType) {
      fail(path, "a Tensor parameter", argument.type()->annotation_str() + " " + name);
    }
    return static_cast<std::uint32_t>(*index);
  }

  c10::ScalarType dtype(const std::string& name, const std::string& path) const {
    const auto* found = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const NamedDtype& d) { return d.name == name; });
    if (found == std::end(kDtypes)) fail(path, kDtypeNames, name);
    return found->scalar;
  }

  void add_steps() {
    const auto& wanted = plan_.op_.schema().arguments();
    if (wanted.size() != binding_.args.size()) {
      fail("call.args",
           fmt::format("{} arguments of {}", wanted.size(), c10::toString(plan_.op_.schema())),
           std::to_string(binding_.args.size()));
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const std::string path = fmt::format("call.args[{}]", i);
      const c10::Argument& argument = wanted[i];
      const bool is_output = std::holds_alternative<OutputArgument>(binding_.args[i]);
      const bool is_written = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
      if (is_output != is_written) {
        fail(path,
             is_written ? "an out term, the op writes this argument"
                        : "no out term, the op only reads this argument",
             argument.name());
      }
      plan_.steps_.push_back(std::visit(
          [&](const auto& term) { return step(term, argument, path); }, binding_.args[i]));
    }
  }

  void require_type(const c10::Argument& argument, c10::TypeKind kind, const std::string& path,
                    std::string_view what) const {
    if (plain_type(argument).kind() == kind) return;
    fail(path, argument.type()->annotation_str() + " " + argument.name(), what);
  }

  Step step(const ForwardArgument& term, const c10::Argument& argument,
            const std::string& path) const {
    const bool reshaped = term.contiguous || term.as_2d || term.unsqueeze.has_value();
    Step made;
    made.kind = StepKind::kForward;
    made.index = parameter(term.name, path, !reshaped);
    const c10::TypePtr type = plan_.forward_.arguments()[made.index].type();
    if (!type->isSubtypeOf(*argument.type())) {
      fail(path, argument.type()->annotation_str(), type->annotation_str() + " " + term.name);
    }
    made.contiguous = term.contiguous;
    made.as_2d = term.as_2d;
    made.unsqueeze = term.unsqueeze;
    return made;
  }

  Step step(const ModuleTensor& term, const c10::Argument& argument, const std::string& path) {
    require_type(argument, c10::TypeKind::TensorType, path, "the tensor " + term.name);
    if (term.optional && !is_optional(argument)) {
      fail(path, "no default, the op needs this tensor", "default null");
    }
    Step made;
    made.kind = StepKind::kTensor;
    made.index = static_cast<std::uint32_t>(plan_.tensors_.size());
    plan_.tensors_.push_back({term});
    return made;
  }

  Step step(const ModuleScalar& term, const c10::Argument& argument, const std::string& path) {
    const auto type = scalar_type(argument);
    if (!type) fail(path, argument.type()->annotation_str(), "the attribute " + term.name);
    if (term.fallback) (void)constant(*term.fallback, argument, path);
    Step made;
    made.kind = StepKind::kScalar;
    made.index = static_cast<std::uint32_t>(plan_.scalars_.size());
    plan_.scalars_.push_back({term, *type});
    return made;
  }

  Step step(const ConstantArgument& term, const c10::Argument& argument,
            const std::string& path) const {
    Step made;
    made.constant = constant(term.value, argument, path);
    return made;
  }

  Step step(const DimArgument& term, const c10::Argument& argument, const std::string& path) const {
    require_type(argument, c10::TypeKind::IntType, path, "a dimension");
    Step made;
    made.kind = StepKind::kDim;
    made.index = parameter(term.name, path);
    made.dim = term.dim;
    return made;
  }

  Step step(const OutputArgument& term, const c10::Argument& argument,
            const std::string& path) const {
    require_type(argument, c10::TypeKind::TensorType, path, "an output tensor");
    Step made;
    made.kind = StepKind::kOutput;
    made.index = parameter(term.like, path);
    made.last_dim_divisor = term.last_dim_divisor;
    made.last_dim_factor = term.last_dim_factor;
    made.same_shape = term.last_dim_divisor == 1 && term.last_dim_factor == 1;
    if (!term.dtype.empty()) made.dtype = dtype(term.dtype, path + ".out.dtype");
    return made;
  }

  /// The constant as the op's type; a whole number may stand for a float.
  c10::IValue constant(const BindingConstant& value, const c10::Argument& argument,
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
    fail(path, argument.type()->annotation_str() + " " + argument.name(), "another constant");
  }

  void read_guard() {
    plan_.guard_ = binding_.when;
    plan_.has_layout_guard_ =
        binding_.when.contiguous || binding_.when.last_dim_multiple || binding_.when.max_dims;
    if (binding_.when.dtypes.empty()) return;
    plan_.dtypes_ = 0;
    for (const std::string& name : binding_.when.dtypes) {
      plan_.dtypes_ |= std::uint64_t{1} << static_cast<int>(dtype(name, "when.dtypes"));
    }
  }

  void read_result() {
    plan_.result_index_ = binding_.result_index;
    if (binding_.result_index) {
      const auto& returns = plan_.op_.schema().returns();
      const auto index = static_cast<std::size_t>(*binding_.result_index);
      plan_.result_in_list_ =
          returns.size() == 1 && returns[0].type()->kind() == c10::TypeKind::ListType;
      const bool is_tensor =
          index < returns.size() && returns[index].type()->kind() == c10::TypeKind::TensorType;
      if (!plan_.result_in_list_ && !is_tensor) {
        fail("call.result",
             "the index of a Tensor among the results of " + c10::toString(plan_.op_.schema()),
             std::to_string(index));
      }
    }
    if (!binding_.reshape_like.empty()) {
      plan_.reshape_like_ = parameter(binding_.reshape_like, "call.reshape_like");
    }
  }

  /// A forward `(Tensor) -> Tensor` over `op(Tensor! out, Tensor in)` or the same with two optional
  /// parameters of the module and a float.
  void find_typed_path() {
    const std::vector<Step>& steps = plan_.steps_;
    if (plan_.forward_.arguments().size() != 1 || plan_.result_index_ || plan_.reshape_like_)
      return;
    if (steps.size() < 2 || !plan_.op_.schema().returns().empty()) return;
    const Step& out = steps[0];
    const Step& in = steps[1];
    if (out.kind != StepKind::kOutput || !out.same_shape || out.dtype) return;
    if (in.kind != StepKind::kForward || in.as_2d || in.unsqueeze || !in.contiguous) return;
    try {
      if (steps.size() == 2) plan_.out_in_ = plan_.op_.typed<OutIn>();
      if (steps.size() == 5 && takes_parameters()) {
        plan_.out_in_parameters_ = plan_.op_.typed<OutInParameters>();
      }
    } catch (const c10::Error&) {
      // The op was registered with other C++ types (a tensor by value): the stack serves it.
    }
  }

  bool takes_parameters() const {
    const std::vector<Step>& steps = plan_.steps_;
    const auto& arguments = plan_.op_.schema().arguments();
    return steps[2].kind == StepKind::kTensor && is_optional(arguments[2]) &&
           steps[3].kind == StepKind::kTensor && is_optional(arguments[3]) &&
           steps[4].kind == StepKind::kScalar && !is_optional(arguments[4]) &&
           scalar_type(arguments[4]) == KernelAttr::Type::kFloat;
  }

  BindingPlan& plan_;
  const LayerBinding& binding_;
};

BindingPlan::BindingPlan(Package package, std::string layer, std::string source,
                         c10::OperatorHandle op, GuardFailure on_guard)
    : package_(std::move(package)),
      layer_(std::move(layer)),
      source_(std::move(source)),
      op_(std::move(op)),
      on_guard_(on_guard),
      forward_("forward", "", {}, {}) {}

std::shared_ptr<const BindingPlan> BindingPlan::make(const Package& package,
                                                     const LayerBinding& binding,
                                                     std::string source, GuardFailure on_guard) {
  const c10::OperatorHandle op = detail::find_operator(package, binding.op);
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
                    signature.returns().size() == 1 &&
                    same(signature.returns()[0], forward_.returns()[0]);
  if (fits) return;
  throw modules_errors::forward_differs(source_, layer_, c10::toString(forward_),
                                        c10::toString(signature));
}

}  // namespace kernelhub::layers
