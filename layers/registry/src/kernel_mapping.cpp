// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/kernel_mapping.h"

#include "layers_errors.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace kernelhub {
namespace {

struct Slot {
  CapabilityRange range;
  std::map<Mode, LayerRepository> by_mode;
};
/// Layer name -> device type -> slots in the order of registration.
using Registered =
    std::map<std::string, std::map<std::string, std::vector<Slot>, std::less<>>, std::less<>>;

/// What threads without a mapping of their own see.
struct SharedMapping {
  std::shared_mutex mutex;
  Registered registered;
};
SharedMapping& shared_mapping() {
  static SharedMapping mapping;
  return mapping;
}
/// Mapping of this thread's innermost scope; null: the shared one.
thread_local std::shared_ptr<Registered> own_mapping;

Slot slot_of(const MappingEntry& entry) {
  if (const auto* repository = std::get_if<LayerRepository>(&entry.repo)) {
    return {entry.device.range(), {{Mode::kFallback, *repository}}};
  }
  return {entry.device.range(), std::get<std::map<Mode, LayerRepository>>(entry.repo)};
}

/// Refuses a mapping that names one device twice, before anything is changed.
void validate(const KernelMapping& mapping) {
  for (const auto& [layer, entries] : mapping) {
    for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
      const bool twice = std::any_of(entries.begin(), entry, [&](const MappingEntry& other) {
        return other.device.type() == entry->device.type() &&
               other.device.range() == entry->device.range();
      });
      if (twice) throw layers::layers_errors::duplicate_entry(layer, entry->device.type());
    }
  }
}

void merge(Registered& into, const KernelMapping& mapping) {
  for (const auto& [layer, entries] : mapping) {
    for (const MappingEntry& entry : entries) {
      std::vector<Slot>& slots = into[layer][entry.device.type()];
      slots.erase(std::remove_if(slots.begin(), slots.end(),
                                 [&](const Slot& s) { return s.range == entry.device.range(); }),
                  slots.end());
      slots.push_back(slot_of(entry));
    }
  }
}

std::shared_ptr<Registered> copy_of_current() {
  if (own_mapping) return std::make_shared<Registered>(*own_mapping);
  SharedMapping& shared = shared_mapping();
  const std::shared_lock lock(shared.mutex);
  return std::make_shared<Registered>(shared.registered);
}

/// Smallest range around `capability`; of equal ones the last registered.
const Slot* best_slot(const std::vector<Slot>& slots, std::optional<int> capability) {
  const Slot* best = nullptr;
  const auto width = [](CapabilityRange r) { return std::int64_t{r.max} - r.min; };
  for (const Slot& slot : slots) {
    if (capability && (*capability < slot.range.min || *capability > slot.range.max)) continue;
    if (best == nullptr || width(slot.range) <= width(best->range)) best = &slot;
  }
  return best;
}

std::variant<LayerChoice, LookupMiss> find_in(const Registered& registered,
                                              std::string_view layer_name,
                                              std::string_view device_type,
                                              std::optional<int> capability, Mode requested) {
  const auto layer = registered.find(layer_name);
  if (layer == registered.end()) return LookupMiss::kNoLayer;
  const auto device = layer->second.find(device_type);
  if (device == layer->second.end()) return LookupMiss::kNoDevice;
  const bool unknown_capability = has_capability(device_type) && !capability;
  const Slot* slot = unknown_capability ? nullptr : best_slot(device->second, capability);
  if (slot == nullptr) return LookupMiss::kNoCompatibleProperties;
  for (const Mode mode : mode_chain(requested)) {
    const auto entry = slot->by_mode.find(mode);
    if (entry != slot->by_mode.end()) return LayerChoice{entry->second, mode};
  }
  return LookupMiss::kNoCompatibleMode;
}

}  // namespace

void register_kernel_mapping(const KernelMapping& mapping, InheritMapping inherit) {
  validate(mapping);
  if (inherit == InheritMapping::kNo) {
    auto fresh = std::make_shared<Registered>();
    merge(*fresh, mapping);
    own_mapping = std::move(fresh);
  } else if (own_mapping) {
    merge(*own_mapping, mapping);
  } else {
    SharedMapping& shared = shared_mapping();
    const std::unique_lock lock(shared.mutex);
    merge(shared.registered, mapping);
  }
}

ScopedKernelMapping::ScopedKernelMapping(const KernelMapping& mapping, InheritMapping inherit)
    : outer_(own_mapping) {
  validate(mapping);
  auto inner = inherit == InheritMapping::kYes ? copy_of_current() : std::make_shared<Registered>();
  merge(*inner, mapping);
  own_mapping = std::move(inner);
}

ScopedKernelMapping::~ScopedKernelMapping() {
  own_mapping = std::static_pointer_cast<Registered>(outer_);
}

std::variant<LayerChoice, LookupMiss> find_layer_repository(std::string_view layer_name,
                                                            std::string_view device_type,
                                                            std::optional<int> capability,
                                                            Mode requested) {
  require_kernelize_mode(requested);
  if (!is_device_type(device_type)) {
    throw layers::layers_errors::unknown_device_type(device_type);
  }
  if (own_mapping) return find_in(*own_mapping, layer_name, device_type, capability, requested);
  SharedMapping& shared = shared_mapping();
  const std::shared_lock lock(shared.mutex);
  return find_in(shared.registered, layer_name, device_type, capability, requested);
}

}  // namespace kernelhub
