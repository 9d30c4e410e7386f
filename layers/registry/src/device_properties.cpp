// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/device_properties.h"

#include "layers_errors.h"

#include <algorithm>
#include <array>
#include <utility>

namespace kernelhub {
namespace {

constexpr std::array<std::string_view, 8> kTypes = {"cpu", "cuda", "mps", "neuron",
                                                    "npu", "rocm", "tpu", "xpu"};

}  // namespace

bool is_device_type(std::string_view type) noexcept {
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

bool has_capability(std::string_view device_type) noexcept {
  return device_type == "cuda" || device_type == "rocm";
}

Device::Device(std::string type, std::optional<CapabilityRange> capabilities)
    : type_(std::move(type)), capabilities_(capabilities) {
  if (!is_device_type(type_)) throw layers::layers_errors::unknown_device_type(type_);
  if (!capabilities_) return;
  if (!has_capability(type_)) throw layers::layers_errors::device_without_capability(type_);
  if (capabilities_->min > capabilities_->max) {
    throw layers::layers_errors::bad_capability_range(type_, capabilities_->min,
                                                      capabilities_->max);
  }
}

}  // namespace kernelhub
