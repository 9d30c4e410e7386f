// SPDX-License-Identifier: Apache-2.0
#include "http_message.h"

#include "server_errors.h"

#include <strings.h>

namespace kernelhub::server {

bool HeaderNameLess::operator()(const std::string& a, const std::string& b) const noexcept {
  return ::strcasecmp(a.c_str(), b.c_str()) < 0;
}

const std::string& HttpRequest::header(const std::string& name) const {
  static const std::string empty;
  const auto found = headers.find(name);
  return found == headers.end() ? empty : found->second;
}

std::string read_body(const HttpRequest& request, std::uint64_t max_bytes) {
  std::string body;
  request.stream_body([&](std::string_view piece) {
    if (body.size() + piece.size() > max_bytes) throw server_errors::body_too_large(max_bytes);
    body.append(piece);
  });
  return body;
}

}  // namespace kernelhub::server
