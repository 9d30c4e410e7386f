// SPDX-License-Identifier: Apache-2.0
#include "file_mapping.h"

#include "safetensors_errors.h"

#include "kernelhub/core/log.h"
#include "kernelhub/core/unique_fd.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace kernelhub::layers {

FileMapping::FileMapping(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw safetensors_errors::cannot_read(path, "open", errno);
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) throw safetensors_errors::cannot_read(path, "stat", errno);
  if (!S_ISREG(status.st_mode)) throw safetensors_errors::not_a_file(path);
  size_bytes_ = static_cast<std::size_t>(status.st_size);
  if (size_bytes_ == 0) return;
  void* address = ::mmap(nullptr, size_bytes_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (address == MAP_FAILED) throw safetensors_errors::cannot_read(path, "mmap", errno);
  address_ = address;
}

FileMapping::~FileMapping() {
  if (address_ != nullptr && ::munmap(address_, size_bytes_) != 0) {
    log(LogLevel::kError, "munmap of a safetensors file failed");
  }
}

}  // namespace kernelhub::layers
