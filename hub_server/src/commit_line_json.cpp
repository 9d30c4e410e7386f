// SPDX-License-Identifier: Apache-2.0
#include "commit_stream.h"
#include "server_errors.h"

#include "kernelhub/core/json_access.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace kernelhub::server {
namespace {

void read_header(const JsonObject& value, CommitLine& line) {
  line.summary = value.string("summary");
  line.description = value.optional_string("description").value_or("");
  line.parent = value.optional_string("parentCommit").value_or("");
  const bool is_hex = line.parent.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!line.parent.empty() && (line.parent.size() < 7 || line.parent.size() > 40 || !is_hex)) {
    value.fail("parentCommit", "7 to 40 hex digits", line.parent);
  }
}

}  // namespace

CommitLine parse_commit_line(std::string_view text, const std::string& origin) {
  const nlohmann::json document = parse_untrusted_json(text, origin);
  const JsonObject root(document, origin, "$", ErrorCode::kBadRequest);
  CommitLine line;
  line.key = root.string("key");
  const JsonObject value = root.object("value");
  if (line.key == "header") {
    read_header(value, line);
    return line;
  }
  line.path = value.string("path");
  if (line.key == "file") {
    line.encoding = value.optional_string("encoding").value_or("");
    line.has_undecoded_content = !value.optional_string("content").value_or("").empty();
  } else if (line.key == "lfsFile") {
    if (value.string("algo") != "sha256") value.fail("algo", "sha256", value.string("algo"));
    line.oid = value.string("oid");
    line.size_bytes = value.optional_unsigned("size");
  } else if (line.key != "deletedFile" && line.key != "deletedFolder") {
    root.fail("key", "header, file, lfsFile, deletedFile or deletedFolder", line.key);
  }
  return line;
}

}  // namespace kernelhub::server
