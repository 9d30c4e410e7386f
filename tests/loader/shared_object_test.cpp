// SPDX-License-Identifier: Apache-2.0
#include "shared_object.h"

#include "expect_error.h"
#include "fixture_package.h"
#include "sealed_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fcntl.h>
#include <fstream>
#include <sys/mman.h>
#include <unistd.h>

namespace kernelhub::loader {
namespace {

namespace fs = std::filesystem;

int salt_of(const SharedObject& object) {
  const auto call = reinterpret_cast<kh_call>(object.symbol("__tvm_ffi_salt"));
  kh_value result{};
  call(nullptr, nullptr, 0, &result);
  return static_cast<int>(result.u.i);
}

bool is_mapped_by_name(const std::string& name) {
  const std::vector<MappedObject> objects = mapped_objects();
  return std::any_of(objects.begin(), objects.end(),
                     [&](const MappedObject& object) { return object.path == name; });
}

TEST(SharedObjectTest, OpensTheFileBehindTheDescriptorEvenWhenThePathIsReplaced) {
  TempDirectory directory;
  const fs::path path = directory / "lib.so";
  fs::copy_file(fixture("_plain_1"), path);
  const UniqueFd fd = open_file(path);
  fs::copy_file(fixture("_plain_2"), directory / "other.so");
  fs::rename(directory / "other.so", path);
  const SharedObject object = SharedObject::open(fd.get(), path, Binding::kNow);
  EXPECT_EQ(salt_of(object), 1);
}

TEST(SharedObjectTest, NamesTheMappingByProcessAndDescriptor) {
  const UniqueFd fd = open_fixture("_plain_3");
  const std::string name = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd.get());
  {
    const SharedObject object = SharedObject::open(fd.get(), "plain", Binding::kNow);
    EXPECT_TRUE(is_mapped_by_name(name));
    EXPECT_TRUE(object.is_mapped());
  }
  EXPECT_FALSE(is_mapped_by_name(name));
}

TEST(SharedObjectTest, RefusesTheFormerLibraryWhenADescriptorNumberComesBack) {
  UniqueFd first = open_fixture("_plain_1");
  const int number = first.get();
  const SharedObject object = SharedObject::open(number, "first", Binding::kNow);
  first.reset();  // breaks the rule that the descriptor outlives the mapping
  UniqueFd second = open_fixture("_plain_2");
  ASSERT_EQ(dup2(second.get(), number), number);
  const UniqueFd reused(number == second.get() ? -1 : number);
  EXPECT_EQ(code_of([&] { SharedObject::open(number, "second", Binding::kNow); }),
            ErrorCode::kIdentityMismatch);
}

TEST(SharedObjectTest, FindsAFileThatIsMappedUnderAnotherName) {
  TempDirectory directory;
  fs::copy_file(fixture("_plain_4"), directory / "a.so");
  fs::create_hard_link(directory / "a.so", directory / "b.so");
  const UniqueFd a = open_file(directory / "a.so"), b = open_file(directory / "b.so");
  EXPECT_FALSE(SharedObject::find(b.get(), "b").has_value());
  const SharedObject object = SharedObject::open(a.get(), "a", Binding::kNow);
  const std::optional<SharedObject> found = SharedObject::find(b.get(), "b");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->symbol("__tvm_ffi_salt"), object.symbol("__tvm_ffi_salt"));
}

TEST(SharedObjectTest, LeavesNoNameBehindWhenItFindsAFile) {
  TempDirectory directory;
  fs::copy_file(fixture("_plain_1"), directory / "a.so");
  fs::copy_file(fixture("_plain_2"), directory / "b.so");
  const UniqueFd a = open_file(directory / "a.so");
  const SharedObject object = SharedObject::open(a.get(), "a", Binding::kNow);
  UniqueFd asked = open_file(directory / "a.so");
  const int number = asked.get();
  ASSERT_TRUE(SharedObject::find(number, "a").has_value());
  asked.reset();
  const UniqueFd b = open_file(directory / "b.so");
  ASSERT_EQ(b.get(), number);
  EXPECT_EQ(salt_of(SharedObject::open(b.get(), "b", Binding::kNow)), 2);
}

TEST(SharedObjectTest, SaysThePathAndNotTheDescriptorInErrors) {
  const UniqueFd fd = open_fixture("_missing_symbols");
  const Error error = error_of([&] { SharedObject::open(fd.get(), "pkg/lib.so", Binding::kNow); });
  EXPECT_EQ(error.code(), ErrorCode::kDlopenFailed);
  EXPECT_NE(std::string(error.what()).find("pkg/lib.so"), std::string::npos);
  EXPECT_EQ(std::string(error.what()).find("/proc/"), std::string::npos) << error.what();
}

TEST(SealedFileTest, CannotBeWrittenOrCutOnceSealed) {
  SealedFile file("copy");
  file.write("abc");
  file.replace(1, 'x');
  const UniqueFd fd = file.seal();
  EXPECT_EQ(write(fd.get(), "d", 1), -1);
  EXPECT_EQ(ftruncate(fd.get(), 0), -1);
  char bytes[4] = {};
  EXPECT_EQ(pread(fd.get(), bytes, 3, 0), 3);
  EXPECT_STREQ(bytes, "axc");
  EXPECT_EQ(mmap(nullptr, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0), MAP_FAILED);
}

TEST(SymbolScopeTest, SeesTheProgramAndMappedDependencies) {
  const SymbolScope scope({"libm.so.6"});
  EXPECT_TRUE(scope.has("malloc", ""));
  EXPECT_TRUE(scope.has("cos", ""));
  EXPECT_FALSE(scope.has("kernelhub_no_such_symbol", ""));
  EXPECT_FALSE(scope.has("malloc", "GLIBC_9.9"));
}

}  // namespace
}  // namespace kernelhub::loader
