// SPDX-License-Identifier: Apache-2.0
#include "sealed_file.h"

#include "loader_errors.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace kernelhub::loader {
namespace {

// Newer than the headers of some systems that we build on.
constexpr unsigned kExecutable = 0x10;  // MFD_EXEC

}  // namespace

SealedFile::SealedFile(std::string name) : name_(std::move(name)) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const std::string shown = name_.substr(name_.rfind('/') + 1).substr(0, 200);
  fd_ = UniqueFd(memfd_create(shown.c_str(), kFlags | kExecutable));
  if (!fd_ && errno == EINVAL) fd_ = UniqueFd(memfd_create(shown.c_str(), kFlags));
  if (!fd_) throw loader_errors::seal_failed(name_, "memfd_create", errno);
}

void SealedFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw loader_errors::seal_failed(name_, "write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void SealedFile::replace(std::uint64_t offset, char byte) {
  if (pwrite(fd_.get(), &byte, 1, static_cast<off_t>(offset)) != 1) {
    throw loader_errors::seal_failed(name_, "pwrite", errno);
  }
}

UniqueFd SealedFile::seal() {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (fcntl(fd_.get(), F_ADD_SEALS, kSeals) != 0) {
    throw loader_errors::seal_failed(name_, "F_ADD_SEALS", errno);
  }
  return std::move(fd_);
}

}  // namespace kernelhub::loader
