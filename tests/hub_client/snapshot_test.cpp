// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/snapshot.h"

#include "expect_error.h"
#include "hub_on_loopback.h"

#include <signal.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;
using server::FaultKind;

class SnapshotTest : public HubOnLoopback {
 protected:
  Config offline(const std::string& home = "hf") const {
    Config offline = config(home);
    offline.offline = true;
    return offline;
  }
  fs::path blob_of(const std::string& content) const {
    return repo_dir() / "blobs" / digest_of(DigestAlgorithm::kSha256, content).hex();
  }
  void expect_whole(const Snapshot& snapshot) const {
    EXPECT_EQ(content_of(snapshot.directory / "_tk.so"), big_);
    EXPECT_EQ(content_of(snapshot.directory / "ops.py"), "import torch\n");
    EXPECT_EQ(content_of(snapshot.directory / "metadata.json"), "{}");
    EXPECT_TRUE(fs::is_regular_file(snapshot.directory / "__init__.py"));
  }
  std::size_t leftovers() const {
    std::size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path() / "hf")) {
      count += entry.path().string().find("incomplete") != std::string::npos;
    }
    return count;
  }
};

TEST_F(SnapshotTest, ColdStartOfFourFilesTakesAtMostEightRequests) {
  publish_kernel();
  server_.clear_requests();
  Client reader = client();
  EXPECT_TRUE(reader.publisher("org").trusted);
  const Snapshot snapshot = fetch(reader);
  expect_whole(snapshot);
  EXPECT_FALSE(snapshot.from_cache);
  EXPECT_LE(server_.requests().size(), 8u);
  EXPECT_EQ(reader.request_count(), server_.requests().size());
}

TEST_F(SnapshotTest, WarmStartAsksOnceByVersionAndNeverByCommit) {
  const CommitHash commit = publish_kernel();
  {
    Client cold = client();
    fetch(cold);
  }
  server_.clear_requests();
  Client by_version = client();
  EXPECT_TRUE(fetch(by_version).from_cache);
  EXPECT_EQ(server_.requests().size(), 1u);
  Client by_commit = client();
  const Snapshot snapshot = fetch(by_commit, KernelSpec::of_revision(commit.str()));
  EXPECT_TRUE(snapshot.from_cache);
  expect_whole(snapshot);
  EXPECT_EQ(server_.requests().size(), 1u);
}

TEST_F(SnapshotTest, WritesTheLayoutOfThePythonClient) {
  const CommitHash commit = publish_kernel();
  Client reader = client();
  const Snapshot snapshot = fetch(reader);
  EXPECT_EQ(snapshot.directory, repo_dir() / "snapshots" / commit.str() / kFolder);
  EXPECT_EQ(content_of(repo_dir() / "refs/v1"), commit.str());
  EXPECT_EQ(fs::read_symlink(snapshot.directory / "_tk.so"),
            "../../../../blobs/" + digest_of(DigestAlgorithm::kSha256, big_).hex());
  EXPECT_FALSE(fs::exists(repo_dir() / "trees"));
  EXPECT_EQ(fs::status(blob_of(big_)).permissions() & fs::perms::mask, fs::perms(0644));
  EXPECT_EQ(content_of(config().cache_dir / "CACHEDIR.TAG").rfind("Signature: 8a477f597d28d172", 0),
            0u);
  EXPECT_EQ(leftovers(), 0u);
  for (const auto& entry : fs::directory_iterator(config().cache_dir)) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(name == ".locks" || name == "CACHEDIR.TAG" || name == "kernels--org--tk") << name;
  }
}

TEST_F(SnapshotTest, WorksOfflineByVersionAndByCommit) {
  const CommitHash commit = publish_kernel();
  {
    Client online = client();
    fetch(online);
  }
  server_.clear_requests();
  for (const KernelSpec& spec :
       {KernelSpec::of_version(1), KernelSpec::of_revision(commit.str())}) {
    Client reader = client(offline());
    const Snapshot snapshot = fetch(reader, spec);
    EXPECT_TRUE(snapshot.from_cache);
    expect_whole(snapshot);
    EXPECT_TRUE(find_cached_variant(reader, pinned(commit), kVariant));
    EXPECT_FALSE(find_cached_variant(reader, pinned(commit), "torch-cpu"));
    EXPECT_EQ(reader.list_versions(repo_), std::vector<std::int64_t>{1});
  }
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(SnapshotTest, NamesWhatIsMissingOffline) {
  const CommitHash commit = publish_kernel();
  Client nothing = client(offline());
  EXPECT_EQ(code_of([&] { nothing.resolve(repo_, KernelSpec::of_version(1)); }),
            ErrorCode::kOfflineMiss);
  EXPECT_EQ(code_of([&] { nothing.list_variants(repo_, commit); }), ErrorCode::kOfflineMiss);
  EXPECT_EQ(code_of([&] { nothing.list_versions(repo_); }), ErrorCode::kOfflineMiss);
  Client online = client();
  const Snapshot snapshot = fetch(online);
  fs::remove(snapshot.directory / "ops.py");
  Client reader = client(offline());
  const Error error = error_of([&] { fetch(reader); });
  EXPECT_EQ(error.code(), ErrorCode::kOfflineMiss);
  EXPECT_NE(error.details().find(std::string(kFolder) + "/ops.py"), std::string::npos);
  EXPECT_EQ(error.details().find("_tk.so"), std::string::npos);
}

TEST_F(SnapshotTest, RepairsDamageOnlineAndReportsItOffline) {
  publish_kernel();
  Client online = client();
  const Snapshot snapshot = fetch(online);
  const fs::path blob = blob_of(big_);
  const fs::path pointer = snapshot.directory / "_tk.so";
  const std::vector<std::function<void()>> damages = {
      [&] { fs::resize_file(blob, 1000); },
      [&] { fs::remove(blob); },
      [&] { fs::remove(blob), fs::create_directory(blob); },
      [&] { fs::remove(pointer), fs::create_directory(pointer); },
      [&] { fs::remove(pointer), fs::create_symlink("nowhere", pointer); },
      [&] { write_content(repo_dir() / "refs/v1", ""); },
  };
  for (std::size_t i = 0; i < damages.size(); ++i) {
    damages[i]();
    Client broken = client(offline());
    EXPECT_EQ(code_of([&] { fetch(broken); }), ErrorCode::kCacheCorrupt) << i;
    Client repairing = client();
    expect_whole(fetch(repairing));
    Client reader = client(offline());
    expect_whole(fetch(reader));
  }
}

TEST_F(SnapshotTest, ListsAgainWhenTheSidecarIsDamaged) {
  const CommitHash commit = publish_kernel();
  Client first = client();
  fetch(first);
  const fs::path sidecar = repo_dir() / ".kernelhub" / (commit.str() + ".json");
  write_content(sidecar, "{\"format\":1,");
  Client broken = client(offline());
  EXPECT_EQ(code_of([&] { fetch(broken); }), ErrorCode::kCacheCorrupt);
  Client second = client();
  EXPECT_TRUE(fetch(second).from_cache);
  Client reader = client(offline());
  expect_whole(fetch(reader));
}

TEST_F(SnapshotTest, ResumesAfterACut) {
  publish_kernel();
  server_.faults().add({.kind = FaultKind::kCut, .path_contains = "_tk.so", .at_byte = 100'000});
  server_.clear_requests();
  Client reader = client();
  expect_whole(fetch(reader));
  std::vector<std::string> ranges;
  for (const auto& record : server_.requests()) {
    if (record.target.find("_tk.so") != std::string::npos) ranges.push_back(record.range);
  }
  EXPECT_EQ(ranges, (std::vector<std::string>{"", "bytes=100000-"}));
}

TEST_F(SnapshotTest, StartsOverWhenTheServerIgnoresTheRange) {
  publish_kernel();
  server_.faults().add({.kind = FaultKind::kCut, .path_contains = "_tk.so", .at_byte = 100'000});
  server_.faults().add({.kind = FaultKind::kIgnoreRange, .path_contains = "_tk.so"});
  Client reader = client();
  expect_whole(fetch(reader));
  EXPECT_EQ(leftovers(), 0u);
}

TEST_F(SnapshotTest, RetriesABusyServerAndAnUnfinishedBody) {
  publish_kernel();
  server_.faults().add({.kind = FaultKind::kStatus, .path_contains = "/resolve/", .times = 3});
  server_.faults().add({.kind = FaultKind::kDrop, .path_contains = "/resolve/", .times = 2});
  Client reader = client();
  expect_whole(fetch(reader));
}

TEST_F(SnapshotTest, FetchesOnceMoreAfterOneFlippedByte) {
  publish_kernel();
  server_.faults().add(
      {.kind = FaultKind::kFlipByte, .path_contains = "_tk.so", .at_byte = 123'456});
  Client reader = client();
  expect_whole(fetch(reader));
}

TEST_F(SnapshotTest, CachesNothingOfAFileThatStaysFlipped) {
  publish_kernel();
  server_.faults().add(
      {.kind = FaultKind::kFlipByte, .path_contains = "_tk.so", .times = 99, .at_byte = 299'999});
  Client reader = client();
  const Error error = error_of([&] { fetch(reader); });
  EXPECT_EQ(error.code(), ErrorCode::kIntegrity);
  EXPECT_NE(error.details().find(digest_of(DigestAlgorithm::kSha256, big_).hex()),
            std::string::npos);
  EXPECT_FALSE(fs::exists(blob_of(big_)));
  EXPECT_FALSE(fs::exists(fs::symlink_status(repo_dir() / "refs/v1")));
  // Others may have been stopped with bytes to resume from.
  EXPECT_FALSE(fs::exists(blob_of(big_).string() + ".kh.incomplete"));
  EXPECT_EQ(requests_with("_tk.so"), 2u);
}

TEST_F(SnapshotTest, RefusesAWrongLengthWithBothSizes) {
  publish_kernel();
  for (const std::uint64_t length : {std::uint64_t{5}, std::uint64_t{300'001}}) {
    server_.faults().clear();
    server_.faults().add({.kind = FaultKind::kWrongLength,
                          .path_contains = "_tk.so",
                          .times = 99,
                          .at_byte = length});
    Client reader = client();
    const Error error = error_of([&] { fetch(reader); });
    EXPECT_EQ(error.code(), ErrorCode::kIntegrity);
    EXPECT_NE(error.details().find("\"" + std::to_string(length) + "\""), std::string::npos)
        << error.details();
    EXPECT_EQ(leftovers(), 0u);
  }
}

TEST_F(SnapshotTest, WritesRealFilesWhereLinksAreOff) {
  const CommitHash commit = publish_kernel();
  Config plain = config();
  plain.disable_symlinks = true;
  Client reader = client(plain);
  const Snapshot snapshot = fetch(reader);
  expect_whole(snapshot);
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(snapshot.directory / "_tk.so")));
  EXPECT_FALSE(fs::exists(blob_of(big_)));
  Client again = client(plain);
  EXPECT_TRUE(fetch(again, KernelSpec::of_revision(commit.str())).from_cache);
  EXPECT_EQ(leftovers(), 0u);
}

TEST_F(SnapshotTest, CopiesAnExistingBlobWhereLinksAreOff) {
  publish_kernel();
  Client linking = client();
  const Snapshot snapshot = fetch(linking);
  fs::remove(snapshot.directory / "_tk.so");
  server_.clear_requests();
  Config plain = config();
  plain.disable_symlinks = true;
  Client reader = client(plain);
  expect_whole(fetch(reader));
  EXPECT_EQ(requests_with("_tk.so"), 0u);
  EXPECT_TRUE(fs::exists(blob_of(big_)));
}

TEST_F(SnapshotTest, ReadsThroughASharedStoreAndNeverWritesThroughIt) {
  publish_kernel();
  Client first = client();
  fetch(first);
  const fs::path store = config().cache_dir / "blobs" / "ab" / std::string(64, 'a');
  fs::create_directories(store.parent_path());
  fs::rename(blob_of(big_), store);
  fs::create_symlink(fs::path("../../blobs/ab") / store.filename(), blob_of(big_));
  server_.clear_requests();
  Client reader = client();
  expect_whole(fetch(reader));
  EXPECT_EQ(server_.requests().size(), 1u);
  fs::resize_file(store, 5);
  Client repairing = client();
  expect_whole(fetch(repairing));
  EXPECT_EQ(fs::file_size(store), 5u);
  EXPECT_FALSE(fs::is_symlink(blob_of(big_)));
}

TEST_F(SnapshotTest, UsesAPythonListingWithoutAnyRequest) {
  const CommitHash commit = publish_kernel();
  Client writer = client();
  const Snapshot snapshot = fetch(writer);
  fs::remove_all(repo_dir() / ".kernelhub");
  std::string files;
  for (const TreeFile& file : snapshot.files) {
    files += (files.empty() ? "" : ",") + ("\"" + file.path) + R"(":{"size":)" +
             std::to_string(file.size_bytes) + R"(,"blob_id":")" + file.git_oid + "\"" +
             (file.lfs_sha256.empty() ? "" : R"(,"lfs_sha256":")" + file.lfs_sha256 + "\"") + "}";
  }
  write_content(repo_dir() / "trees" / (commit.str() + ".json"),
                R"({"format_version":1,"files":{)" + files + "}}");
  Client reader = client(offline());
  expect_whole(fetch(reader));
}

TEST_F(SnapshotTest, ReportsTheWorkAndStopsWhenTold) {
  publish_kernel();
  struct Watcher final : ProgressObserver {
    void started(std::string_view, std::uint64_t total) noexcept override { total_bytes = total; }
    void advanced(std::string_view, std::uint64_t done) noexcept override { done_bytes = done; }
    void finished(std::string_view) noexcept override { ++finishes; }
    bool cancelled() const noexcept override { return stop; }
    std::uint64_t total_bytes = 0, done_bytes = 0;
    int finishes = 0;
    bool stop = false;
  } watcher;
  Client reader = client();
  const auto commit = reader.resolve(repo_, KernelSpec::of_version(1)).pinned;
  const auto files = list_variant_files(reader, commit, kVariant);
  watcher.stop = true;
  server_.faults().add({.kind = FaultKind::kStall,
                        .path_contains = "/resolve/",
                        .times = 9,
                        .stall = std::chrono::milliseconds(2000)});
  EXPECT_EQ(code_of([&] { fetch_snapshot(reader, commit, kVariant, files, &watcher); }),
            ErrorCode::kCancelled);
  server_.faults().clear();
  watcher.stop = false;
  fetch_snapshot(reader, commit, kVariant, files, &watcher);
  EXPECT_EQ(watcher.total_bytes, big_.size() + 2 + 13);
  EXPECT_EQ(watcher.done_bytes, watcher.total_bytes);
  EXPECT_EQ(watcher.finishes, 2);
}

TEST_F(SnapshotTest, ResumesWhatAKilledProcessLeft) {
  const CommitHash commit = publish_kernel();
  server_.faults().add(
      {.kind = FaultKind::kCut, .path_contains = "_tk.so", .times = 1, .at_byte = 150'000});
  // The next request of that file never gets an answer, so the child dies with the temp in place.
  server_.faults().add({.kind = FaultKind::kStall,
                        .path_contains = "_tk.so",
                        .times = 1,
                        .stall = std::chrono::milliseconds(5000)});
  const pid_t child = fork();
  if (child == 0) {
    const Config child_config = config();
    Client reader(child_config, std::make_shared<HurriedTransport>(child_config));
    fetch(reader);
    _exit(0);
  }
  const fs::path temp = blob_of(big_).string() + ".kh.incomplete";
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::error_code error;
  while (fs::file_size(temp, error) != 150'000 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ASSERT_EQ(fs::file_size(temp), 150'000u);
  server_.faults().clear();
  server_.clear_requests();
  Client reader = client();
  expect_whole(fetch(reader, KernelSpec::of_revision(commit.str())));
  const auto requests = server_.requests();
  const auto resumed =
      std::find_if(requests.begin(), requests.end(), [](const server::RequestRecord& record) {
        return record.target.find("_tk.so") != std::string::npos;
      });
  ASSERT_NE(resumed, requests.end());
  EXPECT_EQ(resumed->range, "bytes=150000-");
  EXPECT_EQ(leftovers(), 0u);
}

TEST_F(SnapshotTest, EightColdStartsFetchEachBlobOnce) {
  const CommitHash commit = publish_kernel();
  server_.clear_requests();
  std::atomic<int> whole{0};
  {
    std::vector<std::jthread> starts;
    for (int i = 0; i < 8; ++i) {
      starts.emplace_back([&] {
        // A client of its own each: nothing but the cache and its locks is shared.
        Client reader(config(), std::make_shared<HurriedTransport>(config()));
        const Snapshot snapshot = fetch(reader);
        whole += content_of(snapshot.directory / "_tk.so") == big_;
      });
    }
  }
  EXPECT_EQ(whole, 8);
  EXPECT_EQ(requests_with("/resolve/" + commit.str()), 3u);  // the empty file needs none
}

TEST_F(SnapshotTest, ReadsASmallFileThroughTheCache) {
  const CommitHash commit = publish_kernel();
  Client reader = client();
  const auto files = list_variant_files(reader, pinned(commit), "torch-cpu");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(reader.read_file(repo_, commit, files[0], 1000), "{\"name\": \"tk\"}");
  const auto asked = reader.request_count();
  EXPECT_EQ(reader.read_file(repo_, commit, files[0], 1000), "{\"name\": \"tk\"}");
  EXPECT_EQ(reader.request_count(), asked);
  EXPECT_EQ(code_of([&] { reader.read_file(repo_, commit, files[0], 3); }), ErrorCode::kIntegrity);
}

}  // namespace
}  // namespace kernelhub::hub
