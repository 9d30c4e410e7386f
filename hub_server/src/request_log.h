// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/unique_fd.h"
#include "kernelhub/server/hub_server.h"

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace kernelhub::server {

/// One line of the access log, without a newline.
std::string record_to_json(const RequestRecord& record, std::int64_t time_unix_ms);

/// What was answered: the newest records in memory and, when asked for, every one as a JSON line.
/// Thread-safe.
class RequestLog {
 public:
  /// Throws kIo when the file cannot be opened.
  explicit RequestLog(const std::filesystem::path& file);
  void add(RequestRecord record);
  std::vector<RequestRecord> records() const;
  void clear();

 private:
  mutable std::mutex mutex_;
  std::vector<RequestRecord> records_;
  UniqueFd file_;
};

}  // namespace kernelhub::server
