// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/variant.h"

#include <charconv>
#include <utility>
#include <vector>

namespace kernelhub {
namespace {

constexpr std::string_view kStablePrefix = "torch-stable-abi";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

/// One-digit major followed by the minor: "211" is 2.11.
std::optional<MajorMinor> parse_compact_version(std::string_view digits) {
  if (digits.size() < 2 || digits.size() > 8) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  MajorMinor version;
  version.major = digits[0] - '0';
  std::from_chars(digits.data() + 1, digits.data() + digits.size(), version.minor);
  return version;
}

struct Arch {
  Backend backend;
  std::string cpu;
  std::string os;
};

std::optional<Arch> parse_arch(const std::vector<std::string_view>& parts, std::size_t first) {
  if (parts.size() != first + 3) return std::nullopt;
  const auto backend = Backend::parse_compute_name(parts[first]);
  if (!backend || parts[first + 1].empty() || parts[first + 2].empty()) return std::nullopt;
  return Arch{*backend, std::string(parts[first + 1]), std::string(parts[first + 2])};
}

struct ParsedName {
  Framework framework;
  std::optional<Arch> arch;
};

std::optional<ParsedName> with_arch(Framework framework, std::optional<Arch> arch) {
  if (!arch) return std::nullopt;
  return ParsedName{std::move(framework), std::move(arch)};
}

std::optional<ParsedName> parse_stable(std::string_view rest) {
  const auto parts = split(rest, '-');
  const auto abi = parse_compact_version(parts[0]);
  if (!abi) return std::nullopt;
  return with_arch(TorchStableFramework{*abi}, parse_arch(parts, 1));
}

std::optional<ParsedName> parse_torch(const std::vector<std::string_view>& parts) {
  const auto version = parse_compact_version(parts[0].substr(std::string_view("torch").size()));
  if (!version) return std::nullopt;
  TorchFramework framework{*version, std::nullopt};
  const bool tagged = parts.size() > 1 && (parts[1] == "cxx11" || parts[1] == "cxx98");
  if (tagged) framework.cxx_abi = std::string(parts[1]);
  return with_arch(std::move(framework), parse_arch(parts, tagged ? 2 : 1));
}

std::optional<ParsedName> parse_name(std::string_view name) {
  if (name.substr(0, kStablePrefix.size()) == kStablePrefix) {
    return parse_stable(name.substr(kStablePrefix.size()));
  }
  const auto parts = split(name, '-');
  if (parts[0] == "torch") {
    const std::size_t start = std::min(name.size(), std::string_view("torch-").size());
    return ParsedName{NoarchFramework{std::string(name.substr(start))}, std::nullopt};
  }
  if (parts[0].substr(0, 5) == "torch") return parse_torch(parts);
  if (parts[0] == "tvm" && parts.size() > 1 && parts[1].substr(0, 3) == "ffi") {
    const auto version = parse_compact_version(parts[1].substr(3));
    if (!version) return std::nullopt;
    return with_arch(TvmFfiFramework{*version}, parse_arch(parts, 2));
  }
  return std::nullopt;
}

}  // namespace

std::optional<Variant> Variant::parse(std::string_view directory_name) {
  auto parsed = parse_name(directory_name);
  if (!parsed) return std::nullopt;
  Variant variant;
  variant.text_ = std::string(directory_name);
  variant.framework_ = std::move(parsed->framework);
  if (parsed->arch) {
    variant.backend_ = parsed->arch->backend;
    variant.cpu_ = std::move(parsed->arch->cpu);
    variant.os_ = std::move(parsed->arch->os);
  }
  return variant;
}

}  // namespace kernelhub
