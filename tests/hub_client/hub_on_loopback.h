// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "scripted_transport.h"

#include "kernelhub/hub/snapshot.h"
#include "kernelhub/hub/upload.h"
#include "kernelhub/server/hub_server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdlib.h>

namespace kernelhub::hub {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "kernelhub-hub-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void write_content(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

/// Bytes that no compression or repetition makes equal at two offsets.
inline std::string noise(std::size_t size_bytes) {
  std::string text(size_bytes, '\0');
  std::uint64_t state = 88172645463325252ULL;
  for (char& c : text) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state);
  }
  return text;
}

inline constexpr const char* kVariant = "torch211-cxx11-cu130-x86_64-linux";
inline constexpr const char* kFolder = "build/torch211-cxx11-cu130-x86_64-linux";

/// A real server and clients of it, all below one temporary folder.
class HubOnLoopback : public testing::Test {
 protected:
  HubOnLoopback() : server_({.store = folder_.path() / "store", .trust_orgs = {"org"}}) {
    server_.start();
  }

  Config config(const std::string& home = "hf") const {
    Config config;
    config.endpoint = server_.url();
    config.hf_home = folder_.path() / home;
    config.cache_dir = config.hf_home / "hub";
    config.state_dir = folder_.path() / "state";
    return config;
  }
  Config writer_config() const {
    Config writer = config("writer");
    writer.token = Secret(server_.admin_token(), "the test");
    return writer;
  }
  Client client(const Config& config) {
    transport_ = std::make_shared<HurriedTransport>(config);
    return Client(config, transport_);
  }
  Client client() { return client(config()); }

  /// One commit on a branch of org/tk with exactly these files below build/.
  CommitHash publish(const std::map<std::string, std::string>& files,
                     const std::string& branch = "v1") {
    Client writer = client(writer_config());
    Uploader uploader(writer);
    uploader.create_repo(repo_, Uploader::Visibility::kPublic);
    uploader.ensure_branch(repo_, branch);
    return uploader
        .commit(repo_, branch,
                [&](const Tree& current) {
                  CommitPlan plan;
                  plan.summary = "publish";
                  for (const auto& [path, content] : files) {
                    const auto source = folder_.path() / "sources" / branch / path;
                    write_content(source, content);
                    plan.additions.push_back({path, source});
                  }
                  for (const TreeFile& file : current.files) {
                    // Its rules make the server show libraries as LFS files.
                    if (file.path != ".gitattributes") plan.deletions.push_back(file.path);
                  }
                  return plan;
                })
        .commit;
  }
  /// Four files of a variant, one of them shown as LFS, and a second variant.
  CommitHash publish_kernel() {
    return publish({{std::string(kFolder) + "/metadata.json", "{}"},
                    {std::string(kFolder) + "/__init__.py", ""},
                    {std::string(kFolder) + "/ops.py", "import torch\n"},
                    {std::string(kFolder) + "/_tk.so", big_},
                    {"build/torch-cpu/metadata.json", "{\"name\": \"tk\"}"},
                    {"README.md", "# tk\n"}});
  }
  PinnedKernel pinned(const CommitHash& commit) const { return {repo_, commit, 1}; }
  /// The whole way a runtime goes, publisher aside.
  Snapshot fetch(Client& client, const KernelSpec& spec = KernelSpec::of_version(1)) {
    const ResolvedKernel resolved = client.resolve(repo_, spec);
    client.list_variants(repo_, resolved.pinned.commit);
    const auto files = list_variant_files(client, resolved.pinned, kVariant);
    return fetch_snapshot(client, resolved.pinned, kVariant, files);
  }
  std::filesystem::path repo_dir(const std::string& home = "hf") const {
    return config(home).cache_dir / "kernels--org--tk";
  }
  std::size_t requests_with(const std::string& part) const {
    const auto requests = server_.requests();
    return static_cast<std::size_t>(
        std::count_if(requests.begin(), requests.end(), [&](const server::RequestRecord& record) {
          return record.target.find(part) != std::string::npos;
        }));
  }

  TemporaryFolder folder_;
  server::HubServer server_;
  std::shared_ptr<HurriedTransport> transport_;
  const RepoId repo_ = RepoId::parse("org/tk");
  const std::string big_ = noise(300'000);
};

}  // namespace kernelhub::hub
