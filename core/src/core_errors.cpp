// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace kernelhub::core_errors {
namespace {

std::string errno_text(int error_number) { return std::generic_category().message(error_number); }

ErrorCode write_code(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return ErrorCode::kDiskFull;
    case EROFS:
    case EACCES:
    case EPERM:
      return ErrorCode::kReadOnly;
    default:
      return ErrorCode::kIo;
  }
}

std::string_view write_hint(ErrorCode code) {
  if (code == ErrorCode::kDiskFull) return "free space on that file system and run again";
  if (code == ErrorCode::kReadOnly) return "make the directory writable or choose another one";
  return "";
}

}  // namespace

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string out;
  for (const char c : text.substr(0, max_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  if (text.size() > max_bytes) out += "...";
  return out;
}

Error invalid_argument(std::string_view name, std::string_view expected, std::string_view found) {
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("{}: expected {}, found {}", name, expected, printable(found)), {},
               facts_json({{"argument", std::string(name)},
                           {"expected", std::string(expected)},
                           {"found", std::string(found)}}));
}

Error invalid_repo_id(std::string_view text, std::string_view reason) {
  return Error(ErrorCode::kInvalidRepoId,
               fmt::format("repo id '{}' is not valid: {}", printable(text), reason),
               "write it as namespace/name with letters, digits, '_', '.' and '-'",
               facts_json({{"repo", std::string(text)}, {"reason", std::string(reason)}}));
}

Error invalid_revision(std::string_view text, std::string_view reason) {
  return Error(ErrorCode::kInvalidRevision,
               fmt::format("revision '{}' is not valid: {}", printable(text), reason),
               "name a branch, a tag or a commit of 40 hex digits",
               facts_json({{"revision", std::string(text)}, {"reason", std::string(reason)}}));
}

Error invalid_config(std::string_view variable, std::string_view found, std::string_view expected) {
  return Error(ErrorCode::kInvalidConfig,
               fmt::format("Invalid {} entry: expected {}, found '{}'", variable, expected,
                           printable(found)),
               fmt::format("correct or unset {}", variable),
               facts_json({{"variable", std::string(variable)},
                           {"expected", std::string(expected)},
                           {"found", std::string(found)}}));
}

Error no_home_directory(std::string_view needed_for) {
  return Error(
      ErrorCode::kInvalidConfig,
      fmt::format("{} is unknown: HOME is not set and the user has no home directory", needed_for),
      "set HOME, or HF_HOME together with XDG_CONFIG_HOME and XDG_STATE_HOME",
      facts_json({{"variable", "HOME"}}));
}

Error oidc_unsupported() {
  return Error(ErrorCode::kInvalidConfig,
               "HF_OIDC_RESOURCE: keyless login is not supported by this version",
               "unset HF_OIDC_RESOURCE and give a token in HF_TOKEN",
               facts_json({{"variable", "HF_OIDC_RESOURCE"}}));
}

Error invalid_json(std::string_view origin, std::uint64_t offset, std::string_view reason) {
  return Error(ErrorCode::kInvalidJson,
               fmt::format("{}: not acceptable JSON at byte {}: {}", printable(origin), offset,
                           printable(reason)),
               {},
               facts_json({{"origin", std::string(origin)},
                           {"offset", std::to_string(offset)},
                           {"reason", std::string(reason)}}));
}

Error json_field(ErrorCode code, std::string_view origin, std::string_view path,
                 std::string_view expected, std::string_view found) {
  return Error(code,
               fmt::format("{}: {}: expected {}, found {}", printable(origin), printable(path),
                           expected, printable(found)),
               {},
               facts_json({{"origin", std::string(origin)},
                           {"field", std::string(path)},
                           {"expected", std::string(expected)},
                           {"found", std::string(found)}}));
}

Error lockfile_drift(const std::filesystem::path& file, std::string_view repo,
                     std::string_view commit, std::string_view wanted_commit) {
  return Error(ErrorCode::kInvalidLockfile,
               fmt::format("{}: {} is pinned to commit {}, kernels.lock has {}",
                           printable(file.string()), repo, commit, wanted_commit),
               "write both lock files again from one state",
               facts_json({{"path", file.string()},
                           {"repo", std::string(repo)},
                           {"found", std::string(commit)},
                           {"expected", std::string(wanted_commit)}}));
}

Error unsafe_path(std::string_view path, std::string_view origin, std::string_view reason) {
  return Error(
      ErrorCode::kUnsafePath,
      fmt::format("{}: path '{}' is refused: {}", printable(origin), printable(path), reason), {},
      facts_json({{"origin", std::string(origin)},
                  {"path", std::string(path)},
                  {"reason", std::string(reason)}}));
}

Error read_failed(const std::filesystem::path& path, int error_number) {
  return Error(
      ErrorCode::kIo,
      fmt::format("cannot read {}: {}", printable(path.string(), 1024), errno_text(error_number)),
      {}, facts_json({{"path", path.string()}, {"errno", std::to_string(error_number)}}));
}

Error not_a_regular_file(const std::filesystem::path& path) {
  return Error(ErrorCode::kIo,
               fmt::format("cannot read {}: expected a regular file, found another kind",
                           printable(path.string(), 1024)),
               {}, facts_json({{"path", path.string()}}));
}

Error file_too_large(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("{} is too large: expected at most {} bytes",
                           printable(path.string(), 1024), max_bytes),
               {}, facts_json({{"path", path.string()}, {"max_bytes", std::to_string(max_bytes)}}));
}

Error write_failed(std::string_view what, const std::filesystem::path& path, int error_number) {
  const ErrorCode code = write_code(error_number);
  return Error(code,
               fmt::format("cannot {} {}: {}", what, printable(path.string(), 1024),
                           errno_text(error_number)),
               std::string(write_hint(code)),
               facts_json({{"path", path.string()}, {"errno", std::to_string(error_number)}}));
}

Error lock_timeout(const std::filesystem::path& path, std::chrono::milliseconds waited,
                   long holder) {
  const std::string who = holder > 0 ? fmt::format("process {}", holder) : "another process";
  return Error(ErrorCode::kLockTimeout,
               fmt::format("{} is still locked by {} after {} ms", printable(path.string(), 1024),
                           who, waited.count()),
               "wait for that process or end it; the lock file itself may stay",
               facts_json({{"path", path.string()},
                           {"pid", std::to_string(holder)},
                           {"waited_ms", std::to_string(waited.count())}}));
}

Error lock_cancelled(const std::filesystem::path& path) {
  return Error(
      ErrorCode::kCancelled,
      fmt::format("cancelled while waiting for the lock {}", printable(path.string(), 1024)), {},
      facts_json({{"path", path.string()}}));
}

Error invalid_digest(std::string_view what, std::string_view found, std::string_view expected) {
  return Error(ErrorCode::kInvalidDigest,
               fmt::format("{}: expected {}, found '{}'", what, expected, printable(found)), {},
               facts_json({{"expected", std::string(expected)}, {"found", std::string(found)}}));
}

Error hash_unavailable(std::string_view algorithm, std::string_view reason) {
  return Error(
      ErrorCode::kInvalidDigest,
      fmt::format("{} cannot be computed by the OpenSSL library in use", algorithm), {},
      facts_json({{"algorithm", std::string(algorithm)}, {"reason", std::string(reason)}}));
}

}  // namespace kernelhub::core_errors
