// SPDX-License-Identifier: Apache-2.0
#include "download_queue.h"

#include "parallel_work.h"

#include <algorithm>
#include <mutex>

namespace kernelhub::hub {
namespace {

// Bytes of all jobs of one queue, told to the observer one call at a time.
class Tally {
 public:
  Tally(const std::string& what, std::uint64_t total_bytes, ProgressObserver* observer)
      : what_(what), observer_(observer) {
    if (observer_ != nullptr) observer_->started(what_, total_bytes);
  }
  Tally(const Tally&) = delete;
  Tally& operator=(const Tally&) = delete;
  ~Tally() {
    if (observer_ != nullptr) observer_->finished(what_);
  }
  void add(std::int64_t change) {
    if (observer_ == nullptr) return;
    const std::lock_guard lock(mutex_);
    done_bytes_ += change;
    observer_->advanced(what_, static_cast<std::uint64_t>(done_bytes_));
  }
  bool is_cancelled() const { return observer_ != nullptr && observer_->cancelled(); }

 private:
  const std::string& what_;
  ProgressObserver* const observer_;
  std::mutex mutex_;
  std::int64_t done_bytes_ = 0;
};

}  // namespace

void run_downloads(HubSession& session, const CacheLayout& cache, std::vector<BlobJob> jobs,
                   const std::string& what, ProgressObserver* progress) {
  std::sort(jobs.begin(), jobs.end(), [](const BlobJob& a, const BlobJob& b) {
    return a.file.size_bytes > b.file.size_bytes;
  });
  std::uint64_t total_bytes = 0;
  for (const BlobJob& job : jobs) total_bytes += job.file.size_bytes;
  Tally tally(what, total_bytes, progress);
  const auto limit = static_cast<std::size_t>(std::max(1, session.config().max_workers));
  run_in_parallel(jobs.size(), limit, [&](std::size_t i, const std::function<bool()>& is_stopping) {
    BlobDownload download(
        session, cache, jobs[i], [&tally](std::int64_t change) { tally.add(change); },
        [&] { return is_stopping() || tally.is_cancelled(); });
    download.run();
  });
}

}  // namespace kernelhub::hub
