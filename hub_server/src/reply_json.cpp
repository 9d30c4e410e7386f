// SPDX-License-Identifier: Apache-2.0
#include "reply_json.h"

#include "git_ids.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <ctime>
#include <utility>

namespace kernelhub::server {
namespace {

using nlohmann::json;

std::string iso_time(std::int64_t unix_seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.000Z",
                     fmt::gmtime(static_cast<std::time_t>(unix_seconds)));
}

std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json entry_json(const ListedEntry& entry) {
  if (entry.file == nullptr) {
    return {
        {"type", "directory"}, {"path", entry.path}, {"oid", entry.folder_id.hex()}, {"size", 0}};
  }
  const TreeFile& file = *entry.file;
  json value{{"type", "file"},
             {"path", entry.path},
             {"size", file.size_bytes},
             {"oid", listed_blob(file).hex()}};
  if (file.is_lfs) {
    value["lfs"] = {{"oid", file.sha256.hex()},
                    {"size", file.size_bytes},
                    {"pointerSize", lfs_pointer(file.sha256, file.size_bytes).size()}};
  }
  return value;
}

}  // namespace

HttpResponse json_response(std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  return response;
}

std::string repo_info_body(const RepoKey& repo, const RepoInfo& info, const Commit& commit,
                           const Tree& tree) {
  json body{{"id", repo.id.str()},
            {"sha", commit.id.str()},
            {"author", repo.id.ns()},
            {"private", info.is_private},
            {"gated", false},
            {"disabled", false},
            {"lastModified", iso_time(commit.time_unix)},
            {"createdAt", iso_time(info.created_unix)},
            {"downloads", 0},
            {"likes", 0},
            {"tags", json::array()}};
  if (repo.type == RepoType::kModel || repo.type == RepoType::kDataset) {
    body["siblings"] = json::array();
    for (const auto& [path, file] : tree.files) body["siblings"].push_back({{"rfilename", path}});
  }
  return text_of(body);
}

std::string refs_body(const std::vector<Branch>& branches, bool with_pull_requests) {
  json body{{"branches", json::array()}, {"tags", json::array()}, {"converts", json::array()}};
  for (const Branch& branch : branches) {
    body["branches"].push_back({{"name", branch.name},
                                {"ref", "refs/heads/" + branch.name},
                                {"targetCommit", branch.head.str()}});
  }
  if (with_pull_requests) body["pullRequests"] = json::array();
  return text_of(body);
}

std::string entries_body(const std::vector<ListedEntry>& entries) {
  json body = json::array();
  for (const ListedEntry& entry : entries) body.push_back(entry_json(entry));
  return text_of(body);
}

std::string whoami_body(const TokenRecord& token) {
  json orgs = json::array();
  for (const std::string& ns : token.namespaces) {
    if (ns != "*") orgs.push_back({{"name", ns}, {"type", "org"}});
  }
  const std::string role(role_name(token.role == Role::kRead ? Role::kRead : Role::kWrite));
  return text_of({{"name", token.name},
                  {"type", "user"},
                  {"orgs", orgs},
                  {"auth", {{"accessToken", {{"displayName", token.name}, {"role", role}}}}}});
}

std::string organization_body(const std::string& name, bool is_trusted_publisher) {
  return text_of({{"name", name},
                  {"fullname", name},
                  {"avatarUrl", ""},
                  {"isVerified", false},
                  {"trustedKernelPublisher", is_trusted_publisher}});
}

std::string user_body(const std::string& name) {
  return text_of({{"user", name}, {"fullname", name}, {"avatarUrl", ""}});
}

std::string harnesses_body() {
  return text_of({{"standardEnvVars", json::array()}, {"harnesses", json::object()}});
}

std::string health_body() { return text_of({{"status", "ok"}}); }

std::string created_repo_body(const RepoKey& repo, const std::string& url) {
  return text_of({{"url", url}, {"name", repo.id.str()}, {"id", repo.id.str()}});
}

std::string validated_yaml_body() {
  return text_of({{"errors", json::array()}, {"warnings", json::array()}});
}

std::string preupload_body(const std::vector<PreuploadAnswer>& files) {
  json list = json::array();
  for (const PreuploadAnswer& file : files) {
    json item{{"path", file.path},
              {"uploadMode", file.is_lfs ? "lfs" : "regular"},
              {"shouldIgnore", false}};
    if (file.current) item["oid"] = file.current->hex();
    list.push_back(std::move(item));
  }
  return text_of({{"files", list}});
}

std::string lfs_batch_body(const std::vector<LfsAnswer>& objects) {
  json list = json::array();
  for (const LfsAnswer& object : objects) {
    json item{{"oid", object.sha256.hex()}, {"size", object.size_bytes}};
    if (!object.upload_url.empty()) {
      item["actions"] = {{"upload", {{"href", object.upload_url}, {"header", json::object()}}},
                         {"verify", {{"href", object.verify_url}, {"header", json::object()}}}};
    }
    list.push_back(std::move(item));
  }
  return text_of({{"transfer", "basic"}, {"objects", list}});
}

std::string commit_body(const CommitHash& commit, const std::string& commit_url) {
  return text_of({{"success", true}, {"commitOid", commit.str()}, {"commitUrl", commit_url}});
}

}  // namespace kernelhub::server
