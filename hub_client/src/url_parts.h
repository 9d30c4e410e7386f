// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace kernelhub::hub {

/// Whom a URL talks to; two URLs have one origin when all three are equal.
struct Origin {
  std::string scheme;  // lower case
  std::string host;    // lower case
  std::string port;    // the scheme's own when the URL has none
  friend bool operator==(const Origin& a, const Origin& b) = default;
  bool is_https() const { return scheme == "https"; }
  bool is_loopback() const;
};

/// Nothing unless it is an absolute http or https URL with a host.
std::optional<Origin> origin_of(const std::string& url);
/// `location` (absolute or relative) seen from `base`; nothing when it is no URL.
std::optional<std::string> resolve_location(const std::string& base, const std::string& location);
/// Without query, fragment and credentials, for messages.
std::string without_query(const std::string& url);

}  // namespace kernelhub::hub
