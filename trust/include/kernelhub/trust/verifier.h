// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/digest.h"
#include "kernelhub/core/export.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/trust/policy.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::trust {

/// What the bytes of a variant must be (trust spec 2.5 step 12), strongest first.
struct Expected {
  /// Digest of the whole variant from kernelhub.lock, "sha256:<hex>"; "" = none.
  std::string lock_digest;
  /// Listing of the commit: path -> (algorithm kSha1 git blob id or kSha256, size). Used when
  /// metadata has no digest.
  struct ListedFile {
    std::string path;
    Digest digest;  // kSha1: git blob id; kSha256: content
    std::uint64_t size_bytes = 0;
  };
  std::vector<ListedFile> listing;
  /// Root that links inside the variant may point into (the Hub cache's blob store); empty: links
  /// are refused.
  std::filesystem::path blob_root;
};

/// Facts about where a package came from, carried to audit and errors.
struct Origin {
  std::string endpoint;
  std::optional<RepoId> repo;
  std::optional<KernelSpec> requested;
  std::optional<CommitHash> commit;
  std::string variant;              // name of the variant directory
  std::filesystem::path directory;  // where the files are
};

/// A variant directory whose every byte was read through the descriptors it owns and compared with
/// what was expected. Only the verifier makes one; only this type can be loaded.
class KERNELHUB_API VerifiedPackage {
 public:
  struct File {
    std::string path;  // relative to the variant, '/' separated
    Digest digest;     // SHA-256 of the content
    std::uint64_t size_bytes = 0;
    int fd = -1;  // owned by the package, open for its life
    // Last changes of content and of status as they were before the content was hashed.
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
  };
  VerifiedPackage(VerifiedPackage&&) noexcept;
  VerifiedPackage& operator=(VerifiedPackage&&) noexcept;
  ~VerifiedPackage();
  const Origin& origin() const noexcept;
  const Metadata& metadata() const noexcept;
  const Decision& decision() const noexcept;
  const std::vector<File>& files() const noexcept;
  const File* find(std::string_view path) const noexcept;
  /// Digest of the variant by trust spec 2.7, "sha256:<hex>".
  const std::string& variant_digest() const noexcept;
  /// Others may write to files or parents, or the policy asks: load the binary as a sealed copy.
  bool needs_sealed() const noexcept;
  /// Content of one file through its descriptor. Throws kDigestMismatch when it was written since
  /// it was verified.
  std::string read(const File& file) const;

 private:
  struct State;
  friend class Verifier;
  friend VerifiedPackage verify_variant(Origin origin, const Metadata& metadata,
                                        const Expected& expected, const TrustPolicy& policy,
                                        Decision decision);
  explicit VerifiedPackage(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Steps 7-8 on raw metadata bytes: strict parse, then binding of name, version, backend, id and,
/// when present, kernelhub.repo-id / kernelhub.variant to the request (trust spec 2.5). No binding
/// of repo and version for local directories. Throws kInvalidMetadata, TrustError
/// kBindingMismatch naming the field.
KERNELHUB_API Metadata parse_bound_metadata(std::string_view bytes, const Origin& origin);

/// Steps 12-13: closed-world walk, each file opened once and hashed through its descriptor, then
/// compared. `policy` supplies ownership rules; `decision` is the final allowed one.
/// Files of a local package are what they are: a stale digest in its metadata is a warning.
/// Throws TrustError kDigestMismatch, kUnknownFile, kMissingFile, kUnsafePath, kUnsafeOwnership,
/// kDigestMissing, or kTrustDenied when `decision.allow` is false.
KERNELHUB_API VerifiedPackage verify_variant(Origin origin, const Metadata& metadata,
                                             const Expected& expected, const TrustPolicy& policy,
                                             Decision decision);

/// Digest of package spec 3.1 over a directory: what the builder writes and `check` compares.
KERNELHUB_API VariantDigest compute_variant_digest(const std::filesystem::path& directory,
                                                   DigestAlgorithm algorithm);
/// Differences between a directory and an expected digest, as text lines, empty when equal.
KERNELHUB_API std::vector<std::string> compare_variant_digest(const VariantDigest& actual,
                                                              const VariantDigest& expected);

}  // namespace kernelhub::trust
