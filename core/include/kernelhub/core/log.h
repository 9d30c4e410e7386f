// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstdint>
#include <functional>
#include <string_view>

namespace kernelhub {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError, kOff };

/// One process-wide sink. Default: warnings and errors as lines on stderr.
/// The callback may be called from any thread; an empty function restores the default.
KERNELHUB_API void set_log_callback(std::function<void(LogLevel, std::string_view)> callback);
KERNELHUB_API void set_log_level(LogLevel level);
KERNELHUB_API void log(LogLevel level, std::string_view message);
/// Logs `message` as a warning the first time this `key` is seen in the process.
KERNELHUB_API void warn_once(std::string_view key, std::string_view message);

}  // namespace kernelhub
