// SPDX-License-Identifier: Apache-2.0
// The whole pipeline in one process: a real server, the real client, real ELF packages.
#include "kernelhub/get_kernel.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/hub/upload.h"
#include "kernelhub/server/hub_server.h"
#include "kernelhub/trust/verifier.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <fstream>
#include <functional>
#include <thread>
#include <unistd.h>

namespace kernelhub {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVariant = "tvm-ffi01-cpu-x86_64-linux";
constexpr const char* kRepo = "org/scale";

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "kernelhub-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// A variant of four files around one of the fixture binaries.
fs::path write_package(const fs::path& root, int version, const fs::path& binary,
                       const std::string& name = "scale") {
  const std::string id = "_" + name + "_cpu_v" + std::to_string(version);
  const fs::path variant = root / ("v" + std::to_string(version)) / "build" / kVariant;
  fs::create_directories(variant);
  fs::copy_file(binary, variant / (id + ".so"), fs::copy_options::overwrite_existing);
  write_file_atomically(variant / "notes.txt", "version " + std::to_string(version) + "\n");
  write_file_atomically(variant / "__init__.py", "# C++ only\n");
  Metadata metadata;
  metadata.name = name;
  metadata.id = id;
  metadata.version = version;
  metadata.license = "Apache-2.0";
  metadata.digest = trust::compute_variant_digest(variant, DigestAlgorithm::kSha256);
  write_file_atomically(variant / "metadata.json", metadata.to_json());
  return variant.parent_path().parent_path();
}

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error was thrown";
  return ErrorCode::kIo;
}

class GetKernel : public testing::Test {
 protected:
  GetKernel() : server_({.store = folder_.path() / "store", .trust_orgs = {"org"}}) {
    server_.start();
    config_.endpoint = server_.url();
    config_.hf_home = folder_.path() / "hf";
    config_.cache_dir = folder_.path() / "hf" / "hub";
    config_.state_dir = folder_.path() / "state";
    config_.trust_file = folder_.path() / "trust.toml";
    config_.system_trust_file = folder_.path() / "none.toml";
    config_.retries = 1;
    write_policy("endpoints = [\"" + server_.url() + "\"]\n");
    publish(kRepo, 1, FIXTURE_V1);
    publish(kRepo, 2, FIXTURE_V2);
    server_.clear_requests();
  }

  void write_policy(const std::string& text) { write_file_atomically(config_.trust_file, text); }

  void publish(const std::string& repo, int version, const fs::path& binary) {
    Config writer = config_;
    writer.token = Secret(server_.admin_token(), "test");
    hub::Client client(writer);
    hub::Uploader uploader(client);
    const RepoId id = RepoId::parse(repo);
    const fs::path root =
        write_package(folder_.path() / repo, version, binary, std::string(id.name()));
    uploader.create_repo(id, hub::Uploader::Visibility::kPublic);
    const std::string branch = "v" + std::to_string(version);
    uploader.ensure_branch(id, branch);
    uploader.commit(id, branch, [&](const hub::Tree&) {
      hub::CommitPlan plan;
      plan.summary = "publish";
      for (const auto& entry : fs::recursive_directory_iterator(root)) {
        if (entry.is_regular_file()) {
          plan.additions.push_back({fs::relative(entry.path(), root).string(), entry.path()});
        }
      }
      return plan;
    });
  }

  LoadOptions options() const {
    LoadOptions options;
    options.config = config_;
    options.backend = "cpu";
    return options;
  }

  std::string commit_of(int version) {
    hub::Client client(config_);
    return client.resolve(RepoId::parse(kRepo), KernelSpec::of_version(version))
        .pinned.commit.str();
  }

  std::int64_t scale(const Kernel& kernel, std::int64_t n) {
    return kernel.function("scale")({Value(n)}).raw().u.i;
  }

  TemporaryFolder folder_;
  Config config_;
  server::HubServer server_;
};

TEST_F(GetKernel, LoadsTwoVersionsSideBySide) {
  const Kernel first = get_kernel(kRepo, KernelSpec::of_version(1), options());
  const Kernel second = get_kernel(kRepo, KernelSpec::of_version(2), options());
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(scale(first, 21), 21);
    EXPECT_EQ(scale(second, 21), 42);
  }
  EXPECT_NE(first.package().info().op_namespace, second.package().info().op_namespace);
  EXPECT_EQ(first.trace().at(0).variant, kVariant);
  EXPECT_GE(get_loaded_kernels().size(), 2U);
}

TEST_F(GetKernel, NeedsAtMostEightRequestsColdOneWarmAndNoneByCommit) {
  const std::string commit = commit_of(1);
  server_.clear_requests();
  get_kernel(kRepo, KernelSpec::of_version(1), options());
  EXPECT_LE(server_.requests().size(), 8U);
  server_.clear_requests();
  get_kernel(kRepo, KernelSpec::of_version(1), options());
  EXPECT_EQ(server_.requests().size(), 1U);
  server_.clear_requests();
  get_kernel(kRepo, KernelSpec::of_revision(commit), options());
  EXPECT_EQ(server_.requests().size(), 0U);
}

TEST_F(GetKernel, FetchesNothingFromAPublisherThatNobodyVouchesFor) {
  write_policy("");
  const auto error = try_get_kernel(kRepo, KernelSpec::of_version(1), options());
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().code(), ErrorCode::kTrustDenied);
  for (const server::RequestRecord& request : server_.requests()) {
    EXPECT_EQ(request.target.find("/resolve/"), std::string::npos) << request.target;
  }
  EXPECT_FALSE(fs::exists(config_.cache_dir / "kernels--org--scale" / "snapshots"));
}

TEST_F(GetKernel, AcceptsAnExplicitDecisionForOneRepository) {
  write_policy("");
  LoadOptions allowed = options();
  allowed.trust_remote_code.repos = {kRepo};
  EXPECT_EQ(scale(get_kernel(kRepo, KernelSpec::of_version(1), allowed), 5), 5);
  allowed.trust_remote_code.repos = {"org/other"};
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_version(2), allowed); }),
            ErrorCode::kTrustDenied);
}

TEST_F(GetKernel, LetsDenyBeatTheExplicitDecision) {
  write_policy("endpoints = [\"" + server_.url() +
               "\"]\n[[source]]\nmatch = \"org/*\"\ndeny = true\n");
  LoadOptions allowed = options();
  allowed.trust_remote_code.all = true;
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_version(1), allowed); }),
            ErrorCode::kTrustDenied);
  EXPECT_EQ(server_.requests().size(), 0U);
}

TEST_F(GetKernel, WorksOfflineByVersionAndCommitAfterOneOnlineCall) {
  const std::string commit = commit_of(1);
  get_kernel(kRepo, KernelSpec::of_version(1), options());
  LoadOptions offline = options();
  offline.local_files_only = true;
  server_.clear_requests();
  EXPECT_EQ(scale(get_kernel(kRepo, KernelSpec::of_version(1), offline), 3), 3);
  EXPECT_EQ(scale(get_kernel(kRepo, KernelSpec::of_revision(commit), offline), 3), 3);
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_version(2), offline); }),
            ErrorCode::kOfflineMiss);
  EXPECT_FALSE(has_kernel(kRepo, KernelSpec::of_version(2), offline));
  EXPECT_EQ(server_.requests().size(), 0U);
}

TEST_F(GetKernel, RefusesOfflineWhatWasNeverAllowed) {
  get_kernel(kRepo, KernelSpec::of_version(1), options());
  fs::remove_all(config_.state_dir);
  LoadOptions offline = options();
  offline.local_files_only = true;
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_version(1), offline); }),
            ErrorCode::kTrustDenied);
}

TEST_F(GetKernel, TakesARecordedDecisionWhenTheHubIsSilent) {
  const std::string commit = commit_of(1);
  get_kernel(kRepo, KernelSpec::of_version(1), options());
  // As if the publisher's answer were a day old: the commit was allowed, and the hub is gone.
  const fs::path file = config_.state_dir / "trust-state.json";
  nlohmann::json state = nlohmann::json::parse(read_file(file));
  state.at("endpoints").at(server_.url()).at("publishers").at("org").at("asked") = 0;
  write_file_atomically(file, state.dump(), 0600);
  server_.stop();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(scale(get_kernel(kRepo, KernelSpec::of_revision(commit), options()), 3), 3);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  fs::remove(file);
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_revision(commit), options()); }),
            ErrorCode::kPublisherUnverifiable);
}

TEST_F(GetKernel, TakesNoRecordedDecisionAfterTheHubSaidNo) {
  const std::string commit = commit_of(1);
  LoadOptions allowed = options();
  allowed.trust_remote_code.repos = {kRepo};
  get_kernel(kRepo, KernelSpec::of_revision(commit), allowed);
  const fs::path file = config_.state_dir / "trust-state.json";
  nlohmann::json state = nlohmann::json::parse(read_file(file));
  auto& publishers = state.at("endpoints").at(server_.url())["publishers"];
  publishers["org"] = {{"trusted", false}, {"asked", 0}};
  write_file_atomically(file, state.dump(), 0600);
  server_.stop();
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_revision(commit), options()); }),
            ErrorCode::kPublisherUnverifiable);
}

TEST_F(GetKernel, ListsVersionsWhenTheAskedOneIsUnknown) {
  const auto missing = try_get_kernel(kRepo, KernelSpec::of_version(7), options());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kVersionNotFound);
  EXPECT_NE(std::string(missing.error().what()).find("1, 2"), std::string::npos)
      << missing.error().what();
}

TEST_F(GetKernel, ExplainsEveryVariantWhenNoneFits) {
  LoadOptions foreign = options();
  foreign.system = SystemInfo{};
  foreign.system->cpu = "aarch64";
  foreign.system->tvm_ffi = MajorMinor{0, 1};
  const auto missing = try_get_kernel(kRepo, KernelSpec::of_version(1), foreign);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kNoCompatibleVariant);
  EXPECT_NE(missing.error().details().find("built for x86_64, this machine is aarch64"),
            std::string::npos);
  EXPECT_FALSE(has_kernel(kRepo, KernelSpec::of_version(1), foreign));
}

TEST_F(GetKernel, RefusesAChangedByteInTheCache) {
  const InstalledKernel installed = install_kernel(kRepo, KernelSpec::of_version(1), options());
  const fs::path blob = fs::canonical(installed.directory / "notes.txt");
  fs::permissions(blob, fs::perms::owner_write, fs::perm_options::add);
  std::fstream(blob, std::ios::in | std::ios::out | std::ios::binary) << 'V';
  EXPECT_EQ(code_of([&] { install_kernel(kRepo, KernelSpec::of_version(1), options()); }),
            ErrorCode::kDigestMismatch);
}

TEST_F(GetKernel, PrefersALocalOverrideAndAsksNobody) {
  const fs::path local = write_package(folder_.path() / "override", 9, FIXTURE_V2);
  LoadOptions overridden = options();
  overridden.config->local_kernels[kRepo] = local;
  EXPECT_EQ(scale(get_kernel(kRepo, KernelSpec::of_version(1), overridden), 2), 4);
  EXPECT_EQ(server_.requests().size(), 0U);
}

TEST_F(GetKernel, LoadsLocalPathsOfEveryForm) {
  const fs::path root = write_package(folder_.path() / "local", 1, FIXTURE_V1);
  for (const fs::path& path : {root, root / "build", root / "build" / kVariant}) {
    EXPECT_EQ(scale(get_local_kernel(path, options()), 4), 4) << path;
  }
  EXPECT_EQ(code_of([&] { get_local_kernel(folder_.path() / "nothing", options()); }),
            ErrorCode::kNoCompatibleVariant);
}

TEST_F(GetKernel, LoadsASnapshotOfTheSharedCacheByItsPath) {
  const InstalledKernel installed = install_kernel(kRepo, KernelSpec::of_version(2), options());
  EXPECT_EQ(scale(get_local_kernel(installed.directory, options()), 4), 8);
}

TEST_F(GetKernel, TakesTheCommitFromALockFile) {
  const std::string commit = commit_of(1);
  const fs::path lock = folder_.path() / "kernels.lock";
  write_file_atomically(lock,
                        "[{\"dependency\": {\"repo-id\": \"org/scale\", \"version\": 1}, "
                        "\"lock\": {\"commit\": \"" +
                            commit + "\"}}]");
  write_policy("");
  LoadOptions locked = options();
  locked.lockfile = lock;
  server_.clear_requests();
  EXPECT_EQ(scale(get_kernel(kRepo, KernelSpec::of_version(1), locked), 6), 6);
  for (const server::RequestRecord& request : server_.requests()) {
    EXPECT_EQ(request.target.find("/refs"), std::string::npos);
  }
  EXPECT_EQ(code_of([&] { get_kernel("org/else", KernelSpec::of_version(1), locked); }),
            ErrorCode::kNotLocked);
}

TEST_F(GetKernel, ComparesALockDigestAlsoWithAKernelThatIsLoaded) {
  get_kernel(kRepo, KernelSpec::of_version(1), options());
  const std::string commit = commit_of(1);
  write_file_atomically(folder_.path() / "kernels.lock",
                        "[{\"dependency\": {\"repo-id\": \"org/scale\", \"version\": 1}, "
                        "\"lock\": {\"commit\": \"" +
                            commit + "\"}}]");
  write_file_atomically(
      folder_.path() / "kernelhub.lock",
      "{\"format\": 1, \"kernels\": [{\"repo-id\": \"org/scale\", \"version\": 1, \"commit\": \"" +
          commit + "\", \"endpoint\": \"" + server_.url() + "\", \"variants\": {\"" + kVariant +
          "\": {\"digest\": \"sha256:" + std::string(64, '0') + "\"}}}]}");
  LoadOptions locked = options();
  locked.lockfile = folder_.path() / "kernels.lock";
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_version(1), locked); }),
            ErrorCode::kDigestMismatch);
}

TEST_F(GetKernel, GivesConcurrentCallersOnePackage) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      if (scale(get_kernel(kRepo, KernelSpec::of_version(2), options()), 10) == 20) ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 8);
  int binary_gets = 0;
  for (const server::RequestRecord& request : server_.requests()) {
    if (request.target.find(".so") != std::string::npos) ++binary_gets;
  }
  EXPECT_EQ(binary_gets, 1);
}

TEST_F(GetKernel, RejectsASpecificationWithBothOrNeither) {
  KernelSpec both = KernelSpec::of_version(1);
  both.revision = "main";
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, both, options()); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec{}, options()); }),
            ErrorCode::kInvalidArgument);
  LoadOptions unknown = options();
  unknown.backend = "cu130";
  EXPECT_EQ(code_of([&] { get_kernel(kRepo, KernelSpec::of_version(1), unknown); }),
            ErrorCode::kInvalidBackend);
}

}  // namespace
}  // namespace kernelhub
