// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/json_access.h"
#include "kernelhub/layers/layer_binding.h"

#include <nlohmann/json.hpp>

#include <algorithm>
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

ForwardArgument forward_argument_of(const JsonObject& term) {
  term.only({"in", "contiguous", "view", "unsqueeze"});
  ForwardArgument argument;
  argument.name = term.string("in");
  argument.contiguous = term.optional_boolean("contiguous").value_or(false);
  if (const auto view = term.optional_string("view")) {
    if (*view != "2d") term.fail("view", "\"2d\"", *view);
    argument.as_2d = true;
  }
  if (term.has("unsqueeze")) {
    const json& dim = *term.json().find("unsqueeze");
    if (!dim.is_number_integer()) term.fail("unsqueeze", "an integer", dim.dump());
    argument.unsqueeze = dim.get<std::int64_t>();
  }
  return argument;
}

ModuleTensor module_tensor_of(const JsonObject& term, std::string_view key,
                              ModuleTensor::Kind kind) {
  term.only({key, "default"});
  const bool optional = term.json().contains("default");
  if (optional && !term.json().at("default").is_null()) {
    term.fail("default", "null", term.json().at("default").dump());
  }
  return {kind, term.string(key), optional};
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

BindingArgument argument_of(const JsonObject& term) {
  const json& value = term.json();
  if (value.contains("in")) return forward_argument_of(term);
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
  term.fail("", "one of in, param, buffer, attr, const, null, dim, out", value.dump());
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

void read_result(const JsonObject& call, LayerBinding& binding) {
  const auto outputs = std::count_if(
      binding.args.begin(), binding.args.end(),
      [](const BindingArgument& a) { return std::holds_alternative<OutputArgument>(a); });
  const auto result = call.json().find("result");
  if (result == call.json().end()) call.fail("result", "\"out\" or an index", "nothing");
  if (result->is_number_unsigned()) {
    binding.result_index = result->get<std::int64_t>();
  } else if (*result != "out") {
    call.fail("result", "\"out\" or an index", result->dump());
  } else if (outputs != 1) {
    call.fail("result", "exactly one out argument", std::to_string(outputs));
  }
  binding.reshape_like = call.optional_string("reshape_like").value_or("");
}

LayerBinding binding_of(std::string layer, const JsonObject& value) {
  value.only({"forward", "can_torch_compile", "when", "call"});
  LayerBinding binding;
  binding.layer = std::move(layer);
  binding.forward = value.string("forward");
  binding.can_torch_compile = value.optional_boolean("can_torch_compile").value_or(false);
  if (const auto when = value.optional_object("when")) binding.when = guard_of(*when);
  const JsonObject call = value.object("call");
  call.only({"op", "args", "result", "reshape_like"});
  binding.op = call.string("op");
  for (const JsonObject& term : call.objects("args")) binding.args.push_back(argument_of(term));
  read_result(call, binding);
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
