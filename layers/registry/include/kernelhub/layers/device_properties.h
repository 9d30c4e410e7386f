// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace kernelhub {

/// Compute capabilities an entry is for, as major * 10 + minor (sm_90 = 90); both ends included.
struct CapabilityRange {
  int min = 0;
  int max = std::numeric_limits<int>::max();
  friend bool operator==(CapabilityRange a, CapabilityRange b) {
    return a.min == b.min && a.max == b.max;
  }
};

/// Device of a mapping entry: a type of the mapping vocabulary, with a capability range for cuda
/// and rocm.
class KERNELHUB_API Device {
 public:
  /// `type`: cpu, cuda, mps, neuron, npu, rocm, tpu or xpu. Throws LayerError kInvalidArgument for
  /// another one, a range on a type without capabilities, or min > max.
  explicit Device(std::string type, std::optional<CapabilityRange> capabilities = {});
  const std::string& type() const noexcept { return type_; }
  const std::optional<CapabilityRange>& capabilities() const noexcept { return capabilities_; }
  /// Capabilities an entry accepts: all when none are named.
  CapabilityRange range() const noexcept { return capabilities_.value_or(CapabilityRange{}); }
  friend bool operator==(const Device& a, const Device& b) {
    return a.type_ == b.type_ && a.capabilities_ == b.capabilities_;
  }

 private:
  std::string type_;
  std::optional<CapabilityRange> capabilities_;
};

/// True for the eight types of the mapping vocabulary.
KERNELHUB_API bool is_device_type(std::string_view type) noexcept;
/// True for types whose devices have a compute capability: cuda and rocm.
KERNELHUB_API bool has_capability(std::string_view device_type) noexcept;

}  // namespace kernelhub
