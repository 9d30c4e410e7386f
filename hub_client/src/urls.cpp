// SPDX-License-Identifier: Apache-2.0
#include "urls.h"

#include <fmt/format.h>

namespace kernelhub::hub {
namespace {

bool is_unreserved(unsigned char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

}  // namespace

std::string percent_encode(std::string_view text, Slash slash) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_unreserved(byte) || (c == '/' && slash == Slash::kKeep)) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", byte);
    }
  }
  return encoded;
}

std::string Urls::api(const RepoId& repo) const {
  return fmt::format("{}/api/kernels/{}", endpoint_, repo.str());
}

std::string Urls::refs(const RepoId& repo) const { return api(repo) + "/refs"; }

std::string Urls::revision(const RepoId& repo, std::string_view revision) const {
  return fmt::format("{}/revision/{}", api(repo), percent_encode(revision, Slash::kEncode));
}

std::string Urls::tree(const RepoId& repo, std::string_view revision, std::string_view path,
                       Depth depth) const {
  return fmt::format("{}/tree/{}{}{}?recursive={}&expand=false", api(repo),
                     percent_encode(revision, Slash::kEncode), path.empty() ? "" : "/",
                     percent_encode(path, Slash::kKeep), depth == Depth::kRecursive);
}

std::string Urls::resolve(const RepoId& repo, std::string_view revision,
                          std::string_view path) const {
  return fmt::format("{}/kernels/{}/resolve/{}/{}", endpoint_, repo.str(),
                     percent_encode(revision, Slash::kEncode), percent_encode(path, Slash::kKeep));
}

std::string Urls::organization(std::string_view ns) const {
  return fmt::format("{}/api/organizations/{}/overview", endpoint_,
                     percent_encode(ns, Slash::kEncode));
}

std::string Urls::create_repo() const { return endpoint_ + "/api/repos/create"; }

std::string Urls::branch(const RepoId& repo, std::string_view name) const {
  return fmt::format("{}/branch/{}", api(repo), percent_encode(name, Slash::kEncode));
}

std::string Urls::preupload(const RepoId& repo, std::string_view revision) const {
  return fmt::format("{}/preupload/{}", api(repo), percent_encode(revision, Slash::kEncode));
}

std::string Urls::lfs_batch(const RepoId& repo) const {
  return fmt::format("{}/kernels/{}.git/info/lfs/objects/batch", endpoint_, repo.str());
}

std::string Urls::commit(const RepoId& repo, std::string_view revision) const {
  return fmt::format("{}/commit/{}", api(repo), percent_encode(revision, Slash::kEncode));
}

std::string Urls::page(const RepoId& repo) const {
  return fmt::format("{}/kernels/{}", endpoint_, repo.str());
}

}  // namespace kernelhub::hub
