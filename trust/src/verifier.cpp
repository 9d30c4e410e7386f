// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/trust/verifier.h"

#include "digest_manifest.h"
#include "trust_errors.h"
#include "variant_walk.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <unistd.h>
#include <utility>

namespace kernelhub::trust {

struct VerifiedPackage::State {
  Origin origin;
  Metadata metadata;
  Decision decision;
  std::vector<UniqueFd> fds;
  std::vector<File> files;  // by path, so `find` can bisect
  std::string variant_digest;
  bool needs_sealed = false;
};

namespace {

/// The hashes of one file that any of the expectations needs, from a single read.
struct Hashes {
  Digest sha256;
  Digest sha512;    // when metadata's digest uses it
  Digest git_blob;  // when a listing may name it by git id
  std::uint64_t size_bytes = 0;
};

/// Calls `use(block, size)` for the content from its start.
template <class Use>
void read_blocks(int fd, const std::string& path, Use use) {
  std::vector<char> block(256 * 1024);
  off_t offset = 0;
  while (true) {
    const ssize_t count = ::pread(fd, block.data(), block.size(), offset);
    if (count == 0) return;
    if (count < 0) {
      if (errno == EINTR) continue;
      throw core_errors::read_failed(path, errno);
    }
    use(block.data(), static_cast<std::size_t>(count));
    offset += count;
  }
}

bool has(const Decision& decision, Evidence evidence) {
  return std::find(decision.used.begin(), decision.used.end(), evidence) != decision.used.end();
}

}  // namespace

/// Steps 12 and 13 of the load pipeline on one directory.
class Verifier {
 public:
  Verifier(const Origin& origin, const Metadata& metadata, const Expected& expected,
           const Decision& decision)
      : origin_(origin), metadata_(metadata), expected_(expected), decision_(decision) {}

  void hash(const std::vector<OpenFile>& files) {
    const bool needs_sha512 =
        metadata_.digest && metadata_.digest->algorithm == DigestAlgorithm::kSha512;
    for (const OpenFile& file : files) {
      Hasher sha256(DigestAlgorithm::kSha256);
      Hasher sha512(DigestAlgorithm::kSha512);
      Hasher git_blob = Hasher::git_blob(file.size_bytes);
      Hashes hashes;
      read_blocks(file.fd.get(), file.path, [&](const char* block, std::size_t size) {
        sha256.update(block, size);
        if (needs_sha512) sha512.update(block, size);
        if (!expected_.listing.empty()) git_blob.update(block, size);
        hashes.size_bytes += size;
      });
      hashes.sha256 = sha256.finish();
      if (needs_sha512) hashes.sha512 = sha512.finish();
      if (!expected_.listing.empty()) hashes.git_blob = git_blob.finish();
      if (hashes.size_bytes != file.size_bytes) {
        throw trust_errors::digest_mismatch(origin_, file.path,
                                            fmt::format("{} bytes", file.size_bytes),
                                            fmt::format("{} bytes", hashes.size_bytes));
      }
      hashes_.emplace(file.path, std::move(hashes));
    }
  }

  void compare() const {
    if (!expected_.lock_digest.empty()) {
      const std::string found = variant_digest();
      if (found != expected_.lock_digest) compare_named_files();
      if (found != expected_.lock_digest) {
        throw trust_errors::digest_mismatch(origin_, "", expected_.lock_digest, found);
      }
    }
    compare_named_files();
  }

  std::string variant_digest() const {
    std::map<std::string, Digest> digests;
    for (const auto& [path, hashes] : hashes_) digests.emplace(path, hashes.sha256);
    return locked_digest(digests);
  }

  static VerifiedPackage package(std::unique_ptr<VerifiedPackage::State> state) {
    return VerifiedPackage(std::move(state));
  }
  const Hashes& hashes_of(const std::string& path) const { return hashes_.at(path); }

 private:
  void compare_named_files() const {
    if (has(decision_, Evidence::kLocal)) {
      compare_local();
      return;
    }
    if (metadata_.digest) {
      compare_digest(*metadata_.digest);
    } else if (has(decision_, Evidence::kSignature)) {
      throw trust_errors::digest_missing(origin_, "a signed package has no digest of its files");
    }
    if (!expected_.listing.empty()) compare_listing(metadata_.digest.has_value());
    if (!metadata_.digest && expected_.listing.empty() && expected_.lock_digest.empty()) {
      throw trust_errors::digest_missing(
          origin_, "neither metadata.json, a lock nor the commit's listing names its files");
    }
  }

  /// The user's own files are what they are; a digest that no longer fits is worth a word.
  void compare_local() const {
    if (!metadata_.digest) return;
    try {
      compare_digest(*metadata_.digest);
    } catch (const TrustError& error) {
      warn_once("stale digest " + origin_.directory.string(),
                fmt::format("the digest in {}/metadata.json is out of date: {}",
                            origin_.directory.string(), error.what()));
    }
  }

  void compare_digest(const VariantDigest& digest) const {
    if (digest.files.empty()) {
      throw trust_errors::digest_missing(origin_, "the digest in metadata.json names no file");
    }
    const bool is_sha512 = digest.algorithm == DigestAlgorithm::kSha512;
    for (const auto& [path, wanted] : digest.files) {
      const auto found = hashes_.find(path);
      if (found == hashes_.end()) throw trust_errors::missing_file(origin_, path);
      const Digest& actual = is_sha512 ? found->second.sha512 : found->second.sha256;
      if (actual != wanted) {
        throw trust_errors::digest_mismatch(origin_, path, wanted.hex(), actual.hex());
      }
    }
    for (const auto& [path, hashes] : hashes_) {
      if (digest.files.count(path) == 0 && !is_outside_digest(path)) {
        throw trust_errors::unknown_file(origin_, path, "the digest in metadata.json lacks it");
      }
    }
  }

  /// With a digest only the two files outside it are left to the listing.
  void compare_listing(bool outside_digest_only) const {
    std::map<std::string, const Expected::ListedFile*> listed;
    for (const Expected::ListedFile& file : expected_.listing) {
      if (!outside_digest_only || is_outside_digest(file.path)) listed.emplace(file.path, &file);
    }
    for (const auto& [path, file] : listed) {
      const auto found = hashes_.find(path);
      // Listed bytecode is never fetched.
      if (found == hashes_.end() && is_ignored(path)) continue;
      if (found == hashes_.end()) throw trust_errors::missing_file(origin_, path);
      const bool by_git_id = file->digest.algorithm == DigestAlgorithm::kSha1;
      const Digest& actual = by_git_id ? found->second.git_blob : found->second.sha256;
      if (actual != file->digest || found->second.size_bytes != file->size_bytes) {
        throw trust_errors::digest_mismatch(origin_, path, file->digest.hex(), actual.hex());
      }
    }
    for (const auto& [path, hashes] : hashes_) {
      if ((!outside_digest_only || is_outside_digest(path)) && listed.count(path) == 0) {
        throw trust_errors::unknown_file(origin_, path, "the commit's listing lacks it");
      }
    }
  }

  static bool is_ignored(const std::string& path) {
    return is_bytecode(path) || ("/" + path).find("/__pycache__/") != std::string::npos;
  }

  const Origin& origin_;
  const Metadata& metadata_;
  const Expected& expected_;
  const Decision& decision_;
  std::map<std::string, Hashes> hashes_;
};

namespace {

/// The metadata that was judged must be the one that lies beside the files.
void check_metadata_file(const VerifiedPackage& package, const Metadata& judged) {
  const VerifiedPackage::File* file = package.find("metadata.json");
  if (file == nullptr) throw trust_errors::missing_file(package.origin(), "metadata.json");
  const std::string origin = (package.origin().directory / "metadata.json").string();
  const Metadata found = Metadata::parse(package.read(*file), origin);
  if (found.to_json() == judged.to_json()) return;
  throw trust_errors::digest_mismatch(package.origin(), "metadata.json",
                                      "the metadata this load was decided on", "other content");
}

}  // namespace

VerifiedPackage verify_variant(Origin origin, const Metadata& metadata, const Expected& expected,
                               const TrustPolicy& policy, Decision decision) {
  if (!decision.allow) throw trust_errors::denied(origin, decision);
  const bool is_pinned = (has(decision, Evidence::kLock) && !expected.lock_digest.empty()) ||
                         has(decision, Evidence::kSignature);
  OwnershipCheck ownership(origin, policy, decision, is_pinned);
  std::vector<OpenFile> files = open_variant(origin, expected.blob_root, ownership);
  auto state = std::make_unique<VerifiedPackage::State>();
  Verifier verifier(origin, metadata, expected, decision);
  verifier.hash(files);
  verifier.compare();
  for (OpenFile& file : files) {
    state->files.push_back({file.path, verifier.hashes_of(file.path).sha256, file.size_bytes,
                            file.fd.get(), file.modified_ns, file.changed_ns});
    state->fds.push_back(std::move(file.fd));
  }
  state->variant_digest = verifier.variant_digest();
  state->needs_sealed = ownership.needs_sealed() || policy.require_sealed();
  state->metadata = metadata;
  state->origin = std::move(origin);
  state->decision = std::move(decision);
  VerifiedPackage package = Verifier::package(std::move(state));
  check_metadata_file(package, metadata);
  if (package.find("metadata.json.sigstore") != nullptr) {
    const std::string name =
        package.origin().repo ? package.origin().repo->str() : package.origin().directory.string();
    warn_once("signature " + name,
              fmt::format("{}: signature present but not checked by this version", name));
  }
  return package;
}

VerifiedPackage::VerifiedPackage(std::unique_ptr<State> state) : state_(std::move(state)) {}
VerifiedPackage::VerifiedPackage(VerifiedPackage&&) noexcept = default;
VerifiedPackage& VerifiedPackage::operator=(VerifiedPackage&&) noexcept = default;
VerifiedPackage::~VerifiedPackage() = default;

const Origin& VerifiedPackage::origin() const noexcept { return state_->origin; }
const Metadata& VerifiedPackage::metadata() const noexcept { return state_->metadata; }
const Decision& VerifiedPackage::decision() const noexcept { return state_->decision; }
const std::vector<VerifiedPackage::File>& VerifiedPackage::files() const noexcept {
  return state_->files;
}
const std::string& VerifiedPackage::variant_digest() const noexcept {
  return state_->variant_digest;
}
bool VerifiedPackage::needs_sealed() const noexcept { return state_->needs_sealed; }

const VerifiedPackage::File* VerifiedPackage::find(std::string_view path) const noexcept {
  const auto found = std::lower_bound(
      state_->files.begin(), state_->files.end(), path,
      [](const File& file, std::string_view wanted) { return file.path < wanted; });
  return found != state_->files.end() && found->path == path ? &*found : nullptr;
}

std::string VerifiedPackage::read(const File& file) const {
  std::string content;
  content.reserve(file.size_bytes);
  read_blocks(file.fd, file.path,
              [&](const char* block, std::size_t size) { content.append(block, size); });
  // The file may be written in place after it was verified.
  const Digest found = digest_of(DigestAlgorithm::kSha256, content);
  if (found != file.digest) {
    throw trust_errors::digest_mismatch(state_->origin, file.path, file.digest.hex(), found.hex());
  }
  return content;
}

}  // namespace kernelhub::trust
