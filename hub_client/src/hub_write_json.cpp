// SPDX-License-Identifier: Apache-2.0
#include "hub_write_json.h"

#include "hub_errors.h"

#include "kernelhub/core/json_access.h"

#include <nlohmann/json.hpp>

namespace kernelhub::hub {
namespace {

using Json = nlohmann::ordered_json;

nlohmann::json parse_reply(std::string_view bytes, const std::string& origin) {
  try {
    return parse_untrusted_json(bytes, origin, {.max_bytes = 4u << 20});
  } catch (const Error& error) {
    throw hub_errors::not_a_hub(origin, error.what());
  }
}

std::string line(const char* key, Json value) {
  return Json{{"key", key}, {"value", std::move(value)}}.dump() + "\n";
}

LfsAction lfs_action(const JsonObject& object) {
  LfsAction action;
  action.sha256 = object.string("oid");
  if (const auto error = object.optional_object("error")) {
    action.error = error->optional_string("message").value_or("no reason given");
  }
  const auto actions = object.optional_object("actions");
  if (!actions) return action;
  if (const auto upload = actions->optional_object("upload")) {
    action.upload_url = upload->string("href");
    if (const auto headers = upload->optional_object("header")) {
      for (const std::string& name : headers->keys()) {
        action.upload_headers.emplace_back(name, headers->string(name));
      }
    }
  }
  if (const auto verify = actions->optional_object("verify")) {
    action.verify_url = verify->string("href");
  }
  return action;
}

}  // namespace

std::string create_repo_body(const RepoId& repo, bool is_private) {
  Json body{{"name", std::string(repo.name())}};
  if (!repo.ns().empty()) body["organization"] = std::string(repo.ns());
  body["type"] = "kernel";
  body["visibility"] = is_private ? "private" : "public";
  return body.dump();
}

std::string create_branch_body(const CommitHash& starting_point) {
  return Json{{"startingPoint", starting_point.str()}}.dump();
}

std::string preupload_body(const std::vector<UploadFile>& files) {
  Json list = Json::array();
  for (const UploadFile& file : files) {
    list.push_back(
        {{"path", file.path}, {"size", file.size_bytes}, {"sample", file.sample_base64}});
  }
  return Json{{"files", std::move(list)}}.dump();
}

std::map<std::string, FileMode> parse_preupload(std::string_view bytes, const std::string& origin) {
  const nlohmann::json json = parse_reply(bytes, origin);
  std::map<std::string, FileMode> modes;
  for (const JsonObject& file :
       JsonObject(json, origin, "", ErrorCode::kNotAHub).objects("files")) {
    const std::string mode = file.string("uploadMode");
    if (mode != "regular" && mode != "lfs") file.fail("uploadMode", "regular or lfs", mode);
    modes[file.string("path")] = mode == "lfs" ? FileMode::kLfs : FileMode::kRegular;
  }
  return modes;
}

std::string lfs_batch_body(const std::vector<LfsObject>& objects, const std::string& branch) {
  Json list = Json::array();
  for (const LfsObject& object : objects) {
    list.push_back({{"oid", object.sha256}, {"size", object.size_bytes}});
  }
  return Json{{"operation", "upload"},
              {"transfers", {"basic"}},
              {"objects", std::move(list)},
              {"hash_algo", "sha256"},
              {"ref", {{"name", branch}}}}
      .dump();
}

std::vector<LfsAction> parse_lfs_batch(std::string_view bytes, const std::string& origin) {
  const nlohmann::json json = parse_reply(bytes, origin);
  const JsonObject root(json, origin, "", ErrorCode::kNotAHub);
  const std::string transfer = root.optional_string("transfer").value_or("basic");
  if (transfer != "basic") root.fail("transfer", "basic", transfer);
  std::vector<LfsAction> actions;
  for (const JsonObject& object : root.objects("objects")) actions.push_back(lfs_action(object));
  return actions;
}

std::string lfs_verify_body(const LfsObject& object) {
  return Json{{"oid", object.sha256}, {"size", object.size_bytes}}.dump();
}

std::string commit_header_line(const std::string& summary, const std::string& description,
                               const CommitHash& parent) {
  return line("header",
              {{"summary", summary}, {"description", description}, {"parentCommit", parent.str()}});
}

FileLine commit_file_line(const std::string& path) {
  const Json quoted = path;
  return {
      R"({"key":"file","value":{"path":)" + quoted.dump() + R"(,"encoding":"base64","content":")",
      "\"}}\n"};
}

std::string commit_lfs_line(const std::string& path, const LfsObject& object) {
  return line(
      "lfsFile",
      {{"path", path}, {"algo", "sha256"}, {"oid", object.sha256}, {"size", object.size_bytes}});
}

std::string commit_deletion_line(const std::string& path) {
  return line("deletedFile", {{"path", path}});
}

CommitReply parse_commit_reply(std::string_view bytes, const std::string& origin) {
  const nlohmann::json json = parse_reply(bytes, origin);
  const JsonObject root(json, origin, "", ErrorCode::kNotAHub);
  const std::string commit = root.string("commitOid");
  if (!CommitHash::is_commit(commit)) root.fail("commitOid", "40 hex digits", commit);
  return {CommitHash::parse(commit), root.optional_string("commitUrl").value_or("")};
}

}  // namespace kernelhub::hub
