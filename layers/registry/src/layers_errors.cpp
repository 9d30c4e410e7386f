// SPDX-License-Identifier: Apache-2.0
#include "layers_errors.h"

#include <fmt/format.h>

namespace kernelhub::layers::layers_errors {
namespace {

constexpr std::string_view kDeviceTypes = "cpu, cuda, mps, neuron, npu, rocm, tpu, xpu";
constexpr std::string_view kModes = "FALLBACK, TRAINING, INFERENCE, TORCH_COMPILE";

}  // namespace

LayerError modes_exclude(Mode a, Mode b) {
  const bool fallback = contains(a, Mode::kFallback) || contains(b, Mode::kFallback);
  return LayerError(
      ErrorCode::kInvalidMode,
      fallback
          ? fmt::format("mode FALLBACK cannot be combined: {} | {}", mode_name(a), mode_name(b))
          : fmt::format("modes INFERENCE and TRAINING are mutually exclusive: {} | {}",
                        mode_name(a), mode_name(b)));
}

LayerError unknown_mode(std::string_view name) {
  return LayerError(ErrorCode::kInvalidMode, fmt::format("unknown mode '{}'", name),
                    fmt::format("modes are {}", kModes));
}

LayerError mode_not_runnable(Mode mode) {
  if (mode == Mode::kFallback) {
    return LayerError(ErrorCode::kInvalidMode, "mode FALLBACK can only be used to register",
                      "kernelize with INFERENCE or TRAINING");
  }
  return LayerError(
      ErrorCode::kInvalidMode,
      fmt::format("mode must contain INFERENCE or TRAINING, found {}", mode_name(mode)));
}

LayerError unknown_device_type(std::string_view type) {
  return LayerError(ErrorCode::kInvalidArgument, fmt::format("unknown device type '{}'", type),
                    fmt::format("device types are {}", kDeviceTypes));
}

LayerError device_without_capability(std::string_view type) {
  return LayerError(
      ErrorCode::kInvalidArgument,
      fmt::format("device type {} has no compute capability, cuda and rocm do", type));
}

LayerError bad_capability_range(std::string_view type, int min, int max) {
  return LayerError(
      ErrorCode::kInvalidArgument,
      fmt::format("capability range of a {} device is empty: min {}, max {}", type, min, max));
}

LayerError duplicate_entry(std::string_view layer, std::string_view device) {
  return LayerError(
      ErrorCode::kInvalidMapping,
      fmt::format("kernel mapping: layer '{}' has two entries for device {}", layer, device),
      "put the modes of one device into one entry");
}

}  // namespace kernelhub::layers::layers_errors
