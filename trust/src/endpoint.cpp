// SPDX-License-Identifier: Apache-2.0
#include "endpoint.h"

#include <algorithm>

namespace kernelhub::trust {
namespace {

struct Parts {
  std::string scheme;     // lower case, without "://"
  std::string authority;  // lower case, without the default port
  std::string_view path;  // without trailing '/'
};

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

Parts split(std::string_view url) {
  const std::size_t colon = url.find("://");
  if (colon == std::string_view::npos) return {};
  Parts parts;
  parts.scheme = lower(url.substr(0, colon));
  if (parts.scheme != "http" && parts.scheme != "https") return {};
  url.remove_prefix(colon + 3);
  const std::size_t slash = std::min(url.find('/'), url.size());
  parts.authority = lower(url.substr(0, slash));
  parts.path = url.substr(slash);
  while (!parts.path.empty() && parts.path.back() == '/') parts.path.remove_suffix(1);
  const std::string default_port = parts.scheme == "http" ? ":80" : ":443";
  const std::size_t size = parts.authority.size();
  if (size > default_port.size() &&
      parts.authority.compare(size - default_port.size(), default_port.size(), default_port) == 0) {
    parts.authority.resize(size - default_port.size());
  }
  const bool is_bad = parts.authority.empty() || parts.authority.find('@') != std::string::npos ||
                      url.find_first_of("?#\\ ") != std::string_view::npos;
  return is_bad ? Parts{} : parts;
}

std::string_view host_of(std::string_view authority) {
  if (!authority.empty() && authority.front() == '[') {
    return authority.substr(0, authority.find(']') + 1);
  }
  return authority.substr(0, authority.find(':'));
}

/// "127.x.y.z" in numbers only: "127.0.0.1.example.org" is another machine.
bool is_loopback_address(std::string_view host) {
  return host.substr(0, 4) == "127." && std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

}  // namespace

std::string normalised_endpoint(std::string_view url) {
  const Parts parts = split(url);
  if (parts.scheme.empty()) return "";
  return parts.scheme + "://" + parts.authority + std::string(parts.path);
}

bool is_plain_remote(std::string_view url) {
  const Parts parts = split(url);
  if (parts.scheme != "http") return false;
  const std::string_view host = host_of(parts.authority);
  return host != "localhost" && host != "[::1]" && !is_loopback_address(host);
}

}  // namespace kernelhub::trust
