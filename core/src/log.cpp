// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

namespace kernelhub {
namespace {

using Callback = std::function<void(LogLevel, std::string_view)>;

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

struct LogState {
  LogState() : stderr_logger("kernelhub", std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    stderr_logger.set_pattern("%n: %l: %v");
    stderr_logger.set_level(spdlog::level::trace);  // `level` decides
    stderr_logger.flush_on(spdlog::level::trace);
  }
  std::atomic<LogLevel> level{LogLevel::kWarning};
  std::mutex mutex;
  std::shared_ptr<const Callback> callback;
  std::set<std::string, std::less<>> warned;
  spdlog::logger stderr_logger;
};

// Never destroyed: static destructors of other libraries may still log.
LogState& state() {
  static LogState& instance = *std::make_unique<LogState>().release();
  return instance;
}

}  // namespace

void set_log_callback(std::function<void(LogLevel, std::string_view)> callback) {
  auto next = callback ? std::make_shared<const Callback>(std::move(callback)) : nullptr;
  const std::lock_guard guard(state().mutex);
  state().callback = std::move(next);
}

void set_log_level(LogLevel level) { state().level = level; }

void log(LogLevel level, std::string_view message) {
  LogState& log_state = state();
  if (level == LogLevel::kOff || level < log_state.level.load()) return;
  std::shared_ptr<const Callback> callback;
  {
    const std::lock_guard guard(log_state.mutex);
    callback = log_state.callback;
  }
  // Called without the lock: a callback may log, or replace itself.
  if (callback) {
    (*callback)(level, message);
  } else {
    log_state.stderr_logger.log(spdlog_level(level),
                                spdlog::string_view_t(message.data(), message.size()));
  }
}

void warn_once(std::string_view key, std::string_view message) {
  {
    const std::lock_guard guard(state().mutex);
    if (!state().warned.emplace(key).second) return;
  }
  log(LogLevel::kWarning, message);
}

}  // namespace kernelhub
