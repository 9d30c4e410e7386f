// SPDX-License-Identifier: Apache-2.0
#include "load_mode.h"

#include "elf_image.h"
#include "loader_errors.h"
#include "needed_libraries.h"
#include "preflight_checks.h"
#include "sealed_file.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/digest.h"
#include "kernelhub/core/file_time.h"
#include "kernelhub/loader/verified_binary.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <elf.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace kernelhub::loader {
namespace {

std::set<std::string> python_references(const ElfFacts& facts) {
  std::set<std::string> names;
  for (const ElfFacts::Symbol& symbol : facts.undefined) {
    if (!symbol.weak && is_python_symbol(symbol.name)) names.insert(symbol.name);
  }
  return names;
}

/// Copies the file into private memory; the copy holds exactly the verified bytes.
SealedFile copy_verified(const OpenRequest& request) {
  SealedFile copy(request.path);
  Hasher hasher(DigestAlgorithm::kSha256);
  std::vector<char> buffer(1 << 20);
  for (std::uint64_t offset = 0; offset < request.binary.size_bytes;) {
    const ssize_t count =
        pread(request.binary.fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw core_errors::read_failed(request.path, errno);
    if (count == 0) throw loader_errors::file_changed(request.path, "its size");
    const std::string_view bytes(buffer.data(), static_cast<std::size_t>(count));
    hasher.update(bytes);
    copy.write(bytes);
    offset += bytes.size();
  }
  if (!(hasher.finish() == request.binary.digest)) {
    throw loader_errors::file_changed(request.path, "its content");
  }
  return copy;
}

OpenedObject open_sealed(const OpenRequest& request, const std::set<std::string>& weakened) {
  SealedFile copy = copy_verified(request);
  if (!weakened.empty()) {
    const ElfImage image(copy.fd(), request.path);
    for (const std::uint64_t offset : image.binding_offsets(weakened)) {
      copy.replace(offset, static_cast<char>(ELF64_ST_INFO(STB_WEAK, STT_NOTYPE)));
    }
  }
  UniqueFd fd = copy.seal();
  SharedObject object = SharedObject::open(fd.get(), request.path, Binding::kNow);
  return {std::move(object), std::move(fd), !weakened.empty()};
}

OpenedObject open_file(const OpenRequest& request, Binding binding) {
  require_unchanged(request.binary, request.path);
  SharedObject object = SharedObject::open(request.binary.fd, request.path, binding);
  require_unchanged(request.binary, request.path);
  return {std::move(object), UniqueFd(), false};
}

bool is_undefined_symbol(const LoadError& error) {
  return error.code() == ErrorCode::kDlopenFailed &&
         std::string_view(error.what()).find("undefined symbol") != std::string_view::npos;
}

}  // namespace

void require_unchanged(const trust::VerifiedPackage::File& file,
                       const std::filesystem::path& path) {
  struct stat now {};
  if (fstat(file.fd, &now) != 0) throw core_errors::read_failed(path, errno);
  if (static_cast<std::uint64_t>(now.st_size) != file.size_bytes) {
    throw loader_errors::file_changed(path.string(), "its size");
  }
  const bool written = nanoseconds(now.st_mtim) != file.modified_ns;
  if (!written && nanoseconds(now.st_ctim) == file.changed_ns) return;
  // A cache that is cleared meanwhile deletes the name and nothing else.
  const bool deleted =
      !written && now.st_nlink == 0 && digest_of_fd(file.digest.algorithm, file.fd) == file.digest;
  if (!deleted) throw loader_errors::file_changed(path.string(), "its time of change");
}

OpenedObject open_object(const OpenRequest& request) {
  std::set<std::string> references;
  if (!is_python_in_process()) references = python_references(request.facts);
  if (request.sealed) return open_sealed(request, references);
  if (references.empty()) return open_file(request, Binding::kNow);
  if (request.facts.bind_now || !request.facts.non_plt_python.empty()) {
    return open_sealed(request, references);
  }
  try {
    return open_file(request, Binding::kLazy);
  } catch (const LoadError& error) {
    // LD_BIND_NOW in the environment binds at once whatever the file and the mode say. Nothing of
    // the library has run when a symbol is missing.
    if (!is_undefined_symbol(error)) throw;
    return open_sealed(request, references);
  }
}

}  // namespace kernelhub::loader
