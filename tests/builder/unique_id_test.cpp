// SPDX-License-Identifier: Apache-2.0
#include "expect_error.h"
#include "git_identity.h"
#include "source_tree.h"
#include "temp_directory.h"

#include <git2.h>
#include <gtest/gtest.h>

namespace kernelhub::builder {
namespace {

constexpr const char* kProject =
    "[general]\nname = \"relu\"\nversion = 1\nedition = 5\nlicense = \"MIT\"\n"
    "backends = [\"cpu\"]\n[torch]\nsrc = [\"../shared/s.h\", \"b.cpp\"]\n";

/// A git repository with a committed tree, made with the library.
class UniqueIdTest : public testing::Test {
 protected:
  UniqueIdTest() {
    git_libgit2_init();
    write("relu/build.toml", kProject);
    write("relu/b.cpp", "int b;\n");
    write("shared/s.h", "int s;\n");
  }
  ~UniqueIdTest() override { git_libgit2_shutdown(); }

  void write(const std::string& name, std::string_view text) { directory_.write(name, text); }

  void commit_all() {
    git_repository* repository = nullptr;
    ASSERT_EQ(git_repository_init(&repository, directory_.path().c_str(), 0), 0);
    git_index* index = nullptr;
    ASSERT_EQ(git_repository_index(&index, repository), 0);
    ASSERT_EQ(git_index_add_all(index, nullptr, 0, nullptr, nullptr), 0);
    git_oid tree_id, commit_id;
    ASSERT_EQ(git_index_write_tree(&tree_id, index), 0);
    ASSERT_EQ(git_index_write(index), 0);
    git_tree* tree = nullptr;
    ASSERT_EQ(git_tree_lookup(&tree, repository, &tree_id), 0);
    git_signature* author = nullptr;
    ASSERT_EQ(git_signature_new(&author, "A", "a@example.org", 1700000000, 0), 0);
    git_oid head;
    git_commit* parent = nullptr;
    const bool has_parent = git_reference_name_to_id(&head, repository, "HEAD") == 0;
    if (has_parent) {
      ASSERT_EQ(git_commit_lookup(&parent, repository, &head), 0);
    }
    const git_commit* parents[] = {parent};
    ASSERT_EQ(git_commit_create(&commit_id, repository, "HEAD", author, author, nullptr, "m", tree,
                                has_parent ? 1 : 0, parents),
              0);
    git_commit_free(parent);
    git_signature_free(author);
    git_tree_free(tree);
    git_index_free(index);
    git_repository_free(repository);
  }

  SourceTree sources() {
    const BuildToml project = read_build_toml(directory_ / "relu").project;
    return collect_sources(project, find_work_tree(project.directory));
  }

  std::string id() {
    const SourceTree tree = sources();
    return unique_id(read_git_identity(directory_ / "relu", tree), tree);
  }

  TempDirectory directory_;
};

TEST_F(UniqueIdTest, ComesFromTheSourcesWithoutGit) {
  const SourceTree tree = sources();
  EXPECT_EQ(id(), "s" + tree.source_hash.substr(0, 12));
  EXPECT_EQ(tree.project, "relu");
  ASSERT_EQ(tree.files.size(), 3u);
  EXPECT_EQ(tree.files[2].path, "shared/s.h");
}

TEST_F(UniqueIdTest, IsTheFoldersTreeWhenAllIsCommitted) {
  write("relu/b.h", "");
  write("relu/build.toml",
        "[general]\nname = \"relu\"\nversion = 1\nedition = 5\nlicense = \"MIT\"\n"
        "backends = [\"cpu\"]\n[torch]\nsrc = [\"b.h\", \"b.cpp\"]\n");
  commit_all();
  const SourceTree tree = sources();
  const auto git = read_git_identity(directory_ / "relu", tree);
  ASSERT_TRUE(git);
  EXPECT_FALSE(git->dirty);
  EXPECT_EQ(id(), git->tree.substr(0, 7));
  const std::string before = id();
  write("elsewhere/x", "neighbour");
  commit_all();
  EXPECT_EQ(id(), before) << "a neighbour's commit changes no id";
}

TEST_F(UniqueIdTest, TellsBuildsWithOtherSharedFilesApart) {
  commit_all();
  const std::string before = id();
  write("shared/s.h", "int changed;\n");
  commit_all();
  EXPECT_NE(id(), before);
  EXPECT_EQ(id().substr(0, 7), before.substr(0, 7));
}

TEST_F(UniqueIdTest, TellsTwoUncommittedEditsApart) {
  commit_all();
  write("relu/b.cpp", "int b1;\n");
  const std::string first = id();
  write("relu/b.cpp", "int b2;\n");
  EXPECT_NE(first.find("_dirty_"), std::string::npos);
  EXPECT_NE(id(), first);
}

TEST_F(UniqueIdTest, RefusesSourcesOutsideTheWorkTree) {
  write("relu/build.toml",
        "[general]\nname = \"relu\"\nversion = 1\nedition = 5\nlicense = \"MIT\"\n"
        "backends = [\"cpu\"]\n[torch]\nsrc = [\"../../../etc/hostname\"]\n");
  EXPECT_EQ(code_of([&] { sources(); }), ErrorCode::kUnsafePath);
}

TEST_F(UniqueIdTest, NamesAMissingSource) {
  std::filesystem::remove(directory_ / "relu/b.cpp");
  const Error error = error_of([&] { sources(); });
  EXPECT_EQ(error.code(), ErrorCode::kBuildTomlInvalid);
  EXPECT_NE(std::string(error.what()).find("relu/b.cpp"), std::string::npos);
}

TEST_F(UniqueIdTest, WarnsOfAnIncludedFileThatIsNotListed) {
  write("relu/b.cpp", "#include \"hidden.h\"\n");
  write("relu/hidden.h", "");
  const BuildToml project = read_build_toml(directory_ / "relu").project;
  const std::vector<Diagnostic> findings = lint_includes(project, sources());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].line, 1);
}

}  // namespace
}  // namespace kernelhub::builder
