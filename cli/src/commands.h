// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/server/hub_server.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

/// The verbs of the program: a plain struct in, an exit code out. Output goes to stdout, progress
/// and warnings to stderr; with `json` stdout holds one JSON document. Errors are thrown.
namespace kernelhub::cli {

struct BuildArgs {
  std::filesystem::path directory = ".";
  std::string variant, backend;
  std::vector<std::string> archs, components;
  int jobs = 0;
  std::filesystem::path python, torch;
  std::string unique_id;
  std::map<std::string, std::filesystem::path> dependencies;
  bool strict = false, dry_run = false, force = false, json = false;
};
int build(const BuildArgs& args);

struct CheckArgs {
  std::filesystem::path directory = ".";
  std::string manylinux = "manylinux_2_28", python_abi = "3.9", torch_stable_abi;
  bool strict = false, json = false;
};
int check(const CheckArgs& args);

struct UploadArgs {
  std::filesystem::path directory = ".";
  std::string repo_id, branch;
  bool is_private = false, force = false, dry_run = false, json = false;
};
int upload(const UploadArgs& args);

struct ServeArgs {
  server::ServerOptions options;
  bool json = false;
};
int serve(const ServeArgs& args);

/// Version and revision of a repository; neither: the newest version, else `main`.
struct RevisionArgs {
  std::optional<std::int64_t> version;
  std::optional<std::string> revision;
};

struct DownloadArgs {
  std::string target;  // repository id, or a folder with kernels.lock
  RevisionArgs at;
  std::string backend, torch;
  std::vector<std::string> trust_remote_code;
  bool all_variants = false, json = false;
};
int download(const DownloadArgs& args);

struct InfoArgs {
  std::string target;  // repository id or local path
  RevisionArgs at;
  bool json = false;
};
int info(const InfoArgs& args);

struct VersionsArgs {
  std::string repo, backend, torch;
  bool json = false;
};
int versions(const VersionsArgs& args);

using Command =
    std::variant<BuildArgs, CheckArgs, UploadArgs, ServeArgs, DownloadArgs, InfoArgs, VersionsArgs>;

}  // namespace kernelhub::cli
