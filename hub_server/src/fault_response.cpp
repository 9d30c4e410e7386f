// SPDX-License-Identifier: Apache-2.0
#include "fault_response.h"

#include "server_errors.h"

#include <cerrno>
#include <unistd.h>

namespace kernelhub::server {
namespace {

void load_body(HttpResponse& response) {
  if (!response.file) return;
  response.body.resize(response.file->size_bytes);
  std::size_t filled = 0;
  while (filled < response.body.size()) {
    const ssize_t got =
        ::pread(response.file->fd.get(), response.body.data() + filled,
                response.body.size() - filled, static_cast<off_t>(response.file->offset + filled));
    if (got <= 0) throw server_errors::io_failed("read", "an object", got < 0 ? errno : EIO);
    filled += static_cast<std::size_t>(got);
  }
  response.file.reset();
}

}  // namespace

std::optional<HttpResponse> planned_response(const Fault& fault) {
  HttpResponse response;
  response.headers = fault.headers;
  if (fault.kind == FaultKind::kStatus) {
    response.status = fault.status;
    response.body = "{\"error\":\"planned fault\"}";
    if (!fault.error_code.empty()) {
      response.headers.emplace_back("X-Error-Code", fault.error_code);
      response.headers.emplace_back("X-Error-Message", "planned fault");
    }
    return response;
  }
  if (fault.kind == FaultKind::kRedirect) {
    response.status = 302;
    response.headers.emplace_back("Location", fault.location);
    return response;
  }
  return std::nullopt;
}

void spoil_response(const Fault& fault, HttpResponse& response) {
  switch (fault.kind) {
    case FaultKind::kCut:
      response.cut_after = fault.at_byte;
      break;
    case FaultKind::kDrop:
      response.is_dropped = true;
      break;
    case FaultKind::kFlipByte:
      load_body(response);
      if (fault.at_byte < response.body.size()) {
        response.body[fault.at_byte] = static_cast<char>(~response.body[fault.at_byte]);
      }
      break;
    case FaultKind::kWrongLength:
      load_body(response);
      response.body.resize(fault.at_byte);
      break;
    case FaultKind::kStatus:
    case FaultKind::kRedirect:
    case FaultKind::kStall:
    case FaultKind::kIgnoreRange:
      break;
  }
}

}  // namespace kernelhub::server
