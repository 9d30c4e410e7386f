// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/server/object_store.h"

#include "server_errors.h"
#include "store_json.h"

#include "kernelhub/core/atomic_file.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace kernelhub::server {
namespace fs = std::filesystem;

namespace {

constexpr std::chrono::hours kStaleUpload{1};
// Contents this large would cost much to send again after a power loss (trust spec 4.3).
constexpr std::uint64_t kSyncedBytes = 1u << 20;

Digest git_blob_of_fd(int fd, std::uint64_t size_bytes) {
  Hasher hasher = Hasher::git_blob(size_bytes);
  std::array<char, 65536> buffer;
  std::uint64_t offset = 0;
  while (offset < size_bytes) {
    const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw server_errors::io_failed("read", "an uploaded object", got < 0 ? errno : EIO);
    hasher.update(buffer.data(), static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return hasher.finish();
}

fs::path path_of(const fs::path& root, const Digest& sha256) {
  const std::string hex = sha256.hex();
  return root / "objects" / "sha256" / hex.substr(0, 2) / hex;
}

std::optional<StoredObject> find_in(const fs::path& root, const Digest& sha256) {
  const fs::path path = path_of(root, sha256);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return std::nullopt;
    throw server_errors::io_failed("stat", path, errno);
  }
  StoredObject object =
      object_from_json(read_file(path.string() + ".json"), path.string() + ".json");
  if (object.size_bytes != static_cast<std::uint64_t>(status.st_size)) {
    throw server_errors::store_corrupt(path, "size differs from the recorded one");
  }
  return object;
}

}  // namespace

struct ObjectStore::Writer::State {
  fs::path root;
  fs::path temp;
  UniqueFd fd;
  Hasher hasher{DigestAlgorithm::kSha256};
  std::uint64_t size_bytes = 0;

  ~State() {
    if (!temp.empty()) ::unlink(temp.c_str());
  }

  void place(const StoredObject& object) {
    if (find_in(root, object.sha256)) return;
    const fs::path path = path_of(root, object.sha256);
    fs::create_directories(path.parent_path());
    // The facts go first: an object that can be seen always has them.
    write_file_atomically(path.string() + ".json", object_to_json(object));
    if (object.size_bytes >= kSyncedBytes && ::fdatasync(fd.get()) != 0) {
      throw server_errors::io_failed("sync", temp, errno);
    }
    if (::rename(temp.c_str(), path.c_str()) != 0) {
      throw server_errors::io_failed("rename", temp, errno);
    }
    temp.clear();
  }
};

ObjectStore::Writer::Writer(std::unique_ptr<State> state) : state_(std::move(state)) {}
ObjectStore::Writer::Writer(Writer&&) noexcept = default;
ObjectStore::Writer& ObjectStore::Writer::operator=(Writer&&) noexcept = default;
ObjectStore::Writer::~Writer() = default;

std::uint64_t ObjectStore::Writer::size_bytes() const noexcept { return state_->size_bytes; }

void ObjectStore::Writer::write(std::string_view bytes) {
  state_->hasher.update(bytes);
  state_->size_bytes += bytes.size();
  while (!bytes.empty()) {
    const ssize_t put = ::write(state_->fd.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw server_errors::io_failed("write", state_->temp, errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
}

StoredObject ObjectStore::Writer::finish() {
  StoredObject object;
  object.size_bytes = state_->size_bytes;
  object.sha256 = state_->hasher.finish();
  object.git_blob = git_blob_of_fd(state_->fd.get(), object.size_bytes);
  state_->place(object);
  return object;
}

StoredObject ObjectStore::Writer::finish(const Digest& sha256, std::uint64_t size_bytes) {
  StoredObject object;
  object.size_bytes = state_->size_bytes;
  object.sha256 = state_->hasher.finish();
  if (object.sha256 != sha256 || object.size_bytes != size_bytes) {
    throw server_errors::object_mismatch(sha256, size_bytes, object.sha256, object.size_bytes);
  }
  object.git_blob = git_blob_of_fd(state_->fd.get(), object.size_bytes);
  state_->place(object);
  return object;
}

ObjectStore::ObjectStore(fs::path root) : root_(std::move(root)) {
  fs::create_directories(root_ / "objects" / "sha256");
  fs::create_directories(root_ / "uploads");
  const auto oldest = fs::file_time_type::clock::now() - kStaleUpload;
  for (const fs::directory_entry& entry : fs::directory_iterator(root_ / "uploads")) {
    if (entry.is_regular_file() && entry.last_write_time() < oldest) fs::remove(entry.path());
  }
}

ObjectStore::Writer ObjectStore::writer() const {
  auto state = std::make_unique<Writer::State>();
  state->root = root_;
  std::string path = (root_ / "uploads" / "object-XXXXXX").string();
  state->fd = UniqueFd(::mkostemp(path.data(), O_CLOEXEC));
  if (!state->fd) throw server_errors::io_failed("create", path, errno);
  state->temp = path;
  return Writer(std::move(state));
}

StoredObject ObjectStore::put(std::string_view content) const {
  Writer object = writer();
  object.write(content);
  return object.finish();
}

std::optional<StoredObject> ObjectStore::find(const Digest& sha256) const {
  return find_in(root_, sha256);
}

UniqueFd ObjectStore::open(const Digest& sha256) const {
  const fs::path path = path_of(root_, sha256);
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd) return fd;
  if (errno == ENOENT) throw server_errors::store_corrupt(path, "object is missing");
  throw server_errors::io_failed("open", path, errno);
}

}  // namespace kernelhub::server
