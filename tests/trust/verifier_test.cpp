// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/trust/verifier.h"

#include "expect_error.h"
#include "small_package.h"

#include "kernelhub/core/log.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace kernelhub::trust {
namespace {

namespace fs = std::filesystem;

/// A hub package "org/relu" in a plain directory, judged by publisher evidence.
class VerifyVariant : public testing::TestWithParam<DigestAlgorithm> {
 protected:
  VerifyVariant() : metadata_(write_small_package(directory_, "v/torch-cpu")) {
    origin_.endpoint = "https://huggingface.co";
    origin_.repo = RepoId::parse("org/relu");
    origin_.commit = CommitHash::parse(std::string(40, 'a'));
    origin_.variant = "torch-cpu";
    origin_.directory = directory_ / "v/torch-cpu";
    decision_.allow = true;
    decision_.used = {Evidence::kPublisher};
  }
  VerifiedPackage verify() const {
    return verify_variant(origin_, metadata_, expected_, policy_, decision_);
  }
  std::optional<ErrorCode> verify_code() const {
    return code_of([&] { verify(); });
  }
  std::string failed_path() const {
    return nlohmann::json::parse(error_of([&] { verify(); }).details()).at("path");
  }
  fs::path write(const std::string& name, std::string_view content) const {
    return directory_.write("v/torch-cpu/" + name, content);
  }
  fs::path at(const std::string& name) const { return origin_.directory / name; }
  /// What the commit's tree lists for the files as they are now.
  void list_all() {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(origin_.directory)) {
      if (!entry.is_regular_file()) continue;
      const std::string content = read_file(entry.path());
      Hasher blob = Hasher::git_blob(content.size());
      blob.update(content);
      const bool is_lfs = entry.path().filename() == "_ops.py";
      expected_.listing.push_back(
          {entry.path().lexically_relative(origin_.directory).string(),
           is_lfs ? digest_of(DigestAlgorithm::kSha256, content) : blob.finish(), content.size()});
    }
  }
  void drop_digest() {
    metadata_.digest.reset();
    write("metadata.json", metadata_.to_json());
  }
  void strict() {
    Config config;
    config.system_trust_file.clear();
    config.trust_mode = "strict";
    policy_ = TrustPolicy::load(config);
  }

  TempDirectory directory_;
  Metadata metadata_;
  Origin origin_;
  Expected expected_;
  Decision decision_;
  TrustPolicy policy_ = TrustPolicy::defaults();
};

TEST_F(VerifyVariant, HoldsEveryFileOpenWithItsContent) {
  const VerifiedPackage package = verify();
  ASSERT_EQ(package.files().size(), 4U);
  const auto* file = package.find("layers/__init__.py");
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->digest, digest_of(DigestAlgorithm::kSha256, "class A: pass\n"));
  EXPECT_EQ(package.read(*file), "class A: pass\n");
  EXPECT_EQ(package.find("none"), nullptr);
  EXPECT_FALSE(package.needs_sealed());
  EXPECT_EQ(package.variant_digest().rfind("sha256:", 0), 0U);
}

TEST_F(VerifyVariant, ReadsTheJudgedFileAfterThePathWasReplaced) {
  const VerifiedPackage package = verify();
  fs::remove(at("__init__.py"));
  write("__init__.py", "evil");
  EXPECT_EQ(package.read(*package.find("__init__.py")), "from ._ops import ops\n");
}

TEST_F(VerifyVariant, NoticesAWriteIntoAJudgedFile) {
  const VerifiedPackage package = verify();
  std::ofstream(at("__init__.py"), std::ios::in | std::ios::out) << "evil";
  EXPECT_EQ(code_of([&] { package.read(*package.find("__init__.py")); }),
            ErrorCode::kDigestMismatch);
}

TEST_F(VerifyVariant, RefusesOneChangedByteInEveryFile) {
  for (const char* name : {"__init__.py", "layers/__init__.py"}) {
    const std::string good = read_file(at(name));
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1);
      write(name, bad);
      ASSERT_EQ(verify_code(), ErrorCode::kDigestMismatch) << name << " byte " << i;
    }
    EXPECT_EQ(failed_path(), name);
    write(name, good);
  }
  write("_ops.py", "x");
  EXPECT_EQ(failed_path(), "_ops.py");
}

TEST_F(VerifyVariant, ChecksLongDigestsToo) {
  metadata_ = write_small_package(directory_, "v/torch-cpu", DigestAlgorithm::kSha512);
  EXPECT_FALSE(verify_code());
  write("_ops.py", "x");
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMismatch);
}

TEST_F(VerifyVariant, RefusesExtraAndMissingFiles) {
  write("extra.py", "x");
  EXPECT_EQ(verify_code(), ErrorCode::kUnknownFile);
  EXPECT_EQ(failed_path(), "extra.py");
  fs::remove(at("extra.py"));
  fs::remove(at("layers/__init__.py"));
  EXPECT_EQ(verify_code(), ErrorCode::kMissingFile);
  EXPECT_EQ(failed_path(), "layers/__init__.py");
}

TEST_F(VerifyVariant, RefusesPlantedBytecodeEvenWhenListed) {
  write("json.pyc", "x");
  EXPECT_EQ(verify_code(), ErrorCode::kUnknownFile);
  drop_digest();
  list_all();
  EXPECT_EQ(verify_code(), ErrorCode::kUnknownFile);
  decision_.used = {Evidence::kLocal};
  EXPECT_EQ(verify_code(), ErrorCode::kUnknownFile);
}

TEST_F(VerifyVariant, NeverEntersTheCacheFoldersOfPython) {
  write("__pycache__/__init__.cpython-311.pyc", "x");
  write("layers/__pycache__/evil.py", "x");
  fs::create_directory_symlink("/etc", at("__pycache__/link"));
  fs::permissions(at("__pycache__"), fs::perms::all);
  const VerifiedPackage package = verify();
  EXPECT_EQ(package.files().size(), 4U);
  EXPECT_FALSE(package.needs_sealed());
  fs::remove_all(at("layers/__pycache__"));
  write("layers/__pycache__", "a file of that name");
  EXPECT_EQ(verify_code(), ErrorCode::kUnknownFile);
}

TEST_F(VerifyVariant, RefusesLinksWithoutABlobStore) {
  fs::create_directory_symlink(directory_ / "v", at("folder"));
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
  fs::remove(at("folder"));
  fs::rename(at("_ops.py"), directory_ / "outside.py");
  fs::create_symlink(directory_ / "outside.py", at("_ops.py"));
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
  decision_.used = {Evidence::kLocal};
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
}

TEST_F(VerifyVariant, FollowsLinksIntoTheBlobStoreOnly) {
  expected_.blob_root = directory_ / "cache/repo/blobs";
  fs::create_directories(expected_.blob_root);
  fs::rename(at("__init__.py"), expected_.blob_root / "abc");
  fs::create_symlink("../../cache/repo/blobs/abc", at("__init__.py"));
  EXPECT_FALSE(verify_code());

  // A store that the Python client shares between repositories.
  fs::create_directories(directory_ / "cache/blobs/ab");
  fs::rename(expected_.blob_root / "abc", directory_ / "cache/blobs/ab/abc");
  fs::create_symlink("../../blobs/ab/abc", expected_.blob_root / "abc");
  EXPECT_FALSE(verify_code());

  fs::remove(at("__init__.py"));
  fs::rename(directory_ / "cache/blobs/ab/abc", directory_ / "elsewhere");
  fs::create_symlink(directory_ / "elsewhere", at("__init__.py"));
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
  fs::remove(at("__init__.py"));
  fs::create_symlink(expected_.blob_root / "none", at("__init__.py"));
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
  fs::remove(at("__init__.py"));
  fs::create_directory(expected_.blob_root / "dir");
  fs::create_directory_symlink(expected_.blob_root / "dir", at("__init__.py"));
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
}

TEST_F(VerifyVariant, RefusesSpecialFilesWithoutHanging) {
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
}

TEST_F(VerifyVariant, RefusesOddNames) {
  for (const char* name : {"a\\b.py", "bad\x01.py", "\xff.py", "end.", "CON"}) {
    write(name, "x");
    EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath) << name;
    fs::remove(at(name));
  }
  write("_OPS.py", "x");
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafePath);
}

TEST_F(VerifyVariant, ComparesWithTheListingWhenThereIsNoDigest) {
  drop_digest();
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMissing);
  list_all();
  EXPECT_FALSE(verify_code());
  write("__init__.py", "from ._ops import opz\n");
  EXPECT_EQ(failed_path(), "__init__.py");
  write("__init__.py", "from ._ops import ops\n");
  write("_ops.py", "x");
  EXPECT_EQ(failed_path(), "_ops.py");
  write("_ops.py", "");
  write("extra", "x");
  EXPECT_EQ(verify_code(), ErrorCode::kUnknownFile);
  fs::remove(at("extra"));
  fs::remove(at("_ops.py"));
  EXPECT_EQ(verify_code(), ErrorCode::kMissingFile);
}

TEST_F(VerifyVariant, HoldsMetadataToTheListingThatTheDigestCannotCover) {
  list_all();
  EXPECT_FALSE(verify_code());
  write("metadata.json", metadata_.to_json() + "\n");
  EXPECT_EQ(failed_path(), "metadata.json");
}

TEST_F(VerifyVariant, RefusesMetadataOtherThanTheJudgedOne) {
  Metadata other = metadata_;
  other.id = "_other";
  write("metadata.json", other.to_json());
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMismatch);
  fs::remove(at("metadata.json"));
  EXPECT_EQ(verify_code(), ErrorCode::kMissingFile);
}

TEST_F(VerifyVariant, PinsTheWholeVariantByTheLock) {
  expected_.lock_digest = verify().variant_digest();
  decision_.used = {Evidence::kLock};
  EXPECT_FALSE(verify_code());
  drop_digest();
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMismatch);
  expected_.lock_digest = "sha256:" + std::string(64, '0');
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMismatch);
}

TEST_F(VerifyVariant, NeedsADigestThatNamesFiles) {
  metadata_.digest->files.clear();
  write("metadata.json", metadata_.to_json());
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMissing);
  drop_digest();
  list_all();
  decision_.used = {Evidence::kSignature};
  EXPECT_EQ(verify_code(), ErrorCode::kDigestMissing);
}

TEST_F(VerifyVariant, TakesLocalFilesAsTheyAreAndNamesAStaleDigest) {
  decision_.used = {Evidence::kLocal};
  origin_.repo.reset();
  write("_ops.py", "changed");
  std::string warnings;
  set_log_callback([&](LogLevel, std::string_view text) { warnings += text; });
  EXPECT_FALSE(verify_code());
  set_log_callback({});
  EXPECT_NE(warnings.find("_ops.py"), std::string::npos);
}

TEST_F(VerifyVariant, SaysOnceThatASignatureIsNotChecked) {
  write("metadata.json.sigstore", "{}");
  std::string warnings;
  set_log_callback([&](LogLevel, std::string_view text) { warnings += text; });
  origin_.repo = RepoId::parse("org/signed");
  const VerifiedPackage package = verify();
  EXPECT_FALSE(verify_code());
  set_log_callback({});
  EXPECT_EQ(warnings, "org/signed: signature present but not checked by this version");
  EXPECT_EQ(package.decision().used, std::vector<Evidence>{Evidence::kPublisher});
}

TEST_F(VerifyVariant, RefusesARefusedDecision) {
  decision_.allow = false;
  EXPECT_EQ(verify_code(), ErrorCode::kTrustDenied);
}

TEST_F(VerifyVariant, RefusesWorldWritableFilesAndFoldersUnlessPinned) {
  const std::string digest = verify().variant_digest();
  for (const fs::path& place : {at("_ops.py"), at("layers"), origin_.directory, directory_ / "v"}) {
    const fs::perms before = fs::status(place).permissions();
    fs::permissions(place, fs::perms::others_write, fs::perm_options::add);
    expected_.lock_digest.clear();
    decision_.used = {Evidence::kPublisher};
    EXPECT_EQ(verify_code(), ErrorCode::kUnsafeOwnership) << place;
    expected_.lock_digest = digest;
    decision_.used = {Evidence::kLock};
    EXPECT_TRUE(verify().needs_sealed()) << place;
    fs::permissions(place, before);
  }
}

TEST_F(VerifyVariant, SealsGroupWritableFilesAndRefusesThemInStrict) {
  fs::permissions(at("_ops.py"), fs::perms::group_write, fs::perm_options::add);
  EXPECT_TRUE(verify().needs_sealed());
  strict();
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafeOwnership);
}

TEST_F(VerifyVariant, PassesStickyFolders) {
  fs::permissions(directory_ / "v", fs::perms::all | fs::perms::sticky_bit);
  EXPECT_FALSE(verify().needs_sealed());
}

TEST_F(VerifyVariant, SealsFilesOfAnotherUserAndRefusesThemInStrict) {
  if (::chown(at("_ops.py").c_str(), 54321, 54321) != 0) {
    GTEST_SKIP() << "only root can give a file away";
  }
  EXPECT_TRUE(verify().needs_sealed());
  strict();
  EXPECT_EQ(verify_code(), ErrorCode::kUnsafeOwnership);
}

}  // namespace
}  // namespace kernelhub::trust
