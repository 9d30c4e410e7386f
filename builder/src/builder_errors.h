// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build_toml.h"
#include "kernelhub/builder/check.h"
#include "kernelhub/core/error.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::builder::builder_errors {

BuildError invalid_build_toml(const std::filesystem::path& file,
                              const std::vector<Diagnostic>& findings);
BuildError invalid_toml(const std::filesystem::path& file, int line, std::string_view reason);
BuildError unsupported_edition(const std::filesystem::path& file, std::string_view found);
BuildError missing_source(const std::filesystem::path& file, std::string_view listed_as);
BuildError source_outside(const std::filesystem::path& file, const std::filesystem::path& limit);
BuildError unsafe_source(const std::filesystem::path& file, std::string_view what);
BuildError stage_not_private(const std::filesystem::path& directory, std::string_view found);
BuildError git_failed(const std::filesystem::path& directory, std::string_view reason);
BuildError tool_missing(std::string_view tool, std::string_view needed_for, std::string_view hint);
BuildError tool_failed(std::string_view tool, std::string_view output);
BuildError dependency_missing(std::string_view dependency, std::string_view component);
BuildError bad_option(std::string_view option, std::string_view found, std::string_view expected);
BuildError no_common_archs(std::string_view component, const std::vector<std::string>& wanted,
                           const std::vector<std::string>& supported);
BuildError compile_failed(std::string_view variant, const std::vector<std::string>& labels,
                          const std::vector<std::string>& outputs);
BuildError cancelled(std::string_view variant);
BuildError link_failed(std::string_view variant, std::string_view output);
BuildError check_failed(std::string_view variant, const std::vector<CheckFinding>& findings);
BuildError import_failed(std::string_view variant, std::string_view how, std::string_view output);
BuildError nothing_to_build(const std::filesystem::path& directory,
                            const std::vector<std::string>& reasons);
BuildError package_invalid(const std::filesystem::path& directory, std::string_view reason);
BuildError stale_digest(const std::filesystem::path& directory,
                        const std::vector<std::string>& differences);
BuildError system_call_failed(std::string_view call, const std::filesystem::path& path,
                              int error_number);

}  // namespace kernelhub::builder::builder_errors
