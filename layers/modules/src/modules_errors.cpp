// SPDX-License-Identifier: Apache-2.0
#include "modules_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace kernelhub::layers::modules_errors {
namespace {

std::string listed(const std::vector<std::string>& names) {
  return names.empty() ? std::string("none") : fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

LayerError no_model_device() {
  return LayerError(ErrorCode::kInvalidArgument,
                    "cannot determine the device of a model without parameters",
                    "name the device type in the call of kernelize");
}

LayerError lookup_missed(LookupMiss miss, std::string_view layer_name, std::string_view device,
                         Mode mode) {
  switch (miss) {
    case LookupMiss::kNoLayer:
      return LayerError(ErrorCode::kNoLayerMapping,
                        fmt::format("no kernel mapping for layer '{}'", layer_name));
    case LookupMiss::kNoDevice:
      return LayerError(
          ErrorCode::kNoDeviceMapping,
          fmt::format("no kernel mapping for layer '{}' with device type {}", layer_name, device));
    case LookupMiss::kNoCompatibleProperties:
      return LayerError(
          ErrorCode::kNoCompatibleProperties,
          fmt::format(
              "no kernel mapping for layer '{}' on {} fits the capability of the device, or "
              "there is no such device",
              layer_name, device));
    case LookupMiss::kNoCompatibleMode:
      break;
  }
  return LayerError(ErrorCode::kNoCompatibleMode,
                    fmt::format("no kernel mapping for layer '{}' on {} serves mode {}", layer_name,
                                device, mode_name(mode)));
}

LayerError broken_promise(std::string_view source, std::string_view layer, Mode entry,
                          bool can_torch_compile, bool has_backward) {
  return LayerError(
      ErrorCode::kNoCompatibleMode,
      fmt::format("layer '{}' of {} is registered for mode {} but can_torch_compile is {} and "
                  "has_backward is {}",
                  layer, source, mode_name(entry), can_torch_compile, has_backward),
      "register it for a mode that it supports");
}

LayerError mode_unsupported(std::string_view source, std::string_view layer, Mode mode) {
  return LayerError(
      ErrorCode::kNoCompatibleMode,
      fmt::format("layer '{}' of {} does not support mode {}", layer, source, mode_name(mode)));
}

LayerError no_native_layer(std::string_view source, std::string_view layer,
                           const std::vector<std::string>& known) {
  return LayerError(ErrorCode::kNoNativeLayer,
                    fmt::format("package {} has no native layer '{}'; its native layers: {}",
                                source, layer, listed(known)));
}

LayerError forward_differs(std::string_view source, std::string_view layer,
                           std::string_view binding, std::string_view module) {
  return LayerError(ErrorCode::kLayerSignatureMismatch,
                    fmt::format("layer '{}' of {} has forward {}, the module has {}", layer, source,
                                binding, module));
}

LayerError bad_binding(std::string_view source, std::string_view layer, std::string_view path,
                       std::string_view expected, std::string_view found) {
  return LayerError(ErrorCode::kInvalidBinding,
                    fmt::format("layer '{}' of {}: {}: expected {}, found {}", layer, source, path,
                                expected, found));
}

LayerError missing_input(std::string_view source, std::string_view layer, std::string_view kind,
                         std::string_view name, const std::vector<std::string>& known) {
  return LayerError(ErrorCode::kMissingAttribute,
                    fmt::format("layer '{}' of {} reads the {} '{}', the module has {}", layer,
                                source, kind, name, listed(known)));
}

LayerError wrong_attr_type(std::string_view source, std::string_view layer, std::string_view name,
                           std::string_view expected, std::string_view found) {
  return LayerError(
      ErrorCode::kMissingAttribute,
      fmt::format("layer '{}' of {} reads the attribute '{}' as {}, the module has {}", layer,
                  source, name, expected, found));
}

std::string no_second_derivative(std::string_view source, std::string_view layer) {
  return fmt::format("layer '{}' of {}: the gradient of its backward is not defined", layer,
                     source);
}

LayerError guard_not_met(std::string_view source, std::string_view layer, std::string_view reason) {
  return LayerError(
      ErrorCode::kGuardNotMet,
      fmt::format("layer '{}' of {} cannot serve this call: {}", layer, source, reason));
}

LayerError unknown_attention(std::string_view name, const std::vector<std::string>& known) {
  return LayerError(
      ErrorCode::kInvalidArgument,
      fmt::format("attention function '{}' is unknown; known: {}, and hub packages as "
                  "owner/repo[@revision][:op]",
                  name, listed(known)),
      "register it with register_attention_function");
}

LayerError bad_attention_call(std::string_view function, std::string_view what,
                              std::string_view expected, std::string_view found) {
  return LayerError(ErrorCode::kInvalidArgument,
                    fmt::format("attention function '{}': {}: expected {}, found {}", function,
                                what, expected, found));
}

LayerError unusable_attention_op(std::string_view source, std::string_view schema,
                                 std::string_view expected) {
  return LayerError(ErrorCode::kSchemaMismatch,
                    fmt::format("package {} cannot serve as attention function: expected {}, its "
                                "op is {}",
                                source, expected, schema));
}

LayerError attention_lacks(std::string_view function, std::string_view feature) {
  return LayerError(ErrorCode::kInvalidArgument,
                    fmt::format("attention function '{}' does not support {}", function, feature),
                    "'eager' does");
}

}  // namespace kernelhub::layers::modules_errors
