// SPDX-License-Identifier: Apache-2.0
#include "registry.h"

#include "expect_error.h"
#include "fixture_package.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

namespace {

/// What the fixture's initialiser runs.
std::function<void()> on_initialised;

}  // namespace

extern "C" __attribute__((visibility("default"))) void kernelhub_fixture_initialised() {
  if (on_initialised) on_initialised();
}

namespace kernelhub {
namespace {

TEST(Registry, LoadsOncePerDigestHoweverManyThreadsAsk) {
  constexpr int kThreads = 8;
  const FixturePackage files("_plain_9");
  const std::size_t before = get_loaded_kernels().size();
  std::vector<std::optional<Package>> packages(kThreads);
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      trust::VerifiedPackage verified = files.verified();
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      packages[i] = load_package(std::move(verified));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& package : packages) EXPECT_TRUE(*package == *packages.front());
  EXPECT_EQ(get_loaded_kernels().size(), before + 1);
}

/// A package whose initialiser runs `on_initialised`, with a digest of its own.
FixturePackage calling_package(const TempDirectory& directory, const std::string& salt) {
  const std::filesystem::path library = directory / "lib.so";
  std::filesystem::copy_file(fixture("_recursive"), library);
  std::ofstream(library, std::ios::binary | std::ios::app) << salt;
  return FixturePackage(library, fixture_metadata("_recursive_" + salt + "_1"));
}

TEST(Registry, MakesOthersWaitForALoadThatRuns) {
  const TempDirectory directory;
  const FixturePackage files = calling_package(directory, "waiting");
  std::optional<Package> other;
  std::atomic<bool> is_asking{false};
  std::thread second;
  on_initialised = [&] {
    second = std::thread([&] {
      trust::VerifiedPackage verified = files.verified();
      is_asking = true;
      other = load_package(std::move(verified));
    });
    while (!is_asking) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // lets it reach the registry
  };
  const Package first = files.load();
  second.join();
  on_initialised = nullptr;
  ASSERT_TRUE(other.has_value());
  EXPECT_TRUE(*other == first);
}

TEST(Registry, RefusesALoadOfThePackageFromItsOwnInitialiser) {
  const FixturePackage files("_recursive");
  std::optional<ErrorCode> inner;
  on_initialised = [&] { inner = code_of([&] { files.load(); }); };
  const Package package = files.load();
  on_initialised = nullptr;
  EXPECT_EQ(inner, ErrorCode::kRecursiveLoad);
  EXPECT_TRUE(package.is_mapped());
}

TEST(Registry, LetsAnInitialiserLoadAnotherPackage) {
  const TempDirectory directory;
  const FixturePackage outer = calling_package(directory, "outer");
  const FixturePackage inner("_plain_2");
  std::optional<Package> loaded;
  on_initialised = [&] { loaded = inner.load(); };
  outer.load();
  on_initialised = nullptr;
  ASSERT_TRUE(loaded.has_value());
  EXPECT_TRUE(loaded->is_mapped());
}

TEST(Registry, TriesAgainAfterAFailure) {
  const FixturePackage files("_plain_4");
  trust::VerifiedPackage changed = files.verified();
  std::string content;
  {
    std::ifstream file(files.library(), std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(file), {});
  }
  std::ofstream(files.library(), std::ios::binary | std::ios::app) << "x";
  EXPECT_EQ(code_of([&] { load_package(std::move(changed)); }), ErrorCode::kFileChanged);
  std::ofstream(files.library(), std::ios::binary | std::ios::trunc) << content;
  EXPECT_EQ(code_of([&] { files.load(); }), std::nullopt);
}

}  // namespace
}  // namespace kernelhub
