// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub {

/// SHA-1 names git objects and is never evidence of trust.
enum class DigestAlgorithm : std::uint8_t { kSha1, kSha256, kSha512 };

/// "sha1", "sha256", "sha512".
KERNELHUB_API std::string_view digest_algorithm_name(DigestAlgorithm algorithm) noexcept;
/// Throws kInvalidDigest for another name.
KERNELHUB_API DigestAlgorithm parse_digest_algorithm(std::string_view name);

/// A hash value together with its algorithm.
struct KERNELHUB_API Digest {
  DigestAlgorithm algorithm = DigestAlgorithm::kSha256;
  std::vector<std::uint8_t> bytes;

  /// Lower-case hex.
  std::string hex() const;
  /// Standard alphabet, padded.
  std::string base64() const;
  /// Throws kInvalidDigest when the text has the wrong length or alphabet for the algorithm.
  static Digest from_hex(DigestAlgorithm algorithm, std::string_view text);
  static Digest from_base64(DigestAlgorithm algorithm, std::string_view text);

  friend bool operator==(const Digest& a, const Digest& b) {
    return a.algorithm == b.algorithm && a.bytes == b.bytes;
  }
  friend bool operator!=(const Digest& a, const Digest& b) { return !(a == b); }
  friend bool operator<(const Digest& a, const Digest& b) {
    return a.algorithm != b.algorithm ? a.algorithm < b.algorithm : a.bytes < b.bytes;
  }
};

/// Streaming hash (OpenSSL EVP). Move-only; not thread-safe.
class KERNELHUB_API Hasher {
 public:
  explicit Hasher(DigestAlgorithm algorithm);
  /// Git object id of a blob of `size_bytes`: SHA-1 over "blob <size>\0" and the content.
  static Hasher git_blob(std::uint64_t size_bytes);
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  void update(const void* data, std::size_t size_bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }
  /// Ends the hash; the object may only be destroyed afterwards.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hash of one buffer.
KERNELHUB_API Digest digest_of(DigestAlgorithm algorithm, std::string_view content);
/// Hash of a whole open file through its descriptor (pread from 0; the offset is untouched).
/// Throws kIo.
KERNELHUB_API Digest digest_of_fd(DigestAlgorithm algorithm, int fd);

}  // namespace kernelhub
