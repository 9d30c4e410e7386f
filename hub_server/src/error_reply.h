// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_message.h"

#include "kernelhub/core/error.h"

#include <map>
#include <string>

namespace kernelhub::server {

/// What an answer needs beyond the error code; kept as JSON in Error::details().
struct ErrorReply {
  int status = 0;                                // 0: the default of the code
  std::string error_code{};                      // X-Error-Code; empty: the default of the code
  std::map<std::string, std::string> headers{};  // additional headers
  std::map<std::string, std::string> fields{};   // additional fields of the body
};

std::string to_details(const ErrorReply& reply);
/// Status, X-Error-Code, X-Error-Message and body {"error": ...} of a failed request (hub
/// spec 2.2).
HttpResponse error_response(const Error& error);

}  // namespace kernelhub::server
