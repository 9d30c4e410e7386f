// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/lockfile.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/digest.h"
#include "kernelhub/core/json_access.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace kernelhub {
namespace {

constexpr std::uint64_t kMaxLockBytes = 16u << 20;
constexpr std::size_t kMaxKernels = 10000;
constexpr JsonLimits kLockLimits{kMaxLockBytes, 32, 2'000'000};

template <class Read>
auto read_field(const JsonObject& object, std::string_view key, std::string_view expected,
                Read read) {
  const std::string text = object.string(key);
  try {
    return read(text);
  } catch (const Error&) {
    object.fail(key, expected, text);
  }
}

RepoId read_repo(const JsonObject& object, std::string_view key) {
  return read_field(object, key, "a repo id", [](const auto& text) { return RepoId::parse(text); });
}

CommitHash read_commit(const JsonObject& object, std::string_view key) {
  return read_field(object, key, "a commit of 40 hex digits",
                    [](const auto& text) { return CommitHash::parse(text); });
}

KernelSpec read_spec(const JsonObject& object) {
  if (object.has("version") == object.has("revision")) {
    object.fail("", "exactly one of version and revision",
                object.has("version") ? "both" : "neither");
  }
  if (object.has("version")) {
    return KernelSpec::of_version(static_cast<std::int64_t>(object.unsigned_integer("version")));
  }
  return read_field(object, "revision", "a git revision",
                    [](const auto& text) { return KernelSpec::of_revision(text); });
}

LockedKernel read_entry(const JsonObject& item) {
  item.only({"dependency", "lock"});
  const JsonObject dependency = item.object("dependency");
  dependency.only({"repo-id", "version", "revision"});
  const JsonObject lock = item.object("lock");
  lock.only({"commit", "hash"});
  return {read_repo(dependency, "repo-id"), read_spec(dependency), read_commit(lock, "commit"), {}};
}

/// Form of clients before 0.17.2; its per-variant hashes come from listings and prove no bytes.
LockedKernel read_legacy_entry(const JsonObject& item) {
  item.only({"repo_id", "sha", "variants"});
  const JsonObject variants = item.object("variants");
  for (const std::string& name : variants.keys()) {
    const JsonObject variant = variants.object(name);
    variant.only({"hash", "hash_type"});
    variant.string("hash");
    variant.string("hash_type");
  }
  CommitHash commit = read_commit(item, "sha");
  KernelSpec spec = KernelSpec::of_revision(commit.str());
  return {read_repo(item, "repo_id"), std::move(spec), std::move(commit), {}};
}

bool is_same_request(const LockedKernel& a, const LockedKernel& b) {
  return a.repo == b.repo && a.spec.version == b.spec.version && a.spec.revision == b.spec.revision;
}

std::vector<LockedKernel> read_kernels(const nlohmann::json& document, const std::string& origin) {
  const auto fail = [&](std::string_view expected, std::string_view found) {
    return core_errors::json_field(ErrorCode::kInvalidLockfile, origin, "$", expected, found);
  };
  if (!document.is_array()) throw fail("an array", document.type_name());
  if (document.size() > kMaxKernels) {
    throw fail(fmt::format("at most {} kernels", kMaxKernels), std::to_string(document.size()));
  }
  std::vector<LockedKernel> kernels;
  const bool is_legacy =
      !document.empty() && document.front().is_object() && document.front().contains("repo_id");
  for (const auto& value : document) {
    const JsonObject item(value, origin, fmt::format("$[{}]", kernels.size()),
                          ErrorCode::kInvalidLockfile);
    LockedKernel entry = is_legacy ? read_legacy_entry(item) : read_entry(item);
    const auto same = [&](const LockedKernel& other) { return is_same_request(entry, other); };
    if (std::any_of(kernels.begin(), kernels.end(), same)) {
      item.fail("", "each kernel once",
                fmt::format("{} {} again", entry.repo.str(), entry.spec.str()));
    }
    kernels.push_back(std::move(entry));
  }
  return kernels;
}

std::map<std::string, std::string> read_variant_digests(const JsonObject& entry) {
  constexpr std::string_view kPrefix = "sha256:";
  std::map<std::string, std::string> digests;
  const JsonObject variants = entry.object("variants");
  for (const std::string& name : variants.keys()) {
    const JsonObject variant = variants.object(name);
    variant.only({"digest", "signer"});
    digests[name] = read_field(variant, "digest", "sha256:<64 hex digits>", [&](const auto& text) {
      const bool prefixed = text.compare(0, kPrefix.size(), kPrefix) == 0;
      const Digest digest = Digest::from_hex(
          DigestAlgorithm::kSha256, prefixed ? text.substr(kPrefix.size()) : std::string());
      return std::string(kPrefix) + digest.hex();
    });
  }
  return digests;
}

/// Adds the digests of kernelhub.lock to the entries that it also names.
void read_digest_lock(const std::filesystem::path& path, std::vector<LockedKernel>& kernels) {
  const std::string origin = path.string();
  const auto document = parse_untrusted_json(read_file(path, kMaxLockBytes), origin, kLockLimits);
  const JsonObject root(document, origin, "$", ErrorCode::kInvalidLockfile);
  root.only({"format", "kernels"});
  if (root.unsigned_integer("format") != 1) {
    root.fail("format", "1", std::to_string(root.unsigned_integer("format")));
  }
  for (const JsonObject& item : root.objects("kernels")) {
    item.only({"repo-id", "version", "revision", "commit", "endpoint", "variants"});
    const LockedKernel digests{read_repo(item, "repo-id"), read_spec(item),
                               read_commit(item, "commit"), read_variant_digests(item)};
    for (LockedKernel& kernel : kernels) {
      if (!is_same_request(kernel, digests)) continue;
      if (kernel.commit != digests.commit) {
        throw core_errors::lockfile_drift(path, kernel.repo.str(), digests.commit.str(),
                                          kernel.commit.str());
      }
      kernel.variant_digests = digests.variant_digests;
    }
  }
}

}  // namespace

Lockfile Lockfile::read(const std::filesystem::path& kernels_lock) {
  Lockfile lockfile;
  lockfile.path_ = kernels_lock;
  const std::string origin = kernels_lock.string();
  lockfile.kernels_ = read_kernels(
      parse_untrusted_json(read_file(kernels_lock, kMaxLockBytes), origin, kLockLimits), origin);
  const std::filesystem::path digests = kernels_lock.parent_path() / "kernelhub.lock";
  if (std::filesystem::exists(digests)) read_digest_lock(digests, lockfile.kernels_);
  return lockfile;
}

const LockedKernel* Lockfile::find(const RepoId& repo) const noexcept {
  const auto found = std::find_if(kernels_.begin(), kernels_.end(),
                                  [&](const LockedKernel& kernel) { return kernel.repo == repo; });
  return found == kernels_.end() ? nullptr : &*found;
}

}  // namespace kernelhub
