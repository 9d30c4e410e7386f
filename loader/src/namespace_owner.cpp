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

/// The file of a mapped object, when its name leads to a regular one.
UniqueFd open_mapped(const MappedObject& object) {
  if (object.path.empty() || object.path.front() != '/') return {};
  UniqueFd fd(open(object.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (fd && (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))) fd.reset();
  return fd;
}

bool can_change(int fd) {
  constexpr int kFixed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals < 0 || (seals & kFixed) != kFixed;
}

/// A mapped object whose file has the very bytes of `binary`, e.g. one that Python imported from
/// another path (loader spec N3).
std::optional<SharedObject> find_same_content(const trust::VerifiedPackage::File& binary,
                                              bool sealed) {
  for (const MappedObject& object : mapped_objects()) {
    const UniqueFd fd = open_mapped(object);
    struct stat status {};
    if (!fd || fstat(fd.get(), &status) != 0) continue;
    if (static_cast<std::uint64_t>(status.st_size) != binary.size_bytes) continue;
    if (sealed && can_change(fd.get())) continue;
    if (!(digest_of_fd(DigestAlgorithm::kSha256, fd.get()) == binary.digest)) continue;
    // The path may lead to another file by now than the one that is mapped.
    if (auto mapped = SharedObject::find(fd.get(), object.path)) return mapped;
  }
  return std::nullopt;
}

}  // namespace

std::optional<SharedObject> find_mapped_file(const trust::VerifiedPackage::File& binary,
                                             const fs::path& path, bool sealed) {
  if (sealed) return std::nullopt;
  auto mapped = SharedObject::find(binary.fd, path.string());
  // A write in place since it was hashed would be in what is mapped too.
  if (mapped) require_unchanged(binary, path);
  return mapped;
}

SharedObject attach_to_namespace(const trust::VerifiedPackage::File& binary,
                                 std::string_view op_namespace, const fs::path& path, bool sealed) {
  auto mapped = find_mapped_file(binary, path, sealed);
  if (!mapped) mapped = find_same_content(binary, sealed);
  if (!mapped) throw namespace_conflict(op_namespace, path, binary);
  return *std::move(mapped);
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
                                std::string_view op_namespace, const fs::path& path, bool sealed) {
  SharedObject mapped = attach_to_namespace(binary, op_namespace, path, sealed);
  mapped.pin();
  return mapped.name();
}

}  // namespace kernelhub::loader
