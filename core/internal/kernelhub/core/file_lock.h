// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/unique_fd.h"

#include <chrono>
#include <filesystem>
#include <functional>

namespace kernelhub {

/// Exclusive flock(2) on a file that is created 0664 when missing and never deleted; shared with
/// Python's filelock. Waiting is logged every 10 s. On a file system without flock it is a no-op
/// (`is_held` false).
class KERNELHUB_API FileLock {
 public:
  /// Throws kLockTimeout naming the path after `timeout`, kIo / kReadOnly / kCancelled.
  explicit FileLock(const std::filesystem::path& path,
                    std::chrono::milliseconds timeout = std::chrono::minutes(10),
                    const std::function<bool()>& cancelled = {});
  bool is_held() const noexcept { return held_; }

 private:
  UniqueFd fd_;
  bool held_ = false;
};

}  // namespace kernelhub
