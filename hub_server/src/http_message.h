// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/unique_fd.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kernelhub::server {

struct HeaderNameLess {
  bool operator()(const std::string& a, const std::string& b) const noexcept;
};
using HeaderMap = std::map<std::string, std::string, HeaderNameLess>;

/// A request as the routes see it; independent of the HTTP library.
struct HttpRequest {
  std::string method;
  std::string target;  // raw: percent-encoded path and query
  HeaderMap headers;   // first value of each name
  std::string remote_address;
  /// Streams the body, at most once, in pieces. Throws kBadRequest when the client vanishes or
  /// breaks framing. Empty body: no call.
  std::function<void(const std::function<void(std::string_view)>&)> stream_body;

  /// Empty when absent.
  const std::string& header(const std::string& name) const;
};

/// Part of an open file that becomes a body.
struct FileBody {
  UniqueFd fd;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
};

struct HttpResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string content_type = "application/json";
  std::string body;
  std::optional<FileBody> file;  // instead of `body`
  // Planned misbehaviour (fault_plan.h): end the connection after so many body bytes, or at once.
  std::optional<std::uint64_t> cut_after;
  bool is_dropped = false;

  std::uint64_t body_bytes() const noexcept { return file ? file->size_bytes : body.size(); }
};

/// Whole body as text. Throws kBadRequest with status 413 above `max_bytes`.
std::string read_body(const HttpRequest& request, std::uint64_t max_bytes = 16u << 20);

/// Decides the answer of one request. Must not throw.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

}  // namespace kernelhub::server
