// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What a model is used for, and which failures leave a layer as it is. Values equal those of the
/// Python client, so a mapping means the same in both languages.
namespace kernelhub {

enum class Mode : std::uint32_t {
  kFallback = 1,  // only to register: serves every mode that has no entry of its own
  kTraining = 2,
  kInference = 4,
  kTorchCompile = 8,
};

/// Throws LayerError kInvalidMode for inference with training, and fallback with anything.
KERNELHUB_API Mode operator|(Mode a, Mode b);
/// True when every bit of `part` is set in `mode`.
constexpr bool contains(Mode mode, Mode part) noexcept {
  return (static_cast<std::uint32_t>(mode) & static_cast<std::uint32_t>(part)) ==
         static_cast<std::uint32_t>(part);
}
/// "INFERENCE", "INFERENCE|TORCH_COMPILE", ...
KERNELHUB_API std::string mode_name(Mode mode);
/// One mode by its upper-case name. Throws LayerError kInvalidMode listing the names.
KERNELHUB_API Mode parse_mode(std::string_view name);
/// Throws LayerError kInvalidMode unless `mode` has inference or training.
KERNELHUB_API void require_kernelize_mode(Mode mode);

/// Entries tried for a requested mode, best first: inference, for example, takes an inference
/// entry, then inference|compile, training, training|compile, fallback.
KERNELHUB_API const std::vector<Mode>& mode_chain(Mode requested);

/// What a layer can do beyond plain inference.
struct LayerAbilities {
  bool can_torch_compile = false;
  bool has_backward = false;
};

/// What an entry registered for one mode does for another.
enum class ModeVerdict : std::uint8_t {
  kUse,
  kKeepOriginal,   // a fallback entry whose layer lacks what the requested mode needs
  kBrokenPromise,  // the entry's own mode asks for what the layer lacks
};
/// Pure: `entry` is the chosen entry's mode, `requested` the mode of the call.
KERNELHUB_API ModeVerdict judge_mode(Mode entry, Mode requested, LayerAbilities abilities) noexcept;

/// Failures after which kernelize leaves a layer on its own forward instead of throwing.
enum class KernelizeFallback : std::uint32_t {
  kNone = 0,
  kNoLayer = 1,                 // name not mapped
  kNoDevice = 2,                // no entry for the device type
  kNoCompatibleProperties = 4,  // no entry for the device's capability
  kNoCompatibleMode = 8,        // no entry for the mode, or its layer lacks the ability
  kCannotLoad = 16,             // no build fits, or it is not cached offline
  kDefault = 15,
  kAll = 31,
};
constexpr KernelizeFallback operator|(KernelizeFallback a, KernelizeFallback b) noexcept {
  return static_cast<KernelizeFallback>(static_cast<std::uint32_t>(a) |
                                        static_cast<std::uint32_t>(b));
}
constexpr bool contains(KernelizeFallback set, KernelizeFallback part) noexcept {
  return (static_cast<std::uint32_t>(set) & static_cast<std::uint32_t>(part)) ==
         static_cast<std::uint32_t>(part);
}

}  // namespace kernelhub
