// SPDX-License-Identifier: Apache-2.0
#include "upload_slots.h"

#include "auth.h"
#include "server_errors.h"

namespace kernelhub::server {
namespace {
constexpr std::chrono::hours kLifetime{1};
constexpr std::size_t kSlotBytes = 32;
}  // namespace

std::string UploadSlots::open(const Digest& sha256, std::uint64_t size_bytes) {
  const auto now = std::chrono::steady_clock::now();
  const std::string id = random_hex(kSlotBytes);
  const std::lock_guard guard(mutex_);
  std::erase_if(slots_, [&](const auto& item) { return item.second.expires < now; });
  slots_.emplace(id, Slot{sha256, size_bytes, now + kLifetime});
  return id;
}

UploadSlots::Slot UploadSlots::find(const std::string& id) {
  const std::lock_guard guard(mutex_);
  const auto found = slots_.find(id);
  if (found == slots_.end() || found->second.expires < std::chrono::steady_clock::now()) {
    throw server_errors::upload_slot_unknown();
  }
  return found->second;
}

}  // namespace kernelhub::server
