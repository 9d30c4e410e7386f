// SPDX-License-Identifier: Apache-2.0
#include "byte_range.h"

#include <algorithm>
#include <charconv>

namespace kernelhub::server {
namespace {

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<ByteRange> parse_byte_range(std::string_view header, std::uint64_t total) {
  constexpr std::string_view kUnit = "bytes=";
  if (header.substr(0, kUnit.size()) != kUnit) return std::nullopt;
  header.remove_prefix(kUnit.size());
  const std::size_t dash = header.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view from = header.substr(0, dash);
  const std::string_view to = header.substr(dash + 1);
  if (from.empty()) {
    const auto suffix = number(to);
    if (!suffix) return std::nullopt;
    const std::uint64_t size_bytes = std::min(*suffix, total);
    return ByteRange{total - size_bytes, size_bytes};
  }
  const auto first = number(from);
  const auto last = to.empty() ? std::optional<std::uint64_t>(UINT64_MAX) : number(to);
  if (!first || !last || *last < *first) return std::nullopt;
  if (*first >= total) return ByteRange{*first, 0};
  return ByteRange{*first, std::min(*last, total - 1) - *first + 1};
}

}  // namespace kernelhub::server
