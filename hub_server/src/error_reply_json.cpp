// SPDX-License-Identifier: Apache-2.0
#include "error_reply.h"

#include <nlohmann/json.hpp>

namespace kernelhub::server {
namespace {

using nlohmann::json;

struct CodeRow {
  ErrorCode code;
  int status;
  const char* error_code;
};
// Hub spec 2.2; other codes are 500 ServerError.
constexpr CodeRow kRows[] = {
    {ErrorCode::kRepoNotFound, 404, "RepoNotFound"},
    {ErrorCode::kRevisionNotFound, 404, "RevisionNotFound"},
    {ErrorCode::kEntryNotFound, 404, "EntryNotFound"},
    {ErrorCode::kAuthInvalid, 401, "AuthInvalid"},
    {ErrorCode::kAuthRequired, 401, "AuthRequired"},
    {ErrorCode::kForbidden, 403, "Forbidden"},
    {ErrorCode::kConflict, 409, "Conflict"},
    {ErrorCode::kPreconditionFailed, 412, "PreconditionFailed"},
    {ErrorCode::kRateLimited, 429, "RateLimited"},
    {ErrorCode::kBadRequest, 400, "BadRequest"},
    {ErrorCode::kUnsafePath, 400, "UnsafePath"},
    {ErrorCode::kInvalidRepoId, 400, "InvalidRepoId"},
    {ErrorCode::kInvalidJson, 400, "InvalidJson"},
    {ErrorCode::kInvalidDigest, 400, "InvalidDigest"},
    {ErrorCode::kDiskFull, 507, "DiskFull"},
};

CodeRow row_of(ErrorCode code) {
  for (const CodeRow& row : kRows) {
    if (row.code == code) return row;
  }
  return {code, 500, "ServerError"};
}

// Texts may quote what a client sent; a header takes printable ASCII only.
std::string header_safe(std::string text) {
  for (char& c : text) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return text;
}

}  // namespace

std::string to_details(const ErrorReply& reply) {
  json details = json::object();
  if (reply.status != 0) details["status"] = reply.status;
  if (!reply.error_code.empty()) details["error_code"] = reply.error_code;
  if (!reply.headers.empty()) details["headers"] = reply.headers;
  if (!reply.fields.empty()) details["fields"] = reply.fields;
  return details.dump(-1, ' ', false, json::error_handler_t::replace);
}

HttpResponse error_response(const Error& error) {
  const CodeRow row = row_of(error.code());
  const json details = json::parse(error.details());
  HttpResponse response;
  response.status = details.value("status", row.status);
  // A failure of this machine names local paths: the log has it, the client gets the class only.
  const bool internal = response.status >= 500;
  const std::string text = internal && row.status == 500 ? "internal server error" : error.what();
  response.headers = {{"X-Error-Code", details.value("error_code", std::string(row.error_code))},
                      {"X-Error-Message", header_safe(text)}};
  const json headers = details.value("headers", json::object());
  for (const auto& [name, value] : headers.items()) {
    response.headers.emplace_back(name, header_safe(value.get<std::string>()));
  }
  json body = details.value("fields", json::object());
  body["error"] = text;
  response.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
  return response;
}

}  // namespace kernelhub::server
