// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kernelhub {

enum class BackendKind : std::uint8_t { kCpu, kCuda, kRocm, kXpu, kMetal, kCann, kNeuron, kTpu };

/// Lower-case name as in metadata.json ("cuda").
KERNELHUB_API std::string_view backend_name(BackendKind kind) noexcept;
KERNELHUB_API std::optional<BackendKind> parse_backend_name(std::string_view name) noexcept;

/// major.minor of a toolkit, framework or ABI.
struct MajorMinor {
  int major = 0;
  int minor = 0;
  friend bool operator==(MajorMinor a, MajorMinor b) {
    return a.major == b.major && a.minor == b.minor;
  }
  friend bool operator!=(MajorMinor a, MajorMinor b) { return !(a == b); }
  friend bool operator<(MajorMinor a, MajorMinor b) {
    return a.major != b.major ? a.major < b.major : a.minor < b.minor;
  }
  std::string str() const { return std::to_string(major) + "." + std::to_string(minor); }
};
/// "13.0" or "13.0.88" (rest ignored); nothing when it does not start with two numbers.
KERNELHUB_API std::optional<MajorMinor> parse_major_minor(std::string_view text) noexcept;

/// A compute backend with its toolkit version where the variant name carries one.
struct KERNELHUB_API Backend {
  BackendKind kind = BackendKind::kCpu;
  std::optional<MajorMinor> version;  // cuda, rocm, xpu, cann only

  /// Compute part of a variant name: "cpu", "cu130", "rocm71", "metal", ...
  std::string compute_name() const;
  static std::optional<Backend> parse_compute_name(std::string_view text);
  friend bool operator==(const Backend& a, const Backend& b) {
    return a.kind == b.kind && a.version == b.version;
  }
};

}  // namespace kernelhub
