// SPDX-License-Identifier: Apache-2.0
#include "check_dependencies.h"

#include "runtime_errors.h"

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

namespace kernelhub {
namespace {

constexpr std::array<int, 3> kPeerLevel = {0, 17, 2};

std::optional<std::array<int, 3>> parse_three_part(std::string_view text) {
  std::array<int, 3> parts{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parts[i]);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (i + 1 == parts.size()) break;
    if (text.empty() || text.front() != '.') return std::nullopt;
    text.remove_prefix(1);
  }
  return text.empty() ? std::optional(parts) : std::nullopt;
}

enum class ArchMatch { kYes, kNo, kUnparsable };

// `M.m` with suffix a (equal only), f or none (same major, newer minor), +PTX (anything newer).
ArchMatch match_arch(std::string_view entry, MajorMinor device) {
  constexpr std::string_view kPtx = "+PTX";
  bool ptx = false;
  if (entry.size() > kPtx.size() && entry.substr(entry.size() - kPtx.size()) == kPtx) {
    ptx = true;
    entry.remove_suffix(kPtx.size());
  }
  char suffix = 0;
  if (!entry.empty() && (entry.back() == 'a' || entry.back() == 'f')) {
    suffix = entry.back();
    entry.remove_suffix(1);
  }
  const auto arch = parse_major_minor(entry);
  if (!arch || arch->str() != entry) return ArchMatch::kUnparsable;
  bool fits = arch->major == device.major && device.minor >= arch->minor;
  if (suffix == 'a') fits = *arch == device;
  if (ptx && suffix == 0) fits = !(device < *arch);
  return fits ? ArchMatch::kYes : ArchMatch::kNo;
}

}  // namespace

void check_dependencies(const Metadata& metadata, const std::string& source) {
  if (metadata.kernels_minver) {
    const auto needed = parse_three_part(*metadata.kernels_minver);
    if (!needed || kPeerLevel < *needed) {
      throw runtime_errors::client_too_old(source, *metadata.kernels_minver);
    }
  }
  if (!metadata.kernel_depends.empty()) {
    throw runtime_errors::dependency_unsupported(source, metadata);
  }
}

void check_arch(const Metadata& metadata, const SystemInfo& system, const std::string& source) {
  if (metadata.backend != BackendKind::kCuda || metadata.archs.empty()) return;
  for (const MajorMinor device : system.cuda_devices) {
    bool any_parsable = false;
    bool any_match = false;
    for (const std::string& entry : metadata.archs) {
      const ArchMatch match = match_arch(entry, device);
      any_parsable = any_parsable || match != ArchMatch::kUnparsable;
      any_match = any_match || match == ArchMatch::kYes;
    }
    if (any_parsable && !any_match) throw runtime_errors::arch_mismatch(source, metadata, device);
  }
}

}  // namespace kernelhub
