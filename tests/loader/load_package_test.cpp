// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"
#include "fixture_package.h"
#include "shared_object.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <sys/stat.h>
#include <type_traits>

namespace kernelhub {
namespace {

namespace fs = std::filesystem;

static_assert(!std::is_default_constructible_v<trust::VerifiedPackage>);
static_assert(!std::is_copy_constructible_v<trust::VerifiedPackage>);

/// An hour old: a write shows in the time stamps however coarse they are.
void age(const fs::path& file) {
  fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(1));
}

void write_last_byte(const fs::path& path) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file << 'x';
}

std::int64_t salt_of(const Kernel& kernel) { return kernel.function("salt")({}).as_int(); }

TEST(LoadPackage, TellsWhatItLoaded) {
  const FixturePackage files("_scale_cpu_v1");
  const Package package = files.load();
  const PackageInfo& info = package.info();
  EXPECT_EQ(info.metadata.id, "_scale_cpu_v1");
  EXPECT_EQ(info.op_namespace, "_scale_cpu_v1");
  EXPECT_EQ(info.framework, PackageInfo::Framework::kTvmFfi);
  EXPECT_EQ(info.binary.filename(), "_scale_cpu_v1.so");
  EXPECT_EQ(info.load_mode, "fd");
  EXPECT_FALSE(info.attached);
  EXPECT_FALSE(info.python_weak);
  EXPECT_TRUE(package.is_mapped());
  const auto fd = open_file(files.library());
  EXPECT_EQ(info.binary_digest, digest_of_fd(DigestAlgorithm::kSha256, fd.get()));
}

TEST(LoadPackage, ListsFunctionsWithTheirSchemas) {
  const FixturePackage files("_scale_cpu_v1");
  bool found = false;
  for (const OpInfo& op : files.load().ops()) {
    if (op.name != "scale") continue;
    found = true;
    EXPECT_EQ(op.schema, "scale(Tensor! out, Tensor x, float factor) -> ()");
  }
  EXPECT_TRUE(found);
}

TEST(LoadPackage, KeepsTwoVersionsApart) {
  const FixturePackage first("_scale_cpu_v1"), second("_scale_cpu_v2");
  const Kernel one = first.kernel(), two = second.kernel();
  EXPECT_FALSE(one.package() == two.package());
  float x[2] = {1, 2}, out[2] = {};
  std::int64_t shape[1] = {2};
  DLTensor tensor{x, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, nullptr, 0};
  DLTensor result = tensor;
  result.data = out;
  const std::int64_t before = one.function("count")({}).as_int();
  two.function("scale")({&result, &tensor, 3.0});
  EXPECT_EQ(out[1], 12.0f);
  EXPECT_EQ(one.function("count")({}).as_int(), before);
  one.function("scale")({&result, &tensor, 3.0});
  EXPECT_EQ(out[1], 6.0f);
  EXPECT_EQ(one.function("count")({}).as_int(), before + 1);
}

TEST(LoadPackage, GivesTheSamePackageForTheSameBytes) {
  const FixturePackage here("_plain_5"), there("_plain_5");
  EXPECT_TRUE(here.load() == there.load());
}

TEST(LoadPackage, FindsALoadedPackageByItsDirectory) {
  const FixturePackage files("_plain_6");
  EXPECT_FALSE(find_loaded(files.directory()).has_value());
  const Package package = files.load();
  ASSERT_TRUE(find_loaded(files.directory()).has_value());
  EXPECT_TRUE(*find_loaded(files.directory()) == package);
  const TempDirectory elsewhere;
  fs::create_directory_symlink(files.directory(), elsewhere / "link");
  EXPECT_TRUE(find_loaded(elsewhere / "link").has_value());
  EXPECT_FALSE(find_loaded(elsewhere / "nothing").has_value());
}

TEST(LoadPackage, MapsASealedCopyWhenOthersMayWrite) {
  const FixturePackage files("_plain_7");
  fs::permissions(files.library(), fs::perms::group_write, fs::perm_options::add);
  const Kernel kernel = files.kernel();
  EXPECT_EQ(kernel.package().info().load_mode, "sealed");
  EXPECT_FALSE(kernel.package().info().warnings.empty());
  // Writing the file must not reach the running code.
  std::ofstream(files.library(), std::ios::binary | std::ios::trunc) << "gone";
  EXPECT_EQ(salt_of(kernel), 7);
}

TEST(LoadPackage, RefusesAFileThatChangedAfterItWasVerified) {
  const FixturePackage files("_plain_8");
  trust::VerifiedPackage verified = files.verified();
  std::ofstream(files.library(), std::ios::binary | std::ios::app) << "more";
  EXPECT_EQ(code_of([&] { load_package(std::move(verified)); }), ErrorCode::kFileChanged);
  // Sealed mode hashes what it copies, so equal sizes do not help either.
  const FixturePackage other("_plain_9");
  trust::VerifiedPackage before = other.verified();
  {
    std::fstream file(other.library(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-1, std::ios::end);
    file << 'x';
  }
  PackageLoadOptions sealed;
  sealed.mode = LoadMode::kSealed;
  EXPECT_EQ(code_of([&] { load_package(std::move(before), sealed); }), ErrorCode::kFileChanged);
}

TEST(LoadPackage, RefusesAWriteOfEqualSizeAfterVerification) {
  const FixturePackage files("_plain_10");
  age(files.library());
  trust::VerifiedPackage verified = files.verified();
  write_last_byte(files.library());
  EXPECT_EQ(code_of([&] { load_package(std::move(verified)); }), ErrorCode::kFileChanged);
}

TEST(LoadPackage, RefusesAWriteToAFileThatIsMappedAlready) {
  const FixturePackage files("_plain_11");
  age(files.library());
  const UniqueFd fd = open_file(files.library());
  const loader::SharedObject elsewhere =
      loader::SharedObject::open(fd.get(), "another client", loader::Binding::kNow);
  trust::VerifiedPackage verified = files.verified();
  write_last_byte(files.library());
  EXPECT_EQ(code_of([&] { load_package(std::move(verified)); }), ErrorCode::kFileChanged);
}

TEST(LoadPackage, MapsASealedCopyBesideAFileThatIsMappedAlready) {
  const FixturePackage files("_plain_12");
  const UniqueFd fd = open_file(files.library());
  const loader::SharedObject elsewhere =
      loader::SharedObject::open(fd.get(), "another client", loader::Binding::kNow);
  PackageLoadOptions sealed;
  sealed.require_sealed = true;
  const Kernel kernel(load_package(files.verified(), sealed), {});
  EXPECT_FALSE(kernel.package().info().attached);
  EXPECT_EQ(kernel.package().info().load_mode, "sealed");
}

TEST(LoadPackage, LoadsAFileThatIsDeletedAfterVerification) {
  const FixturePackage files("_plain_13");
  trust::VerifiedPackage verified = files.verified();
  fs::remove(files.library());
  EXPECT_EQ(salt_of(Kernel(load_package(std::move(verified)), {})), 13);
}

TEST(LoadPackage, RefusesADescriptorOfAnotherPackage) {
  Metadata metadata = fixture_metadata("_scale_cpu_v1");
  const auto code = [&](auto change) {
    Metadata changed = metadata;
    change(changed);
    // Other bytes than the good package, which is loaded already.
    TempDirectory directory;
    const fs::path library = directory / "lib.so";
    fs::copy_file(fixture("_scale_cpu_v1"), library);
    static int salt = 0;
    std::ofstream(library, std::ios::binary | std::ios::app) << ++salt;
    return code_of([&] { FixturePackage(library, changed).load(); });
  };
  EXPECT_EQ(code([](Metadata& m) { m.id = "_scale_cpu_other"; }), ErrorCode::kMetadataMismatch);
  EXPECT_EQ(code([](Metadata& m) { m.name = "stretch"; }), ErrorCode::kMetadataMismatch);
  EXPECT_EQ(code([](Metadata& m) { m.version = 9; }), ErrorCode::kMetadataMismatch);
  EXPECT_EQ(code([](Metadata& m) { m.backend = BackendKind::kCuda; }),
            ErrorCode::kMetadataMismatch);
  EXPECT_EQ(code([](Metadata&) {}), std::nullopt);
}

TEST(LoadPackage, RefusesALibraryWithoutFunctions) {
  EXPECT_EQ(code_of([] { FixturePackage("_no_functions").load(); }), ErrorCode::kNoOpsRegistered);
}

TEST(LoadPackage, RefusesWhatPreflightRefuses) {
  EXPECT_EQ(code_of([] { FixturePackage("_exec_stack").load(); }), ErrorCode::kUnsafeElf);
  EXPECT_EQ(code_of([] { FixturePackage("_missing_symbols").load(); }), ErrorCode::kMissingSymbols);
}

TEST(LoadPackage, RefusesATorchPackageWithoutTorchSupport) {
  const FixturePackage package(fixture("_plain_1"), fixture_metadata("_torch_1"), ".abi3.so");
  EXPECT_EQ(code_of([&] { package.load(); }), ErrorCode::kTorchBridgeMissing);
}

TEST(LoadPackage, ChoosesTheLibraryThatIsNamedAfterTheId) {
  const FixturePackage package(fixture("_plain_1"), fixture_metadata("_many_1"));
  fs::copy_file(fixture("_plain_2"), package.directory() / "_other.so");
  EXPECT_EQ(salt_of(package.kernel()), 1);
  fs::rename(package.library(), package.directory() / "_third.so");
  EXPECT_EQ(code_of([&] { package.load(); }), ErrorCode::kAmbiguousPackage);
  fs::remove(package.directory() / "_third.so");
  EXPECT_EQ(salt_of(package.kernel()), 2);
  fs::remove(package.directory() / "_other.so");
  EXPECT_EQ(code_of([&] { package.load(); }), ErrorCode::kNoBinary);
}

TEST(LoadPackage, LeavesNoWritableAndExecutableMemory) {
  FixturePackage("_scale_cpu_v1").load();
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    EXPECT_EQ(line.find(" rwx"), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace kernelhub
