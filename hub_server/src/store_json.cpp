// SPDX-License-Identifier: Apache-2.0
#include "store_json.h"

#include "server_errors.h"

#include "kernelhub/core/json_access.h"

#include <nlohmann/json.hpp>

namespace kernelhub::server {
namespace {

using nlohmann::json;

// Trees of the largest repositories the limits allow (trust spec 5.1: 100,000 files).
constexpr JsonLimits kStoreLimits{256u << 20, 8, 2'000'000};

// One file of the store, with every failure turned into "the store is corrupt".
template <class F>
auto read_store_json(std::string_view bytes, const std::string& origin, F&& read) {
  try {
    const json document = parse_untrusted_json(bytes, origin, kStoreLimits);
    return read(JsonObject(document, origin, "$", ErrorCode::kStoreCorrupt));
  } catch (const Error& error) {
    throw server_errors::store_corrupt(origin, error.what());
  }
}

Digest sha1_of(const JsonObject& object, std::string_view key) {
  return Digest::from_hex(DigestAlgorithm::kSha1, object.string(key));
}

Digest sha256_of(const JsonObject& object, std::string_view key) {
  return Digest::from_hex(DigestAlgorithm::kSha256, object.string(key));
}

}  // namespace

std::string object_to_json(const StoredObject& object) {
  return json{{"sha256", object.sha256.hex()},
              {"git_blob", object.git_blob.hex()},
              {"size", object.size_bytes}}
      .dump();
}

StoredObject object_from_json(std::string_view bytes, const std::string& origin) {
  return read_store_json(bytes, origin, [](const JsonObject& object) {
    return StoredObject{sha256_of(object, "sha256"), sha1_of(object, "git_blob"),
                        object.unsigned_integer("size")};
  });
}

std::string repo_to_json(const RepoInfo& repo) {
  return json{{"format", 1}, {"private", repo.is_private}, {"created", repo.created_unix}}.dump();
}

RepoInfo repo_from_json(std::string_view bytes, const std::string& origin) {
  return read_store_json(bytes, origin, [](const JsonObject& object) {
    return RepoInfo{object.boolean("private"),
                    static_cast<std::int64_t>(object.unsigned_integer("created"))};
  });
}

std::string commit_to_json(const Commit& commit) {
  json parents = json::array();
  for (const CommitHash& parent : commit.parents) parents.push_back(parent.str());
  return json{{"id", commit.id.str()},
              {"tree", commit.tree.hex()},
              {"parents", parents},
              {"author", commit.author},
              {"time", commit.time_unix},
              {"title", commit.title},
              {"description", commit.description}}
      .dump();
}

Commit commit_from_json(std::string_view bytes, const std::string& origin) {
  return read_store_json(bytes, origin, [](const JsonObject& object) {
    Commit commit{CommitHash::parse(object.string("id")),
                  sha1_of(object, "tree"),
                  {},
                  object.string("author"),
                  static_cast<std::int64_t>(object.unsigned_integer("time")),
                  object.string("title"),
                  object.string("description")};
    for (const std::string& parent : object.strings("parents")) {
      commit.parents.push_back(CommitHash::parse(parent));
    }
    return commit;
  });
}

std::string tree_to_json(const Tree& tree) {
  json files = json::array();
  for (const auto& [path, file] : tree.files) {
    files.push_back({{"path", path},
                     {"size", file.size_bytes},
                     {"git_blob", file.git_blob.hex()},
                     {"sha256", file.sha256.hex()},
                     {"lfs", file.is_lfs}});
  }
  return json{{"id", tree.id.hex()}, {"files", files}}.dump();
}

Tree tree_from_json(std::string_view bytes, const std::string& origin) {
  return read_store_json(bytes, origin, [](const JsonObject& object) {
    Tree tree{sha1_of(object, "id"), {}, {}};
    for (const JsonObject& file : object.objects("files")) {
      tree.files.emplace(file.string("path"),
                         TreeFile{file.unsigned_integer("size"), sha1_of(file, "git_blob"),
                                  sha256_of(file, "sha256"), file.boolean("lfs")});
    }
    return tree;
  });
}

}  // namespace kernelhub::server
