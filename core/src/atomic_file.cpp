// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/atomic_file.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kernelhub {

AtomicFile::AtomicFile(std::filesystem::path target, unsigned mode) : target_(std::move(target)) {
  std::string name = target_.string() + ".XXXXXX";
  fd_ = UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd_) throw core_errors::write_failed("create a file beside", target_, errno);
  temp_ = name;
  // mkostemp gives 0600; fchmod makes the mode independent of the umask.
  if (::fchmod(fd_.get(), mode) != 0) {
    const int error_number = errno;
    ::unlink(temp_.c_str());
    throw core_errors::write_failed("set the mode of", temp_, error_number);
  }
}

AtomicFile::~AtomicFile() {
  if (temp_.empty() || ::unlink(temp_.c_str()) == 0) return;
  log(LogLevel::kWarning,
      fmt::format("cannot remove {}: {}", temp_.string(), std::generic_category().message(errno)));
}

void AtomicFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_.get(), bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      throw core_errors::write_failed("write", target_, errno);
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void AtomicFile::commit(bool durable) {
  if (durable && ::fdatasync(fd_.get()) != 0) {
    throw core_errors::write_failed("write", target_, errno);
  }
  if (::rename(temp_.c_str(), target_.c_str()) != 0) {
    throw core_errors::write_failed("replace", target_, errno);
  }
  temp_.clear();
  fd_.reset();
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes,
                           unsigned mode) {
  AtomicFile file(path, mode);
  file.write(bytes);
  file.commit();
}

std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  // O_NONBLOCK: a fifo in place of the file must not hang the open.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) throw core_errors::read_failed(path, errno);
  if (!S_ISREG(status.st_mode)) throw core_errors::not_a_regular_file(path);
  if (static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    throw core_errors::file_too_large(path, max_bytes);
  }
  std::string content;
  std::string block(
      std::clamp<std::size_t>(static_cast<std::size_t>(status.st_size) + 1, 4096, 1 << 20), '\0');
  while (true) {
    const ssize_t count = ::read(fd.get(), block.data(), block.size());
    if (count == 0) return content;
    if (count < 0) {
      if (errno == EINTR) continue;
      throw core_errors::read_failed(path, errno);
    }
    content.append(block, 0, static_cast<std::size_t>(count));
    if (content.size() > max_bytes) throw core_errors::file_too_large(path, max_bytes);
  }
}

}  // namespace kernelhub
