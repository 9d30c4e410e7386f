// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/digest.h"
#include "kernelhub/core/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

namespace kernelhub::server {

/// Facts of one stored content.
struct StoredObject {
  Digest sha256;
  Digest git_blob;  // SHA-1 of the content as a git blob
  std::uint64_t size_bytes = 0;
};

/// Content-addressed files `<root>/objects/sha256/<ab>/<hash>`, shared by all repositories, with
/// the facts beside them in `<hash>.json`. Thread-safe and safe between processes: an object
/// appears complete or not at all.
class ObjectStore {
 public:
  /// One object being received: bytes go to a temp file under uploads/, hashed as they come.
  /// Destroyed without finish() it leaves nothing behind.
  class Writer {
   public:
    Writer(Writer&&) noexcept;
    Writer& operator=(Writer&&) noexcept;
    ~Writer();
    /// Throws kDiskFull, kIo.
    void write(std::string_view bytes);
    std::uint64_t size_bytes() const noexcept;
    /// Puts the object in place. Throws kDiskFull, kIo.
    StoredObject finish();
    /// The same, but throws kBadRequest and stores nothing unless hash and size are the expected.
    StoredObject finish(const Digest& sha256, std::uint64_t size_bytes);

   private:
    friend class ObjectStore;
    struct State;
    explicit Writer(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  /// Creates the folders below `root` and removes uploads left by a killed process (over 1 h old).
  explicit ObjectStore(std::filesystem::path root);
  Writer writer() const;
  StoredObject put(std::string_view content) const;
  /// Nothing when absent. Throws kStoreCorrupt when content and facts disagree in size.
  std::optional<StoredObject> find(const Digest& sha256) const;
  /// Read-only descriptor. Throws kStoreCorrupt when absent: a tree names it, so it must exist.
  UniqueFd open(const Digest& sha256) const;

 private:
  std::filesystem::path root_;
};

}  // namespace kernelhub::server
