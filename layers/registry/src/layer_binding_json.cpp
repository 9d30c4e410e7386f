// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/json_access.h"
#include "kernelhub/layers/layer_binding.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace kernelhub {
namespace {

using nlohmann::json;

constexpr JsonLimits kLimits{1u << 20, 16};

BindingConstant constant_of(const JsonObject& term, std::string_view key) {
  const json& value = *term.json().find(key);
  if (value.is_null()) return std::monostate{};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number_float()) return value.get<double>();
  term.fail(key, "a number, true, false or null", value.type_name());
}

/// Reads a list of two, `[name, dim]`.
DimArgument dim_of(const JsonObject& term) {
  const json& value = *term.json().find("dim");
  if (!value.is_array() || value.size() != 2 || !value[0].is_string() ||
      !value[1].is_number_integer()) {
    term.fail("dim", "[argument, dimension]", value.dump());
  }
  return {value[0].get<std::string>(), value[1].get<std::int64_t>()};
}

TensorLayout layout_of(const JsonObject& term) {
  TensorLayout layout;
  layout.contiguous = term.optional_boolean("contiguous").value_or(false);
  if (const auto view = term.optional_string("view")) {
    if (*view != "2d") term.fail("view", "\"2d\"", *view);
    layout.as_2d = true;
  }
  if (term.has("unsqueeze")) {
    const json& dim = *term.json().find("unsqueeze");
    if (!dim.is_number_integer()) term.fail("unsqueeze", "an integer", dim.dump());
    layout.unsqueeze = dim.get<std::int64_t>();
  }
  return layout;
}

constexpr std::string_view kResultForms = "\"out\", \"out.k\" or an index";

/// `result` among `outputs` out arguments and what the op returns.
BindingResult result_of(const JsonObject& where, std::string_view key, const json& result,
                        std::int64_t outputs) {
  if (result.is_number_unsigned()) return {false, result.get<std::int64_t>()};
  if (!result.is_string()) where.fail(key, kResultForms, result.dump());
  const auto& text = result.get_ref<const std::string&>();
  if (text == "out") {
    if (outputs != 1) where.fail(key, "exactly one out argument", std::to_string(outputs));
    return {true, 0};
  }
  const std::string digits = text.rfind("out.", 0) == 0 ? text.substr(4) : std::string();
  if (digits.empty() || digits.size() > 2 ||
      digits.find_first_not_of("0123456789") != std::string::npos) {
    where.fail(key, kResultForms, text);
  }
  const std::int64_t index = std::stoll(digits);
  if (index >= outputs) {
    where.fail(key, "one of " + std::to_string(outputs) + " out arguments", text);
  }
  return {true, index};
}

std::int64_t count_outputs(const std::vector<BindingArgument>& args) {
  return std::count_if(args.begin(), args.end(), [](const BindingArgument& a) {
    return std::holds_alternative<OutputArgument>(a);
  });
}

ModuleTensor module_tensor_of(const JsonObject& term, std::string_view key,
                              ModuleTensor::Kind kind) {
  term.only({key, "optional"});
  return {kind, term.string(key), term.optional_boolean("optional").value_or(false)};
}

ModuleScalar module_scalar_of(const JsonObject& term) {
  term.only({"attr", "default"});
  ModuleScalar scalar{term.string("attr"), std::nullopt};
  if (term.json().contains("default")) scalar.fallback = constant_of(term, "default");
  return scalar;
}

std::int64_t factor_of(const JsonObject& out, const std::string& text) {
  const std::string digits = text.substr(1);
  if (digits.empty() || digits.size() > 4 ||
      digits.find_first_not_of("0123456789") != std::string::npos || digits.front() == '0') {
    out.fail("last_dim", "\"/k\" or \"*k\" with k from 1 to 9999", text);
  }
  return std::stoll(digits);
}

OutputArgument output_of(const JsonObject& out) {
  out.only({"like", "last_dim", "dtype"});
  OutputArgument output;
  output.like = out.string("like");
  output.dtype = out.optional_string("dtype").value_or("");
  if (const auto last_dim = out.optional_string("last_dim")) {
    switch (last_dim->empty() ? ' ' : last_dim->front()) {
      case '/':
        output.last_dim_divisor = factor_of(out, *last_dim);
        break;
      case '*':
        output.last_dim_factor = factor_of(out, *last_dim);
        break;
      default:
        out.fail("last_dim", "\"/k\" or \"*k\"", *last_dim);
    }
  }
  return output;
}

/// A term of any call.
std::optional<BindingArgument> common_argument_of(const JsonObject& term) {
  const json& value = term.json();
  if (value.contains("in")) {
    term.only({"in", "contiguous", "view", "unsqueeze"});
    return ForwardArgument{term.string("in"), layout_of(term)};
  }
  if (value.contains("param")) {
    return module_tensor_of(term, "param", ModuleTensor::Kind::kParameter);
  }
  if (value.contains("buffer")) {
    return module_tensor_of(term, "buffer", ModuleTensor::Kind::kBuffer);
  }
  if (value.contains("attr")) return module_scalar_of(term);
  if (value.contains("const")) {
    term.only({"const"});
    return ConstantArgument{constant_of(term, "const")};
  }
  if (value.contains("null")) {
    term.only({"null"});
    return ConstantArgument{};
  }
  if (value.contains("dim")) {
    term.only({"dim"});
    return dim_of(term);
  }
  if (value.contains("out")) {
    term.only({"out"});
    return output_of(term.object("out"));
  }
  return {};
}

BindingArgument argument_of(const JsonObject& term) {
  if (auto argument = common_argument_of(term)) return *std::move(argument);
  term.fail("", "one of in, param, buffer, attr, const, null, dim, out", term.json().dump());
}

/// A term of a backward; `forward` is the call whose results it may ask for.
BindingArgument backward_argument_of(const JsonObject& term, const BindingCall& forward) {
  const json& value = term.json();
  if (value.contains("grad")) {
    term.only({"grad", "contiguous", "view", "unsqueeze"});
    return GradArgument{static_cast<std::int64_t>(term.unsigned_integer("grad")), layout_of(term)};
  }
  if (value.contains("saved")) {
    term.only({"saved", "contiguous", "view", "unsqueeze"});
    return SavedArgument{
        result_of(term, "saved", *value.find("saved"), count_outputs(forward.args)),
        layout_of(term)};
  }
  if (value.contains("needs")) {
    term.only({"needs"});
    return NeedsArgument{term.string("needs")};
  }
  if (auto argument = common_argument_of(term)) return *std::move(argument);
  term.fail("", "one of grad, saved, needs, in, param, buffer, attr, const, null, dim, out",
            value.dump());
}

BindingGuard guard_of(const JsonObject& when) {
  when.only({"dtypes", "contiguous", "last_dim_multiple", "max_dims"});
  BindingGuard guard;
  guard.dtypes = when.strings("dtypes");
  guard.contiguous = when.optional_boolean("contiguous").value_or(false);
  if (const auto multiple = when.optional_unsigned("last_dim_multiple")) {
    if (*multiple == 0) when.fail("last_dim_multiple", "1 or more", "0");
    guard.last_dim_multiple = static_cast<std::int64_t>(*multiple);
  }
  if (const auto dims = when.optional_unsigned("max_dims")) {
    guard.max_dims = static_cast<std::int64_t>(*dims);
  }
  return guard;
}

std::vector<BindingResult> results_of(const JsonObject& call, std::int64_t outputs) {
  const auto result = call.json().find("result");
  if (result == call.json().end()) call.fail("result", kResultForms, "nothing");
  if (!result->is_array()) return {result_of(call, "result", *result, outputs)};
  std::vector<BindingResult> results;
  for (const json& item : *result) results.push_back(result_of(call, "result", item, outputs));
  if (results.size() < 2) call.fail("result", "a list of two or more", result->dump());
  return results;
}

BindingCall call_of(const JsonObject& value) {
  value.only({"op", "args", "result", "reshape_like"});
  BindingCall call;
  call.op = value.string("op");
  for (const JsonObject& term : value.objects("args")) call.args.push_back(argument_of(term));
  call.results = results_of(value, count_outputs(call.args));
  call.reshape_like = value.optional_string("reshape_like").value_or("");
  if (!call.reshape_like.empty() && call.results.size() != 1) {
    value.fail("reshape_like", "a call with one result", value.json().at("result").dump());
  }
  return call;
}

BackwardBinding backward_of(const JsonObject& value, const BindingCall& forward) {
  value.only({"call", "op", "args", "grads"});
  BackwardBinding backward;
  if (const auto call = value.optional_object("call")) backward.call = call_of(*call);
  backward.op = value.string("op");
  for (const JsonObject& term : value.objects("args")) {
    backward.args.push_back(backward_argument_of(term, backward.call ? *backward.call : forward));
  }
  const JsonObject grads = value.object("grads");
  for (const std::string& name : grads.keys()) {
    backward.grads.emplace_back(
        name, result_of(grads, name, grads.json().at(name), count_outputs(backward.args)));
  }
  if (backward.grads.empty()) value.fail("grads", "at least one gradient", "none");
  return backward;
}

LayerBinding binding_of(std::string layer, const JsonObject& value) {
  value.only({"forward", "can_torch_compile", "when", "call", "backward"});
  LayerBinding binding;
  binding.layer = std::move(layer);
  binding.forward = value.string("forward");
  binding.can_torch_compile = value.optional_boolean("can_torch_compile").value_or(false);
  if (const auto when = value.optional_object("when")) binding.when = guard_of(*when);
  binding.call = call_of(value.object("call"));
  if (const auto backward = value.optional_object("backward")) {
    binding.backward = backward_of(*backward, binding.call);
  }
  return binding;
}

}  // namespace

std::map<std::string, LayerBinding> parse_layer_bindings(std::string_view layers_json,
                                                         std::string_view origin) {
  std::map<std::string, LayerBinding> bindings;
  if (layers_json.empty()) return bindings;
  const json root = parse_untrusted_json(layers_json, origin, kLimits);
  const JsonObject layers(root, origin, "kernelhub.layers", ErrorCode::kInvalidBinding);
  for (const std::string& name : layers.keys()) {
    bindings.emplace(name, binding_of(name, layers.object(name)));
  }
  return bindings;
}

}  // namespace kernelhub
