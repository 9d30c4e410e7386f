// SPDX-License-Identifier: Apache-2.0
#include "variant_walk.h"

#include "trust_errors.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/file_time.h"
#include "kernelhub/core/safe_path.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <map>
#include <memory>
#include <unistd.h>
#include <utility>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFiles = 20000;
constexpr int kOpenFile = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
constexpr int kOpenFolder = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY;

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

std::vector<std::string> names_in(const UniqueFd& folder, const fs::path& path) {
  const int copy = ::fcntl(folder.get(), F_DUPFD_CLOEXEC, 0);
  const std::unique_ptr<DIR, CloseDirectory> directory(copy < 0 ? nullptr : ::fdopendir(copy));
  if (!directory) {
    const int error_number = errno;
    if (copy >= 0) ::close(copy);
    throw core_errors::read_failed(path, error_number);
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) throw core_errors::read_failed(path, errno);
  return names;
}

/// `path` relative to `root` when it is a file somewhere below it.
std::string below(const fs::path& path, const fs::path& root) {
  if (root.empty()) return "";
  const fs::path relative = path.lexically_relative(root);
  const bool is_outside = relative.empty() || relative == "." || *relative.begin() == "..";
  return is_outside ? "" : relative.generic_string();
}

class Walk {
 public:
  Walk(const Origin& origin, const fs::path& blob_root, OwnershipCheck& ownership)
      : origin_(origin), ownership_(ownership) {
    std::error_code missing;
    if (blob_root.empty()) return;
    blob_roots_.push_back(fs::canonical(blob_root, missing));
    // A blob may itself be a link into the store that the Python client shares between
    // repositories (hub spec 5.5): <cache>/blobs beside <cache>/<repo>/blobs.
    blob_roots_.push_back(fs::canonical(blob_root.parent_path().parent_path() / "blobs", missing));
  }

  std::vector<OpenFile> run() {
    std::error_code error;
    const fs::path real = fs::canonical(origin_.directory, error);
    if (error) throw core_errors::read_failed(origin_.directory, error.value());
    const UniqueFd folder(::open(real.c_str(), kOpenFolder));
    if (!folder) throw core_errors::read_failed(real, errno);
    ownership_.check_parents(real);
    visit_folder(folder, real, "");
    std::sort(files_.begin(), files_.end(),
              [](const OpenFile& a, const OpenFile& b) { return a.path < b.path; });
    return std::move(files_);
  }

 private:
  void visit_folder(const UniqueFd& folder, const fs::path& real, const std::string& prefix) {
    for (const std::string& name : names_in(folder, real)) visit(folder, real, prefix, name);
  }

  void visit(const UniqueFd& folder, const fs::path& real, const std::string& prefix,
             const std::string& name) {
    struct stat status {};
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      throw core_errors::read_failed(real / name, errno);
    }
    // Left in shared caches by the Python client; nobody here reads it.
    if (S_ISDIR(status.st_mode) && name == "__pycache__") return;
    const std::string path = prefix + name;
    if (!SafeRelPath::is_safe(path)) refuse(path, "such a name is not allowed in a package");
    if (S_ISDIR(status.st_mode)) {
      const UniqueFd inner(::openat(folder.get(), name.c_str(), kOpenFolder));
      if (!inner || ::fstat(inner.get(), &status) != 0) {
        throw core_errors::read_failed(real / name, errno);
      }
      ownership_.check(real / name, status);
      visit_folder(inner, real / name, path + "/");
      return;
    }
    if (name == "__pycache__" || is_bytecode(path)) {
      throw trust_errors::unknown_file(origin_, path, "Python bytecode is never loaded");
    }
    refuse_same_name(path);
    if (S_ISLNK(status.st_mode)) {
      add(path, open_blob(path, real / name), real / name);
    } else if (S_ISREG(status.st_mode)) {
      add(path, UniqueFd(::openat(folder.get(), name.c_str(), kOpenFile)), real / name);
    } else {
      refuse(path, "it is neither a file nor a folder");
    }
  }

  /// On a file system without letter case one of the two would replace the other.
  void refuse_same_name(const std::string& path) {
    std::string folded = path;
    std::transform(folded.begin(), folded.end(), folded.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const auto [same, is_new] = folded_.emplace(folded, path);
    if (!is_new) refuse(path, "it differs from " + same->second + " in letter case only");
  }

  UniqueFd open_blob(const std::string& path, const fs::path& link) {
    std::error_code error;
    const fs::path target = fs::canonical(link, error);
    if (error) refuse(path, "it is a link to nothing");
    for (const fs::path& root : blob_roots_) {
      const std::string blob = below(target, root);
      if (blob.empty() || !SafeRelPath::is_safe(blob)) continue;
      const UniqueFd root_fd(::open(root.c_str(), kOpenFolder));
      if (!root_fd) throw core_errors::read_failed(root, errno);
      ownership_.check_parents(target.parent_path());
      return open_beneath(root_fd.get(), SafeRelPath::parse(blob, path), kOpenFile);
    }
    refuse(path, "it is a link that does not lead to a blob of this repository");
  }

  void add(const std::string& path, UniqueFd fd, const fs::path& real) {
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) throw core_errors::read_failed(real, errno);
    if (!S_ISREG(status.st_mode)) refuse(path, "it is not a regular file");
    ownership_.check(real, status);
    if (files_.size() >= kMaxFiles) refuse(path, "the package has more than 20000 files");
    files_.push_back({path, std::move(fd), static_cast<std::uint64_t>(status.st_size),
                      nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)});
  }

  [[noreturn]] void refuse(const std::string& path, const std::string& reason) const {
    throw trust_errors::unsafe_path(origin_, path, reason);
  }

  const Origin& origin_;
  OwnershipCheck& ownership_;
  std::vector<fs::path> blob_roots_;
  std::map<std::string, std::string> folded_;
  std::vector<OpenFile> files_;
};

}  // namespace

bool is_bytecode(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return name.size() > 4 && name.substr(name.size() - 4) == ".pyc";
}

std::vector<OpenFile> open_variant(const Origin& origin, const fs::path& blob_root,
                                   OwnershipCheck& ownership) {
  return Walk(origin, blob_root, ownership).run();
}

}  // namespace kernelhub::trust
