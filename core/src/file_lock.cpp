// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/file_lock.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>

namespace kernelhub {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kFirstPause{1};
constexpr std::chrono::milliseconds kLongestPause{50};
constexpr std::chrono::seconds kLogInterval{10};

UniqueFd open_lock_file(const std::filesystem::path& path) {
  const int created =
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0664);
  if (created >= 0) {
    ::fchmod(created, 0664);  // independent of the umask; a shared cache needs the group bit
    return UniqueFd(created);
  }
  if (errno == EEXIST) {
    const int existing = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
    if (existing >= 0) return UniqueFd(existing);
    // flock needs no write access: another user's lock file still serves.
    const int readable = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (readable >= 0) return UniqueFd(readable);
  }
  throw core_errors::write_failed("open the lock file", path, errno);
}

/// The path may have been deleted and made again by a process that cleans up after itself.
bool is_same_file(int fd, const std::filesystem::path& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/// Pid in the kernel's list of locks, 0 when it is not there. Lines: "1: FLOCK ADVISORY WRITE
/// <pid> <major>:<minor>:<inode> 0 EOF".
long lock_holder(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return 0;
  const std::string inode = fmt::format(":{} ", status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    if (line.find("FLOCK") == std::string::npos || line.find(inode) == std::string::npos) continue;
    if (line.find("->") != std::string::npos) continue;  // a waiter
    const std::size_t write = line.find("WRITE");
    if (write != std::string::npos) return std::strtol(line.c_str() + write + 5, nullptr, 10);
  }
  return 0;
}

bool has_no_flock(int error_number) {
  return error_number == ENOTSUP || error_number == EOPNOTSUPP || error_number == ENOSYS ||
         error_number == ENOLCK;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& path, std::chrono::milliseconds timeout,
                   const std::function<bool()>& cancelled) {
  const auto started = Clock::now();
  auto next_log = started + kLogInterval;
  auto pause = kFirstPause;
  fd_ = open_lock_file(path);
  while (true) {
    if (::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) {
      held_ = is_same_file(fd_.get(), path);
      if (held_) return;
      fd_ = open_lock_file(path);
      continue;
    }
    if (has_no_flock(errno)) return;
    if (errno != EWOULDBLOCK && errno != EINTR)
      throw core_errors::write_failed("lock", path, errno);
    if (cancelled && cancelled()) throw core_errors::lock_cancelled(path);
    const auto now = Clock::now();
    if (now - started >= timeout) {
      throw core_errors::lock_timeout(path, timeout, lock_holder(fd_.get()));
    }
    if (now >= next_log) {
      next_log = now + kLogInterval;
      log(LogLevel::kInfo, fmt::format("waiting for the lock {} (held by process {})",
                                       path.string(), lock_holder(fd_.get())));
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

}  // namespace kernelhub
