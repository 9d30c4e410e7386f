// SPDX-License-Identifier: Apache-2.0
#include "default_mapping.h"

#include "kernelhub/core/json_access.h"
#include "kernelhub/layers/kernel_mapping.h"

#include <nlohmann/json.hpp>

#include <utility>

namespace kernelhub {
namespace {

std::optional<int> capability_end(const JsonObject& entry, std::string_view key) {
  const auto value = entry.optional_unsigned(key);
  if (!value) return {};
  if (*value > 10'000) entry.fail(key, "major * 10 + minor", std::to_string(*value));
  return static_cast<int>(*value);
}

Device device_of(const JsonObject& entry) {
  const auto min = capability_end(entry, "min_capability");
  const auto max = capability_end(entry, "max_capability");
  std::optional<CapabilityRange> range;
  if (min || max) {
    range.emplace();
    range->min = min.value_or(range->min);
    range->max = max.value_or(range->max);
  }
  try {
    return Device(entry.string("device"), range);
  } catch (const LayerError& error) {
    entry.fail("device", "a device of the mapping vocabulary", error.what());
  }
}

Mode mode_of(const JsonObject& entry) {
  std::optional<Mode> mode;
  for (const std::string& name : entry.strings("mode")) {
    try {
      mode = mode ? *mode | parse_mode(name) : parse_mode(name);
    } catch (const LayerError& error) {
      entry.fail("mode", "modes that go together", error.what());
    }
  }
  return mode.value_or(Mode::kFallback);
}

KernelSpec spec_of(const JsonObject& entry) {
  const auto version = entry.optional_unsigned("version");
  auto revision = entry.optional_string("revision");
  if (version.has_value() == revision.has_value()) {
    entry.fail("version", "exactly one of version and revision", version ? "both" : "neither");
  }
  return version ? KernelSpec::of_version(static_cast<std::int64_t>(*version))
                 : KernelSpec::of_revision(std::move(*revision));
}

LayerRepository repository_of(const JsonObject& entry) {
  try {
    return LayerRepository::hub(entry.string("repo"), entry.string("layer"), spec_of(entry));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInvalidMapping) throw;
    entry.fail("repo", "a repository and revision", error.what());
  }
}

/// Adds one entry: modes of one device and range meet in one mapping entry.
void add_entry(std::vector<MappingEntry>& entries, const JsonObject& entry) {
  entry.only({"device", "min_capability", "max_capability", "mode", "repo", "layer", "version",
              "revision"});
  const Device device = device_of(entry);
  const Mode mode = mode_of(entry);
  LayerRepository repository = repository_of(entry);
  for (MappingEntry& known : entries) {
    if (known.device.type() != device.type() || !(known.device.range() == device.range())) continue;
    auto& by_mode = std::get<std::map<Mode, LayerRepository>>(known.repo);
    if (!by_mode.emplace(mode, std::move(repository)).second) {
      entry.fail("mode", "each mode of a device once", mode_name(mode) + " twice");
    }
    return;
  }
  entries.push_back({device, std::map<Mode, LayerRepository>{{mode, std::move(repository)}}});
}

}  // namespace

KernelMapping kernel_mapping_from_json(std::string_view json, std::string_view origin) {
  const nlohmann::json root = parse_untrusted_json(json, origin);
  const JsonObject layers(root, origin, "", ErrorCode::kInvalidMapping);
  KernelMapping mapping;
  for (const std::string& name : layers.keys()) {
    if (!root.at(name).is_array() || root.at(name).empty()) {
      layers.fail(name, "a list of entries", root.at(name).dump());
    }
    for (const JsonObject& entry : layers.objects(name)) add_entry(mapping[name], entry);
  }
  return mapping;
}

const KernelMapping& default_kernel_mapping() {
  static const KernelMapping mapping =
      kernel_mapping_from_json(layers::kDefaultMapping, "mappings/default.json");
  return mapping;
}

}  // namespace kernelhub
