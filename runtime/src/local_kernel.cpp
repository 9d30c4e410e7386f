// SPDX-License-Identifier: Apache-2.0
#include "local_kernel.h"

#include "check_dependencies.h"
#include "runtime_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/variant.h"

#include <algorithm>

namespace kernelhub {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxMetadataBytes = 1u << 20;

std::vector<std::string> variants_under(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    // A source tree's torch-ext parses as a noarch variant (package spec 1.1); it has no metadata.
    std::error_code unreadable;
    if (Variant::parse(name) && fs::exists(it->path() / "metadata.json", unreadable)) {
      names.push_back(std::move(name));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Root of the Hub cache that holds this snapshot folder, whose files are links into its blob
// stores; empty for a folder outside of a cache.
fs::path cache_root_of(const fs::path& directory) {
  for (fs::path at = directory; at.has_relative_path(); at = at.parent_path()) {
    std::error_code error;
    if (at.filename() == "snapshots" && fs::is_directory(at.parent_path() / "blobs", error)) {
      return at.parent_path().parent_path();
    }
  }
  return {};
}

}  // namespace

LocalVariants find_local_variants(const fs::path& path) {
  for (const fs::path& folder : {path, path / "build"}) {
    if (auto names = variants_under(folder); !names.empty()) return {folder, std::move(names)};
  }
  std::error_code error;
  if (fs::exists(path / "metadata.json", error)) {
    const fs::path itself = fs::canonical(path, error);
    if (!error) return {itself.parent_path(), {itself.filename().string()}};
  }
  throw runtime_errors::no_variants_at(path);
}

VerifiedLocal verify_local(const fs::path& path, const LoadOptions& options,
                           const SystemInfo& system, NoarchRule noarch, TrustContext& trust,
                           const std::optional<RepoId>& override_of) {
  const LocalVariants found = find_local_variants(path);
  const Backend backend = choose_backend(options.backend, system);
  VariantChoice choice = select_variant(found.names, system, backend, noarch);
  if (!choice.chosen) {
    throw runtime_errors::no_compatible_variant(path.string(), choice.decisions, system, backend,
                                                std::nullopt);
  }
  trust::Origin origin;
  origin.variant = *choice.chosen;
  std::error_code error;
  origin.directory = fs::canonical(found.parent / *choice.chosen, error);
  if (error) throw runtime_errors::no_variants_at(path);
  const Metadata metadata = trust::parse_bound_metadata(
      read_file(origin.directory / "metadata.json", kMaxMetadataBytes), origin);
  check_dependencies(metadata, origin.directory.string());
  if (options.check_metadata) options.check_metadata(metadata);
  trust::Candidate candidate;
  candidate.local_path = origin.directory;
  candidate.repo = override_of;
  candidate.is_local_override = override_of.has_value();
  candidate.variant = origin.variant;
  candidate.dirty = metadata.dirty();
  trust::Decision decision =
      require_allowed(trust, candidate, trust.policy.decide(candidate), path.string());
  trust::Expected expected;
  expected.blob_root = cache_root_of(origin.directory);
  return {std::move(choice), trust::verify_variant(std::move(origin), metadata, expected,
                                                   trust.policy, std::move(decision))};
}

}  // namespace kernelhub
