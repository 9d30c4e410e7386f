// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/backend.h"

#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace kernelhub {
namespace {

struct BackendRow {
  BackendKind kind;
  std::string_view name;
  std::string_view prefix;  // of the compute part of a variant name
  bool has_version;
};

constexpr std::array<BackendRow, 8> kBackends = {{
    {BackendKind::kCpu, "cpu", "cpu", false},
    {BackendKind::kCuda, "cuda", "cu", true},
    {BackendKind::kRocm, "rocm", "rocm", true},
    {BackendKind::kXpu, "xpu", "xpu", true},
    {BackendKind::kMetal, "metal", "metal", false},
    {BackendKind::kCann, "cann", "cann", true},
    {BackendKind::kNeuron, "neuron", "neuron", false},
    {BackendKind::kTpu, "tpu", "tpu", false},
}};

const BackendRow& row_of(BackendKind kind) { return kBackends[static_cast<std::size_t>(kind)]; }

std::optional<int> parse_digits(std::string_view text) {
  int value = 0;
  if (text.empty() || text.size() > 8) return std::nullopt;
  if (text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

std::string_view backend_name(BackendKind kind) noexcept { return row_of(kind).name; }

std::optional<BackendKind> parse_backend_name(std::string_view name) noexcept {
  for (const BackendRow& row : kBackends) {
    if (row.name == name) return row.kind;
  }
  return std::nullopt;
}

std::optional<MajorMinor> parse_major_minor(std::string_view text) noexcept {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view rest = text.substr(dot + 1);
  const std::size_t end = rest.find_first_not_of("0123456789");
  const auto major = parse_digits(text.substr(0, dot));
  const auto minor = parse_digits(rest.substr(0, end));
  if (!major || !minor) return std::nullopt;
  return MajorMinor{*major, *minor};
}

std::string Backend::compute_name() const {
  const BackendRow& row = row_of(kind);
  if (!row.has_version) return std::string(row.prefix);
  if (!version || version->minor > 9) {
    throw core_errors::invalid_argument(fmt::format("{} version", row.name),
                                        "major.minor with a one-digit minor",
                                        version ? version->str() : "none");
  }
  return fmt::format("{}{}{}", row.prefix, version->major, version->minor);
}

std::optional<Backend> Backend::parse_compute_name(std::string_view text) {
  for (const BackendRow& row : kBackends) {
    if (!row.has_version) {
      if (text == row.prefix) return Backend{row.kind, std::nullopt};
      continue;
    }
    if (text.substr(0, row.prefix.size()) != row.prefix) continue;
    const std::string_view digits = text.substr(row.prefix.size());
    if (digits.size() < 2) continue;
    const auto major = parse_digits(digits.substr(0, digits.size() - 1));
    const auto minor = parse_digits(digits.substr(digits.size() - 1));
    if (major && minor) return Backend{row.kind, MajorMinor{*major, *minor}};
  }
  return std::nullopt;
}

}  // namespace kernelhub
