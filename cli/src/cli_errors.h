// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"

#include <filesystem>
#include <string_view>

namespace kernelhub::cli::cli_errors {

Error bad_option(std::string_view option, std::string_view found, std::string_view expected);
Error no_repo_id(const std::filesystem::path& directory);
Error variants_differ(const std::filesystem::path& first, const std::filesystem::path& second,
                      std::string_view field, std::string_view a, std::string_view b);
Error foreign_name(const std::filesystem::path& directory, std::string_view name,
                   std::string_view repo);
Error foreign_repo(const std::filesystem::path& directory, std::string_view built_for,
                   std::string_view repo);

}  // namespace kernelhub::cli::cli_errors
