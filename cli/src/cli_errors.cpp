// SPDX-License-Identifier: Apache-2.0
#include "cli_errors.h"

#include <fmt/format.h>

namespace kernelhub::cli::cli_errors {

Error bad_option(std::string_view option, std::string_view found, std::string_view expected) {
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("{}: found '{}', expected {}", option, found, expected));
}

Error no_repo_id(const std::filesystem::path& directory) {
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("no repository to upload {} to", directory.string()),
               "pass --repo-id org/name, or set general.hub.repo-id in build.toml");
}

Error variants_differ(const std::filesystem::path& first, const std::filesystem::path& second,
                      std::string_view field, std::string_view a, std::string_view b) {
  return Error(ErrorCode::kPackageInvalid,
               fmt::format("{} has {} {}, {} has {}", first.string(), field, a, second.string(), b),
               "build all variants from the same sources, or remove the stale ones");
}

Error foreign_name(const std::filesystem::path& directory, std::string_view name,
                   std::string_view repo) {
  return Error(
      ErrorCode::kPackageInvalid,
      fmt::format("{} is the kernel '{}', asked to upload it to {}", directory.string(), name,
                  repo),
      "use a repository of the kernel's name, or set general.name and build again; clients "
      "refuse a kernel of another name");
}

Error foreign_repo(const std::filesystem::path& directory, std::string_view built_for,
                   std::string_view repo) {
  return Error(ErrorCode::kPackageInvalid,
               fmt::format("{} was built for {}, asked to upload it to {}", directory.string(),
                           built_for, repo),
               "set general.hub.repo-id and build again; clients refuse a package that names "
               "another repository");
}

}  // namespace kernelhub::cli::cli_errors
