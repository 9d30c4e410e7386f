// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache_layout.h"
#include "hub_session.h"

#include "kernelhub/core/digest.h"
#include "kernelhub/core/unique_fd.h"
#include "kernelhub/hub/client.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace kernelhub::hub {

/// One file of a commit and where its verified bytes go.
struct BlobJob {
  RepoId repo;
  CommitHash commit;
  TreeFile file;
  std::filesystem::path target;  // the blob, or the file in the snapshot where links are off
};

/// Fetches one blob under its lock: hashed while written, resumed after a cut or a kill, renamed
/// into place only when size and hash are those of the listing (hub spec 6). One use.
class BlobDownload final : public BodySink {
 public:
  /// `progress` receives changes of the bytes held, also negative ones.
  BlobDownload(HubSession& session, const CacheLayout& cache, const BlobJob& job,
               std::function<void(std::int64_t)> progress, std::function<bool()> cancelled);
  ~BlobDownload() override;
  BlobDownload(const BlobDownload&) = delete;
  BlobDownload& operator=(const BlobDownload&) = delete;
  /// Blocks. Throws HubError kIntegrity, kDiskFull, kCacheReadOnly, kCancelled and network codes.
  void run();

  bool begin(const HttpResponse& head) override;
  bool write(std::string_view block) override;

 private:
  /// Why the sink refused a reply.
  enum class Refusal : std::uint8_t { kNone, kRange, kSize };
  struct EmptyTempRemover;
  void open_temp(bool exclusive);
  void hold_existing_bytes();
  void start_over();
  void fetch();
  bool is_verified();
  [[noreturn]] void refuse(std::uint64_t received);
  void publish();
  void set_held(std::uint64_t held);
  CallSubject subject() const;

  HubSession& session_;
  const CacheLayout& cache_;
  const BlobJob& job_;
  const std::function<void(std::int64_t)> progress_;
  const std::function<bool()> cancelled_;
  std::filesystem::path temp_;
  UniqueFd fd_;
  std::optional<Hasher> hasher_;
  std::uint64_t held_ = 0;
  std::uint64_t announced_ = 0;  // size the server sent instead, when it differs
  std::string received_hash_;
  Refusal refusal_ = Refusal::kNone;
};

}  // namespace kernelhub::hub
