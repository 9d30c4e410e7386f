// SPDX-License-Identifier: Apache-2.0
#include "request_json.h"

#include "server_errors.h"

#include "kernelhub/core/json_access.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kernelhub::server {
namespace {

constexpr JsonLimits kBodyLimits{16u << 20, 16, 2'000'000};
constexpr std::size_t kMaxBatch = 256;
constexpr std::string_view kOrigin = "request body";

template <class F>
auto read_body_json(std::string_view body, F&& read) {
  const nlohmann::json document =
      parse_untrusted_json(body.empty() ? std::string_view("{}") : body, kOrigin, kBodyLimits);
  return read(JsonObject(document, kOrigin, "$", ErrorCode::kBadRequest));
}

RepoType parse_type(const JsonObject& body) {
  const std::string word = body.optional_string("type").value_or("model");
  for (const RepoTypeNames& names : kRepoTypes) {
    if (names.word == word) return names.type;
  }
  body.fail("type", "model, dataset, space or kernel", word);
}

bool parse_visibility(const JsonObject& body) {
  const auto visibility = body.optional_string("visibility");
  if (!visibility) return body.optional_boolean("private").value_or(false);
  if (*visibility != "private" && *visibility != "public") {
    body.fail("visibility", "private or public", *visibility);
  }
  return *visibility == "private";
}

LfsObject lfs_object(const JsonObject& object) {
  return {Digest::from_hex(DigestAlgorithm::kSha256, object.string("oid")),
          object.unsigned_integer("size")};
}

}  // namespace

CreateRepoRequest parse_create_repo(std::string_view body) {
  return read_body_json(body, [](const JsonObject& object) {
    return CreateRepoRequest{object.string("name"),
                             object.optional_string("organization").value_or(""),
                             parse_type(object), parse_visibility(object)};
  });
}

std::string parse_starting_point(std::string_view body) {
  return read_body_json(body, [](const JsonObject& object) {
    return object.optional_string("startingPoint").value_or("main");
  });
}

std::vector<std::string> parse_paths(std::string_view body) {
  return read_body_json(body, [](const JsonObject& object) { return object.strings("paths"); });
}

std::vector<PreuploadFile> parse_preupload(std::string_view body) {
  return read_body_json(body, [](const JsonObject& object) {
    std::vector<PreuploadFile> files;
    for (const JsonObject& file : object.objects("files")) {
      files.push_back({file.string("path"), file.unsigned_integer("size")});
    }
    if (files.size() > kMaxBatch) {
      throw server_errors::too_many_items("files", files.size(), kMaxBatch);
    }
    return files;
  });
}

std::vector<LfsObject> parse_lfs_batch(std::string_view body) {
  return read_body_json(body, [](const JsonObject& object) {
    if (const std::string operation = object.string("operation"); operation != "upload") {
      object.fail("operation", "upload (downloads use resolve)", operation);
    }
    const std::vector<std::string> transfers = object.strings("transfers");
    if (!transfers.empty() && std::count(transfers.begin(), transfers.end(), "basic") == 0) {
      object.fail("transfers", "a list with basic", transfers.front());
    }
    std::vector<LfsObject> objects;
    for (const JsonObject& item : object.objects("objects")) objects.push_back(lfs_object(item));
    if (objects.size() > kMaxBatch) {
      throw server_errors::too_many_items("objects", objects.size(), kMaxBatch);
    }
    return objects;
  });
}

LfsObject parse_lfs_verify(std::string_view body) { return read_body_json(body, lfs_object); }

void check_yaml_request(std::string_view body) {
  read_body_json(body, [](const JsonObject& object) { return object.string("content"); });
}

}  // namespace kernelhub::server
