// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/repo.h"

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace kernelhub::trust {

/// Private record of decisions, for offline use (trust spec 2.6): trust-state.json, 0600, replaced
/// atomically under flock. A lost or corrupt file starts empty and is reported through the log.
/// Thread-safe and process-safe.
class KERNELHUB_API TrustState {
 public:
  explicit TrustState(std::filesystem::path state_dir);

  struct PublisherAnswer {
    bool trusted = false;
    std::chrono::system_clock::time_point asked;
  };
  std::optional<PublisherAnswer> publisher(std::string_view endpoint, std::string_view ns) const;
  void record_publisher(std::string_view endpoint, std::string_view ns, bool trusted);
  /// True when `publisher` or `explicit` evidence once allowed this commit.
  bool is_recorded(std::string_view endpoint, const RepoId& repo, const CommitHash& commit) const;
  /// Only after the content was fully verified. A state directory that cannot be written is
  /// logged once and otherwise ignored: the decision then has to be made again.
  void record_decision(std::string_view endpoint, const RepoId& repo, const CommitHash& commit,
                       std::optional<std::int64_t> version, std::string_view evidence);
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace kernelhub::trust
