// SPDX-License-Identifier: Apache-2.0
#include "request_target.h"

#include "server_errors.h"

#include <fmt/format.h>

#include <algorithm>

namespace kernelhub::server {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string decode_once(std::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      decoded += ' ';
    } else if (text[i] != '%') {
      decoded += text[i];
    } else {
      const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
      if (high < 0 || low < 0) throw server_errors::bad_request("broken percent escape in the URL");
      decoded += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return decoded;
}

std::string decode_segment(std::string_view segment) {
  std::string decoded = decode_once(segment, false);
  for (const unsigned char c : decoded) {
    if (c < 0x20 || c == 0x7f || c == '\\') {
      throw server_errors::bad_request("control byte or backslash in the URL path");
    }
  }
  return decoded;
}

}  // namespace

RequestTarget RequestTarget::parse(std::string_view target, std::string_view base_path) {
  if (target.empty() || target[0] != '/') {
    throw server_errors::bad_request("request target is not an absolute path");
  }
  RequestTarget parsed;
  const std::size_t question = target.find('?');
  parsed.path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) {
    parsed.raw_query = std::string(target.substr(question + 1));
    for (auto& [name, value] : decode_form(parsed.raw_query)) {
      parsed.query.emplace(std::move(name), std::move(value));
    }
  }
  std::string_view rest = parsed.path;
  if (rest.substr(0, base_path.size()) != base_path) throw server_errors::unknown_route(rest);
  rest.remove_prefix(base_path.size());
  if (rest.empty() || rest[0] != '/') throw server_errors::unknown_route(parsed.path);
  rest.remove_prefix(1);
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    parsed.segments.push_back(decode_segment(rest.substr(0, slash)));
    rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
  }
  return parsed;
}

std::string RequestTarget::rest(std::size_t first) const {
  std::string joined;
  for (std::size_t i = first; i < segments.size(); ++i) {
    if (i > first) joined += '/';
    joined += segments[i];
  }
  return joined;
}

std::vector<std::pair<std::string, std::string>> decode_form(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!text.empty()) {
    const std::size_t end = text.find('&');
    const std::string_view item = text.substr(0, end);
    const std::size_t equals = item.find('=');
    if (!item.empty()) {
      pairs.emplace_back(decode_once(item.substr(0, equals), true),
                         equals == std::string_view::npos
                             ? std::string()
                             : decode_once(item.substr(equals + 1), true));
    }
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return pairs;
}

std::string encode_component(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') ||
                            std::string_view("-._~").find(c) != std::string_view::npos;
    if (unreserved) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace kernelhub::server
