// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/toml.h"

#include <algorithm>
#include <cstddef>

namespace kernelhub {
namespace {

constexpr int kMaxDots = 16;  // trust spec 5.1

bool is_key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

/// Index behind the string that begins at `at`, or behind its line when it does not end there.
std::size_t end_of_string(std::string_view text, std::size_t at) {
  const char quote = text[at];
  const bool is_long = text.substr(at, 3) == std::string(3, quote);
  const std::size_t width = is_long ? 3 : 1;
  for (at += width; at < text.size(); ++at) {
    if (text[at] == '\\' && quote == '"') {
      ++at;
    } else if (text.substr(at, width) == std::string(width, quote)) {
      return at + width;
    } else if (text[at] == '\n' && !is_long) {
      return at;
    }
  }
  return text.size();
}

}  // namespace

void require_shallow_keys(std::string_view text) {
  int dots = 0;
  std::uint32_t line = 1;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"' || c == '\'') {
      const std::size_t end = end_of_string(text, at);
      for (; at < end && at < text.size(); ++at) line += text[at] == '\n';
      continue;
    }
    if (c == '#') {
      at = std::min(text.find('\n', at), text.size());
      continue;
    }
    if (c == '.' && ++dots > kMaxDots) {
      throw TomlSyntaxError("a key with more than 16 dots", line);
    }
    if (c != '.' && c != ' ' && c != '\t' && !is_key_character(c)) dots = 0;
    line += c == '\n';
    ++at;
  }
}

}  // namespace kernelhub
