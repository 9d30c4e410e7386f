// SPDX-License-Identifier: Apache-2.0
#include "digest_manifest.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/core/safe_path.h"
#include "kernelhub/core/unique_fd.h"
#include "kernelhub/trust/verifier.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;

void hash_folder(const fs::path& folder, const std::string& prefix, VariantDigest& digest) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) throw core_errors::read_failed(folder, error.value());
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    const std::string path = prefix + name;
    if (name == "__pycache__" || is_outside_digest(path)) continue;
    const fs::file_status status = entry.status(error);
    if (status.type() == fs::file_type::not_found) {
      throw core_errors::read_failed(entry.path(), ENOENT);
    }
    if (error) throw core_errors::read_failed(entry.path(), error.value());
    if (fs::is_directory(status)) {
      if (!entry.is_symlink()) hash_folder(entry.path(), path + "/", digest);
      continue;
    }
    // ".pyc" alone is a name without an extension.
    if (!fs::is_regular_file(status) || entry.path().extension() == ".pyc") continue;
    const UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) throw core_errors::read_failed(entry.path(), errno);
    digest.files.emplace(SafeRelPath::parse(path, folder.string()).str(),
                         digest_of_fd(digest.algorithm, fd.get()));
  }
}

std::array<char, 8> big_endian(std::uint64_t value) {
  std::array<char, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>((value >> (8 * (7 - i))) & 0xff);
  }
  return bytes;
}

}  // namespace

bool is_outside_digest(std::string_view path) {
  return path == "metadata.json" || path == "metadata.json.sigstore";
}

std::string locked_digest(const std::map<std::string, Digest>& sha256_by_path) {
  Hasher hasher(DigestAlgorithm::kSha256);
  for (const auto& [path, digest] : sha256_by_path) {
    const auto length = big_endian(path.size());
    hasher.update(length.data(), length.size());
    hasher.update(path);
    hasher.update(digest.bytes.data(), digest.bytes.size());
  }
  return "sha256:" + hasher.finish().hex();
}

VariantDigest compute_variant_digest(const fs::path& directory, DigestAlgorithm algorithm) {
  VariantDigest digest;
  digest.algorithm = algorithm;
  hash_folder(directory, "", digest);
  return digest;
}

std::vector<std::string> compare_variant_digest(const VariantDigest& actual,
                                                const VariantDigest& expected) {
  if (actual.algorithm != expected.algorithm) {
    return {fmt::format("digest algorithm: expected {}, found {}",
                        digest_algorithm_name(expected.algorithm),
                        digest_algorithm_name(actual.algorithm))};
  }
  std::vector<std::string> findings;
  for (const auto& [path, wanted] : expected.files) {
    const auto found = actual.files.find(path);
    if (found == actual.files.end()) {
      findings.push_back(fmt::format("{}: missing", path));
    } else if (found->second != wanted) {
      findings.push_back(
          fmt::format("{}: expected {}, found {}", path, wanted.base64(), found->second.base64()));
    }
  }
  for (const auto& [path, digest] : actual.files) {
    if (expected.files.count(path) == 0) {
      findings.push_back(fmt::format("{}: not in the digest", path));
    }
  }
  return findings;
}

}  // namespace kernelhub::trust
