// SPDX-License-Identifier: Apache-2.0
#include "namespace_owner.h"

#include "loader_errors.h"

#include "kernelhub/core/digest.h"
#include "kernelhub/loader/verified_binary.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>

namespace kernelhub::loader {
namespace {

namespace fs = std::filesystem;

UniqueFd open_mapped(const MappedObject& object) {
  return UniqueFd(open(object.path.c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

std::optional<SharedObject> find_same_content(const trust::VerifiedPackage::File& binary) {
  for (const MappedObject& object : mapped_objects()) {
    const UniqueFd fd = open_mapped(object);
    struct stat status {};
    if (!fd || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    if (static_cast<std::uint64_t>(status.st_size) != binary.size_bytes) continue;
    if (!(digest_of_fd(DigestAlgorithm::kSha256, fd.get()) == binary.digest)) continue;
    // The path may lead to another file by now than the one that is mapped.
    if (auto mapped = SharedObject::find(fd.get(), object.path)) return mapped;
  }
  return std::nullopt;
}

LoadError namespace_conflict(std::string_view op_namespace, const fs::path& path,
                             const trust::VerifiedPackage::File& binary) {
  std::string owner = "a library of this process";
  std::string owner_digest;
  for (const MappedObject& object : mapped_objects()) {
    std::error_code error;
    fs::path real = fs::read_symlink(object.path, error);  // /proc/<pid>/fd/<N> of our own
    if (error) real = object.path;
    if (real.filename().string().rfind(std::string(op_namespace) + ".", 0) != 0) continue;
    owner = real.string();
    const UniqueFd fd = open_mapped(object);
    if (fd) owner_digest = digest_of_fd(DigestAlgorithm::kSha256, fd.get()).hex();
    break;
  }
  return loader_errors::namespace_conflict(op_namespace, path.string(), binary.digest.hex(), owner,
                                           owner_digest);
}

std::string require_mapped_copy(const trust::VerifiedPackage::File& binary,
                                std::string_view op_namespace, const fs::path& path) {
  auto mapped = SharedObject::find(binary.fd, path.string());
  if (!mapped) mapped = find_same_content(binary);
  if (!mapped) throw namespace_conflict(op_namespace, path, binary);
  mapped->pin();
  return mapped->name();
}

}  // namespace kernelhub::loader
