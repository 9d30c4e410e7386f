// SPDX-License-Identifier: Apache-2.0
#include "commit_listing.h"

#include "kernelhub/core/json_access.h"
#include "kernelhub/core/safe_path.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace kernelhub::hub {
namespace {

constexpr int kSidecarFormat = 1;
constexpr int kPythonTreeFormat = 1;
constexpr JsonLimits kListingLimits{.max_bytes = 64u << 20, .max_depth = 8, .max_nodes = 2'000'000};

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// One entry of `files`; the two formats differ only in the names of the ids.
TreeFile listed_file(const std::string& path, const JsonObject& entry, std::string_view oid_key,
                     std::string_view sha256_key) {
  TreeFile file;
  file.path = path;
  file.size_bytes = entry.unsigned_integer("size");
  file.git_oid = entry.string(oid_key);
  file.lfs_sha256 = entry.optional_string(sha256_key).value_or("");
  if (!SafeRelPath::is_safe(path)) entry.fail("path", "a plain relative path", path);
  if (!is_hex(file.git_oid, 40)) entry.fail(oid_key, "40 hex digits", file.git_oid);
  if (!file.lfs_sha256.empty() && !is_hex(file.lfs_sha256, 64)) {
    entry.fail(sha256_key, "64 hex digits", file.lfs_sha256);
  }
  return file;
}

Tree listed_files(const JsonObject& root, std::string_view oid_key, std::string_view sha256_key) {
  Tree tree;
  const JsonObject files = root.object("files");
  for (const std::string& path : files.keys()) {
    tree.files.push_back(listed_file(path, files.object(path), oid_key, sha256_key));
  }
  return tree;
}

// A damaged cache file is no failure: the caller asks the hub, or says what is missing offline.
template <class Parse>
std::optional<CommitListing> listing_or_nothing(Parse&& parse) {
  try {
    return parse();
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::string sidecar_to_json(const RepoId& repo, const CommitHash& commit,
                            const CommitListing& listing) {
  nlohmann::ordered_json json{
      {"format", kSidecarFormat}, {"repo", repo.str()}, {"commit", commit.str()}};
  nlohmann::ordered_json files = nlohmann::ordered_json::object();
  for (const auto& [path, file] : listing.files()) {
    nlohmann::ordered_json entry{{"size", file.size_bytes}, {"oid", file.git_oid}};
    if (!file.lfs_sha256.empty()) entry["sha256"] = file.lfs_sha256;
    files[path] = std::move(entry);
  }
  json["files"] = std::move(files);
  json["folders"] = listing.folders();
  json["complete"] = listing.complete();
  return json.dump(1);
}

std::optional<CommitListing> parse_sidecar(std::string_view bytes, const std::string& origin,
                                           const RepoId& repo, const CommitHash& commit) {
  return listing_or_nothing([&]() -> std::optional<CommitListing> {
    const nlohmann::json json = parse_untrusted_json(bytes, origin, kListingLimits);
    const JsonObject root(json, origin, "", ErrorCode::kCacheCorrupt);
    if (root.unsigned_integer("format") != kSidecarFormat) return std::nullopt;
    if (root.string("repo") != repo.str() || root.string("commit") != commit.str()) {
      return std::nullopt;
    }
    CommitListing listing;
    const JsonObject folders = root.object("folders");
    for (const std::string& folder : folders.keys()) {
      Tree tree;
      tree.directories = folders.strings(folder);
      for (const std::string& path : tree.directories) {
        if (!SafeRelPath::is_safe(path)) folders.fail(folder, "plain relative paths", path);
      }
      listing.add_folder(folder, tree);
    }
    for (const std::string& folder : root.strings("complete")) listing.add_recursive(folder, {});
    listing.add_files(listed_files(root, "oid", "sha256").files);
    return listing;
  });
}

std::optional<CommitListing> parse_python_tree(std::string_view bytes, const std::string& origin) {
  return listing_or_nothing([&]() -> std::optional<CommitListing> {
    const nlohmann::json json = parse_untrusted_json(bytes, origin, kListingLimits);
    const JsonObject root(json, origin, "", ErrorCode::kCacheCorrupt);
    if (root.unsigned_integer("format_version") != kPythonTreeFormat) return std::nullopt;
    CommitListing listing;
    listing.add_recursive("", listed_files(root, "blob_id", "lfs_sha256"));
    return listing;
  });
}

}  // namespace kernelhub::hub
