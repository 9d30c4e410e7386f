// SPDX-License-Identifier: Apache-2.0
#include "blob_download.h"

#include "kernelhub/core/file_lock.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kDurableFrom = 1u << 20;
constexpr std::uint64_t kSlowestBytesPerSecond = 50'000;  // trust spec T18
constexpr std::chrono::seconds kShortestDeadline{60};
constexpr std::size_t kReadBlock = 256u << 10;
constexpr int kRangeAttempts = 3;

Hasher hasher_for(const TreeFile& file) {
  return file.lfs_sha256.empty() ? Hasher::git_blob(file.size_bytes)
                                 : Hasher(DigestAlgorithm::kSha256);
}

std::chrono::milliseconds deadline_for(std::uint64_t size_bytes) {
  return std::max<std::chrono::milliseconds>(
      kShortestDeadline, std::chrono::seconds(size_bytes / kSlowestBytesPerSecond));
}

struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t total = 0;
};

// "bytes 5-9/10"; nothing when malformed or without a total.
std::optional<ContentRange> parse_content_range(std::string_view field) {
  constexpr std::string_view kUnit = "bytes ";
  if (!field.starts_with(kUnit)) return std::nullopt;
  field.remove_prefix(kUnit.size());
  const char* const end = field.data() + field.size();
  ContentRange range;
  std::uint64_t last = 0;
  auto parsed = std::from_chars(field.data(), end, range.first);
  if (parsed.ec != std::errc{} || parsed.ptr == end || *parsed.ptr != '-') return std::nullopt;
  parsed = std::from_chars(parsed.ptr + 1, end, last);
  if (parsed.ec != std::errc{} || parsed.ptr == end || *parsed.ptr != '/') return std::nullopt;
  parsed = std::from_chars(parsed.ptr + 1, end, range.total);
  const bool whole = parsed.ec == std::errc{} && parsed.ptr == end;
  if (!whole || last < range.first || last >= range.total) return std::nullopt;
  return range;
}

}  // namespace

BlobDownload::BlobDownload(HubSession& session, const CacheLayout& cache, const BlobJob& job,
                           std::function<void(std::int64_t)> progress,
                           std::function<bool()> cancelled)
    : session_(session),
      cache_(cache),
      job_(job),
      progress_(std::move(progress)),
      cancelled_(std::move(cancelled)) {}

BlobDownload::~BlobDownload() = default;

CallSubject BlobDownload::subject() const {
  return {"file", job_.repo.str(), job_.commit.str(), job_.file.path};
}

// Nothing can be resumed from an empty temp; removed while the lock is held.
struct BlobDownload::EmptyTempRemover {
  const BlobDownload& download;
  ~EmptyTempRemover() {
    if (download.held_ == 0 && !download.temp_.empty()) unlink(download.temp_.c_str());
  }
};

void BlobDownload::run() {
  const std::string& etag = job_.file.etag();
  const FileLock lock(cache_.lock(job_.repo, etag), std::chrono::hours(1), cancelled_);
  // Whoever held the lock before may have fetched it.
  if (CacheLayout::inspect(job_.target, job_.file.size_bytes) == FileState::kPresent) {
    set_held(job_.file.size_bytes);
    return;
  }
  const EmptyTempRemover remover{*this};
  open_temp(lock.is_held());
  hold_existing_bytes();
  bool verified = held_ == job_.file.size_bytes && is_verified();
  if (!verified && held_ == job_.file.size_bytes) start_over();
  for (int attempt = 1; !verified; ++attempt) {
    fetch();
    verified = refusal_ == Refusal::kNone && is_verified();
    if (verified) break;
    const std::uint64_t received = refusal_ == Refusal::kSize ? announced_ : held_;
    start_over();
    // One full retry: a flipped bit on the way is not the server's fault.
    if (attempt == 2) refuse(received);
  }
  publish();
}

void BlobDownload::refuse(std::uint64_t received) {
  unlink(temp_.c_str());
  const std::string url = session_.urls().resolve(job_.repo, job_.commit.str(), job_.file.path);
  if (received != job_.file.size_bytes) {
    throw hub_errors::wrong_size(subject(), url, job_.file.size_bytes, received);
  }
  throw hub_errors::wrong_hash(subject(), url, job_.file.etag(), received_hash_);
}

void BlobDownload::open_temp(bool exclusive) {
  const fs::path blob = cache_.blob(job_.repo, job_.file.etag());
  // Without a lock another process may write to the shared name.
  temp_ = exclusive ? blob.string() + ".kh.incomplete"
                    : fmt::format("{}.{}.kh.incomplete", blob.string(), getpid());
  constexpr int kFlags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
  constexpr mode_t kPrivate = 0600;
  fd_ = UniqueFd(open(temp_.c_str(), kFlags));
  struct stat found {};
  const bool is_ours = fd_ && fstat(fd_.get(), &found) == 0 && S_ISREG(found.st_mode) &&
                       found.st_uid == geteuid() && found.st_nlink == 1;
  if (is_ours) return;
  unlink(temp_.c_str());
  fd_ = UniqueFd(open(temp_.c_str(), kFlags | O_CREAT | O_EXCL, kPrivate));
  if (!fd_) throw hub_errors::cache_io("create", temp_, errno);
}

void BlobDownload::hold_existing_bytes() {
  struct stat found {};
  if (fstat(fd_.get(), &found) != 0) throw hub_errors::cache_io("inspect", temp_, errno);
  hasher_.emplace(hasher_for(job_.file));
  const auto size = static_cast<std::uint64_t>(found.st_size);
  if (size > job_.file.size_bytes) {
    start_over();
    return;
  }
  std::vector<char> block(kReadBlock);
  std::uint64_t offset = 0;
  while (offset < size) {
    const ssize_t count = pread(fd_.get(), block.data(), block.size(), static_cast<off_t>(offset));
    if (count <= 0) throw hub_errors::cache_io("read", temp_, count == 0 ? EIO : errno);
    hasher_->update(block.data(), static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  set_held(offset);
}

void BlobDownload::start_over() {
  if (ftruncate(fd_.get(), 0) != 0) throw hub_errors::cache_io("truncate", temp_, errno);
  hasher_.emplace(hasher_for(job_.file));
  set_held(0);
}

void BlobDownload::set_held(std::uint64_t held) {
  const auto change = static_cast<std::int64_t>(held) - static_cast<std::int64_t>(held_);
  held_ = held;
  if (change != 0 && progress_) progress_(change);
}

void BlobDownload::fetch() {
  HubCall call;
  call.url = session_.urls().resolve(job_.repo, job_.commit.str(), job_.file.path);
  call.subject = subject();
  // The sizes and hashes of the listing are those of the plain bytes.
  call.headers = {{"Accept-Encoding", "identity"}, {"X-HF-Download-Counter", "1"}};
  call.attempt_headers = [this]() -> HttpHeaders {
    if (held_ == 0) return {};
    return {{"Range", fmt::format("bytes={}-", held_)},
            {"If-Range", fmt::format("\"{}\"", job_.file.etag())}};
  };
  call.sink = this;
  call.answers = {416};
  call.timeouts = HubCall::Timeouts::kBody;
  call.total_timeout = deadline_for(job_.file.size_bytes);
  call.cancelled = cancelled_;
  for (int attempt = 0; attempt < kRangeAttempts; ++attempt) {
    refusal_ = Refusal::kNone;
    const HttpResponse reply = session_.send(call);
    if (reply.status != 416 && refusal_ != Refusal::kRange) return;
    start_over();
  }
}

bool BlobDownload::begin(const HttpResponse& head) {
  if (head.status == 206) {
    const auto range = parse_content_range(head.header("content-range"));
    if (range && range->first == held_ && range->total == job_.file.size_bytes) return true;
    refusal_ = Refusal::kRange;
    return false;
  }
  if (held_ > 0) start_over();
  const std::string_view length = head.header("content-length");
  std::uint64_t announced = 0;
  const auto parsed = std::from_chars(length.data(), length.data() + length.size(), announced);
  if (!length.empty() && parsed.ec == std::errc{} && announced != job_.file.size_bytes) {
    announced_ = announced;
    refusal_ = Refusal::kSize;
    return false;
  }
  return true;
}

bool BlobDownload::write(std::string_view block) {
  if (block.size() > job_.file.size_bytes - held_) {
    announced_ = held_ + block.size();
    refusal_ = Refusal::kSize;
    return false;
  }
  std::size_t done = 0;
  while (done < block.size()) {
    const ssize_t count = pwrite(fd_.get(), block.data() + done, block.size() - done,
                                 static_cast<off_t>(held_ + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int failure = errno;
      // A full disk has no room for a temp to resume from.
      if (failure == ENOSPC || failure == EDQUOT) unlink(temp_.c_str());
      throw hub_errors::cache_io("write", temp_, failure);
    }
    done += static_cast<std::size_t>(count);
  }
  hasher_->update(block);
  set_held(held_ + block.size());
  return true;
}

bool BlobDownload::is_verified() {
  if (held_ != job_.file.size_bytes) return false;
  received_hash_ = hasher_->finish().hex();
  return received_hash_ == job_.file.etag();
}

void BlobDownload::publish() {
  if (job_.file.size_bytes >= kDurableFrom && fdatasync(fd_.get()) != 0) {
    throw hub_errors::cache_io("sync", temp_, errno);
  }
  if (fchmod(fd_.get(), shared_file_mode()) != 0) {
    throw hub_errors::cache_io("set the mode of", temp_, errno);
  }
  std::error_code error;
  if (fs::is_directory(fs::symlink_status(job_.target, error))) {
    fs::remove_all(job_.target, error);
  }
  if (rename(temp_.c_str(), job_.target.c_str()) != 0) {
    throw hub_errors::cache_io("rename to", job_.target, errno);
  }
}

}  // namespace kernelhub::hub
