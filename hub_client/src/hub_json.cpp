// SPDX-License-Identifier: Apache-2.0
#include "hub_json.h"

#include "hub_errors.h"

#include "kernelhub/core/json_access.h"
#include "kernelhub/core/safe_path.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace kernelhub::hub {
namespace {

// Sizes are limited while receiving; these only bound shape.
constexpr JsonLimits kReplyLimits{.max_bytes = 32u << 20, .max_depth = 32, .max_nodes = 2'000'000};

nlohmann::json parse_reply(std::string_view bytes, const std::string& origin) {
  try {
    return parse_untrusted_json(bytes, origin, kReplyLimits);
  } catch (const Error& error) {
    throw hub_errors::not_a_hub(origin, error.what());
  }
}

JsonObject root_of(const nlohmann::json& json, const std::string& origin) {
  return JsonObject(json, origin, "", ErrorCode::kNotAHub);
}

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::vector<Branch> named_commits(const JsonObject& root, std::string_view key) {
  std::vector<Branch> refs;
  for (const JsonObject& entry : root.objects(key)) {
    const std::string commit = entry.string("targetCommit");
    if (!CommitHash::is_commit(commit)) entry.fail("targetCommit", "40 hex digits", commit);
    refs.push_back({entry.string("name"), CommitHash::parse(commit)});
  }
  return refs;
}

TreeFile tree_file(const JsonObject& entry, const std::string& origin) {
  TreeFile file;
  file.path = entry.string("path");
  file.size_bytes = entry.unsigned_integer("size");
  file.git_oid = entry.string("oid");
  if (!is_hex(file.git_oid, 40)) {
    throw hub_errors::unsafe_listing(origin, file.path, "its oid is not 40 hex digits");
  }
  if (const auto lfs = entry.optional_object("lfs")) {
    file.lfs_sha256 = lfs->string("oid");
    file.size_bytes = lfs->unsigned_integer("size");
    if (!is_hex(file.lfs_sha256, 64)) {
      throw hub_errors::unsafe_listing(origin, file.path, "its LFS oid is not 64 hex digits");
    }
  }
  return file;
}

void check_listed_path(const std::string& path, std::string_view folder,
                       const std::string& origin) {
  if (!SafeRelPath::is_safe(path)) {
    throw hub_errors::unsafe_listing(origin, path, "it is not a plain relative path");
  }
  const bool below =
      folder.empty() || (path.size() > folder.size() + 1 &&
                         path.compare(0, folder.size(), folder) == 0 && path[folder.size()] == '/');
  if (!below) {
    throw hub_errors::unsafe_listing(origin, path, fmt::format("it lies outside of {}", folder));
  }
}

}  // namespace

Refs parse_refs(std::string_view bytes, const std::string& origin) {
  const nlohmann::json json = parse_reply(bytes, origin);
  const JsonObject root = root_of(json, origin);
  return {named_commits(root, "branches"), named_commits(root, "tags")};
}

CommitHash parse_revision(std::string_view bytes, const std::string& origin) {
  const nlohmann::json json = parse_reply(bytes, origin);
  const std::string sha = root_of(json, origin).string("sha");
  if (!CommitHash::is_commit(sha)) root_of(json, origin).fail("sha", "40 hex digits", sha);
  return CommitHash::parse(sha);
}

void parse_tree_page(std::string_view bytes, const std::string& origin, std::string_view folder,
                     Tree& tree) {
  const nlohmann::json json = parse_reply(bytes, origin);
  if (!json.is_array()) throw hub_errors::not_a_hub(origin, "the listing is no JSON array");
  for (std::size_t i = 0; i < json.size(); ++i) {
    const JsonObject entry(json[i], origin, fmt::format("[{}]", i), ErrorCode::kNotAHub);
    const std::string path = entry.string("path");
    check_listed_path(path, folder, origin);
    const std::string type = entry.string("type");
    if (type == "file") {
      tree.files.push_back(tree_file(entry, origin));
    } else if (type == "directory") {
      tree.directories.push_back(path);
    } else {
      throw hub_errors::unsafe_listing(origin, path, "it is neither file nor directory");
    }
  }
}

bool parse_publisher_flag(std::string_view bytes, const std::string& origin) {
  const nlohmann::json json = parse_reply(bytes, origin);
  return root_of(json, origin).optional_boolean("trustedKernelPublisher").value_or(false);
}

std::optional<std::string> parse_error_text(std::string_view bytes) noexcept {
  try {
    const nlohmann::json json = parse_untrusted_json(bytes, "error reply");
    return JsonObject(json, "error reply", "", ErrorCode::kNotAHub).optional_string("error");
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string facts_to_json(const std::vector<std::pair<std::string, std::string>>& facts) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [key, value] : facts) {
    if (!value.empty()) json[key] = value;
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace kernelhub::hub
