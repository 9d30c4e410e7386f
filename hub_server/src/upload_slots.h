// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/digest.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace kernelhub::server {

/// Links that let a client PUT one announced object without a token (hub spec 3, W7): unguessable
/// and gone after an hour or with the process. Thread-safe.
class UploadSlots {
 public:
  struct Slot {
    Digest sha256;
    std::uint64_t size_bytes = 0;
    std::chrono::steady_clock::time_point expires;
  };
  /// Id of a new slot.
  std::string open(const Digest& sha256, std::uint64_t size_bytes);
  /// Throws kEntryNotFound for an unknown or expired id. A slot may be used again, so that a
  /// client can retry a broken upload.
  Slot find(const std::string& id);

 private:
  std::mutex mutex_;
  std::map<std::string, Slot> slots_;
};

}  // namespace kernelhub::server
