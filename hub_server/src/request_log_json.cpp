// SPDX-License-Identifier: Apache-2.0
#include "request_log.h"
#include "server_errors.h"

#include "kernelhub/core/log.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace kernelhub::server {
namespace {
constexpr std::size_t kKeptRecords = 100'000;
}

std::string record_to_json(const RequestRecord& record, std::int64_t time_unix_ms) {
  using nlohmann::json;
  json line{{"time", static_cast<double>(time_unix_ms) / 1000.0},
            {"method", record.method},
            {"path", record.target},
            {"status", record.status},
            {"bytes", record.body_bytes},
            {"ms", static_cast<double>(record.duration.count()) / 1000.0},
            {"user", record.user},
            {"authorization", record.has_authorization}};
  if (!record.range.empty()) line["range"] = record.range;
  return line.dump(-1, ' ', false, json::error_handler_t::replace);
}

RequestLog::RequestLog(const std::filesystem::path& file) {
  if (file.empty()) return;
  file_ = UniqueFd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!file_) throw server_errors::io_failed("open", file, errno);
}

void RequestLog::add(RequestRecord record) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const std::lock_guard guard(mutex_);
  if (file_) {
    const std::string line = record_to_json(record, now.count()) + "\n";
    if (::write(file_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      warn_once("access-log", "access log cannot be written: its lines are incomplete");
    }
  }
  if (records_.size() >= kKeptRecords) {
    records_.erase(records_.begin(), records_.begin() + kKeptRecords / 2);
  }
  records_.push_back(std::move(record));
}

std::vector<RequestRecord> RequestLog::records() const {
  const std::lock_guard guard(mutex_);
  return records_;
}

void RequestLog::clear() {
  const std::lock_guard guard(mutex_);
  records_.clear();
}

}  // namespace kernelhub::server
