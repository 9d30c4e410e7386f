// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/core/export.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

/// Every error text of core, made from facts; modules above use the ones about files.
namespace kernelhub::core_errors {

/// One fact of `Error::details()`.
using Fact = std::pair<std::string_view, std::string>;
/// JSON object text of the facts; invalid UTF-8 is replaced.
KERNELHUB_API std::string facts_json(std::initializer_list<Fact> facts);
/// Text for a message: control bytes escaped, cut at `max_bytes`.
KERNELHUB_API std::string printable(std::string_view text, std::size_t max_bytes = 200);

KERNELHUB_API Error invalid_argument(std::string_view name, std::string_view expected,
                                     std::string_view found);
KERNELHUB_API Error invalid_repo_id(std::string_view text, std::string_view reason);
KERNELHUB_API Error invalid_revision(std::string_view text, std::string_view reason);
KERNELHUB_API Error invalid_config(std::string_view variable, std::string_view found,
                                   std::string_view expected);
KERNELHUB_API Error no_home_directory(std::string_view needed_for);
KERNELHUB_API Error oidc_unsupported();
KERNELHUB_API Error invalid_json(std::string_view origin, std::uint64_t offset,
                                 std::string_view reason);
/// A field of a JSON document: `path` is a JSON path such as "$.backend.type".
KERNELHUB_API Error json_field(ErrorCode code, std::string_view origin, std::string_view path,
                               std::string_view expected, std::string_view found);
KERNELHUB_API Error lockfile_drift(const std::filesystem::path& file, std::string_view repo,
                                   std::string_view commit, std::string_view wanted_commit);
KERNELHUB_API Error unsafe_path(std::string_view path, std::string_view origin,
                                std::string_view reason);
/// kIo with the text of `error_number`.
KERNELHUB_API Error read_failed(const std::filesystem::path& path, int error_number);
KERNELHUB_API Error not_a_regular_file(const std::filesystem::path& path);
KERNELHUB_API Error file_too_large(const std::filesystem::path& path, std::uint64_t max_bytes);
/// kDiskFull, kReadOnly (permission or read-only file system) or kIo. `what` names the operation.
KERNELHUB_API Error write_failed(std::string_view what, const std::filesystem::path& path,
                                 int error_number);
/// `holder`: pid of the process that holds the lock, 0 when unknown.
KERNELHUB_API Error lock_timeout(const std::filesystem::path& path,
                                 std::chrono::milliseconds waited, long holder);
KERNELHUB_API Error lock_cancelled(const std::filesystem::path& path);
KERNELHUB_API Error invalid_digest(std::string_view what, std::string_view found,
                                   std::string_view expected);
KERNELHUB_API Error hash_unavailable(std::string_view algorithm, std::string_view reason);

}  // namespace kernelhub::core_errors
