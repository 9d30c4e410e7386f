// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/layers/device_properties.h"
#include "kernelhub/layers/layer_repository.h"
#include "kernelhub/layers/mode.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// Which package serves a layer name on a device in a mode.
///
///   kernelhub::register_kernel_mapping(
///       {{"GELU", {{Device("cpu"), LayerRepository::hub("kernels-community/activation", "Gelu",
///                                                       KernelSpec::of_version(1))}}}});
namespace kernelhub {

/// A bare repository serves as the fallback entry.
struct MappingEntry {
  Device device;
  std::variant<LayerRepository, std::map<Mode, LayerRepository>> repo;
};
using KernelMapping = std::map<std::string, std::vector<MappingEntry>>;

enum class InheritMapping { kYes, kNo };

/// Reads a mapping file (docs/formats/mapping.md). `origin` names it in errors.
/// Throws kInvalidMapping with layer, entry and field; kInvalidJson.
KERNELHUB_API KernelMapping kernel_mapping_from_json(std::string_view json,
                                                     std::string_view origin = "mapping");
/// The mapping shipped with the library; not registered unless a program does so.
KERNELHUB_API const KernelMapping& default_kernel_mapping();

/// Adds entries, layer by layer and device by device: an entry replaces the one of the same device
/// type and capability range with all its modes. Inside a scope it changes that scope, else what
/// all threads without a scope see. With InheritMapping::kNo the calling thread starts from an
/// empty mapping of its own; other threads keep theirs. Any thread.
KERNELHUB_API void register_kernel_mapping(const KernelMapping& mapping,
                                           InheritMapping inherit = InheritMapping::kYes);

/// For its life, the calling thread sees its mapping with `mapping` added (or `mapping` alone).
/// Scopes nest; threads started inside do not see it. Must end on the thread that began it.
class KERNELHUB_API ScopedKernelMapping {
 public:
  explicit ScopedKernelMapping(const KernelMapping& mapping,
                               InheritMapping inherit = InheritMapping::kYes);
  ScopedKernelMapping(const ScopedKernelMapping&) = delete;
  ScopedKernelMapping& operator=(const ScopedKernelMapping&) = delete;
  ~ScopedKernelMapping();

 private:
  std::shared_ptr<void> outer_;
};

struct LayerChoice {
  LayerRepository repository;
  /// Mode the entry was registered for.
  Mode entry_mode;
};
/// Why no entry fits, in the order of the lookup.
enum class LookupMiss { kNoLayer, kNoDevice, kNoCompatibleProperties, kNoCompatibleMode };

/// Entry of the calling thread's mapping for a layer. `capability`: of the device in use, nothing
/// where there is none; needed for cuda and rocm. Several ranges match: the smallest one, of equal
/// ones the last registered. Throws LayerError kInvalidMode, kInvalidArgument for a device type
/// outside the vocabulary.
KERNELHUB_API std::variant<LayerChoice, LookupMiss> find_layer_repository(
    std::string_view layer_name, std::string_view device_type, std::optional<int> capability,
    Mode requested);

}  // namespace kernelhub
