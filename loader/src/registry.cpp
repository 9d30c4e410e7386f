// SPDX-License-Identifier: Apache-2.0
#include "registry.h"

#include "loaded_package.h"
#include "loader_errors.h"
#include "never_destroyed.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace kernelhub {

PackageRegistry& PackageRegistry::instance() {
  static loader::NeverDestroyed<PackageRegistry> registry;
  return *registry;
}

/// The right to load one digest; others wait until it ends, however it ends.
class PackageRegistry::Turn {
 public:
  Turn(PackageRegistry& registry, const Digest& digest) : registry_(registry), digest_(digest) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    {
      const std::lock_guard lock(registry_.mutex_);
      registry_.loading_.erase(digest_);
    }
    registry_.turn_over_.notify_all();
  }

 private:
  PackageRegistry& registry_;
  const Digest digest_;
};

/// Keeps a package that was mapped before its load failed: its initialisers have run, and the name
/// of its descriptor must not come to mean another file while it may still be mapped.
class PackageRegistry::Failure {
 public:
  Failure(PackageRegistry& registry, const std::shared_ptr<Package::State>& state)
      : registry_(registry), state_(state) {}
  Failure(const Failure&) = delete;
  Failure& operator=(const Failure&) = delete;
  ~Failure() {
    if (!state_ || !state_->object) return;
    state_->object->pin();
    const std::lock_guard lock(registry_.mutex_);
    registry_.failed_.push_back(std::move(state_));
  }
  void dismiss() noexcept { state_.reset(); }

 private:
  PackageRegistry& registry_;
  std::shared_ptr<Package::State> state_;
};

Package PackageRegistry::load(trust::VerifiedPackage verified, const PackageLoadOptions& options) {
  const trust::VerifiedPackage::File& binary = loader::find_binary(verified);
  const Digest digest = binary.digest;
  const std::filesystem::path directory = verified.origin().directory;
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto ready = packages_.find(digest);
    if (ready != packages_.end()) {
      const Package package = ready->second;
      lock.unlock();
      remember(digest, package, directory);
      return package;
    }
    const auto running = loading_.find(digest);
    if (running == loading_.end()) break;
    if (running->second == std::this_thread::get_id()) {
      throw loader_errors::recursive_load((directory / binary.path).string());
    }
    turn_over_.wait(lock);
  }
  loading_.emplace(digest, std::this_thread::get_id());
  lock.unlock();
  const Turn turn(*this, digest);
  // `binary` stays valid: the files live behind a pointer that moves along.
  auto state = std::make_shared<Package::State>(std::move(verified));
  Failure failure(*this, state);
  loader::load_into(*state, binary, options);
  failure.dismiss();
  const Package package(std::move(state));
  remember(digest, package, directory);
  return package;
}

void PackageRegistry::remember(const Digest& digest, const Package& package,
                               const std::filesystem::path& directory) {
  UniqueFd fd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  const bool found = fd && fstat(fd.get(), &status) == 0;
  const std::lock_guard lock(mutex_);
  packages_.insert_or_assign(digest, package);
  if (!found) return;
  directories_.insert_or_assign(Identity{status.st_dev, status.st_ino},
                                Directory{std::move(fd), package});
}

std::optional<Package> PackageRegistry::find(const std::filesystem::path& directory) const {
  struct stat status {};
  if (stat(directory.c_str(), &status) != 0) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto found = directories_.find(Identity{status.st_dev, status.st_ino});
  if (found == directories_.end()) return std::nullopt;
  return found->second.package;
}

std::vector<Package> PackageRegistry::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<Package> packages;
  for (const auto& [digest, package] : packages_) packages.push_back(package);
  return packages;
}

}  // namespace kernelhub
