// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/upload.h"

#include "expect_error.h"
#include "hub_on_loopback.h"

namespace kernelhub::hub {
namespace {

using server::FaultKind;

class UploaderTest : public HubOnLoopback {
 protected:
  CommitPlan plan(const std::map<std::string, std::string>& files) {
    CommitPlan plan;
    plan.summary = "publish";
    for (const auto& [path, content] : files) {
      const auto source = folder_.path() / "plan" / path;
      write_content(source, content);
      plan.additions.push_back({path, source});
    }
    return plan;
  }
  CommitOutcome commit(Client& writer, const CommitPlan& plan) {
    return Uploader(writer).commit(repo_, "v1", [&](const Tree&) { return plan; });
  }
  std::size_t commits() const { return requests_with("/commit/v1"); }
  std::string content_at(const std::string& revision, const std::string& path) {
    return client().read_file_at(repo_, revision, path, 1u << 20).value_or("absent");
  }
};

TEST_F(UploaderTest, PublishesAndDeletesInOneCommit) {
  const CommitHash first = publish_kernel();
  EXPECT_EQ(commits(), 1u);
  Client writer = client(writer_config());
  CommitPlan change = plan({{"build/torch-cpu/new.py", "x"}});
  change.deletions = {"build/torch-cpu/metadata.json", "never/there"};
  const CommitOutcome outcome = commit(writer, change);
  EXPECT_TRUE(outcome.changed);
  EXPECT_NE(outcome.commit, first);
  EXPECT_EQ(commits(), 2u);
  EXPECT_EQ(content_at("v1", "build/torch-cpu/new.py"), "x");
  EXPECT_EQ(content_at("v1", "build/torch-cpu/metadata.json"), "absent");
  EXPECT_EQ(content_at(first.str(), "build/torch-cpu/metadata.json"), "{\"name\": \"tk\"}");
}

TEST_F(UploaderTest, MakesNoCommitWhenTheTreeIsEqual) {
  const CommitHash first = publish_kernel();
  Client writer = client(writer_config());
  const CommitOutcome outcome = commit(writer, plan({{std::string(kFolder) + "/_tk.so", big_}}));
  EXPECT_FALSE(outcome.changed);
  EXPECT_EQ(outcome.commit, first);
  EXPECT_EQ(commits(), 1u);
}

TEST_F(UploaderTest, PlansAgainWhenTheBranchMoved) {
  publish_kernel();
  Client writer = client(writer_config());
  Client rival = client(writer_config());
  int plans = 0;
  const CommitOutcome outcome = Uploader(writer).commit(repo_, "v1", [&](const Tree& current) {
    if (++plans == 1) commit(rival, plan({{"rival.txt", "first"}}));
    CommitPlan mine = plan({{"mine.txt", std::to_string(current.files.size())}});
    return mine;
  });
  EXPECT_TRUE(outcome.changed);
  EXPECT_EQ(plans, 2);
  EXPECT_EQ(content_at("v1", "rival.txt"), "first");
  EXPECT_NE(content_at("v1", "mine.txt"), "absent");
}

TEST_F(UploaderTest, GivesUpOnABranchThatAlwaysMoves) {
  publish_kernel();
  Client writer = client(writer_config());
  Client rival = client(writer_config());
  int plans = 0;
  EXPECT_EQ(code_of([&] {
              Uploader(writer).commit(repo_, "v1", [&](const Tree&) {
                commit(rival, plan({{"rival.txt", std::to_string(++plans)}}));
                return plan({{"mine.txt", "mine"}});
              });
            }),
            ErrorCode::kPreconditionFailed);
  EXPECT_EQ(plans, 3);
}

TEST_F(UploaderTest, RecognisesItsOwnCommitWhenTheAnswerWasLost) {
  const CommitHash first = publish_kernel();
  // The commit is made; its answer ends in the middle.
  server_.faults().add({.kind = FaultKind::kCut, .path_contains = "/commit/v1", .at_byte = 5});
  Client writer = client(writer_config());
  const CommitOutcome outcome = commit(writer, plan({{"new.txt", "new"}}));
  EXPECT_TRUE(outcome.changed);
  EXPECT_NE(outcome.commit, first);
  EXPECT_EQ(content_at("v1", "new.txt"), "new");
  EXPECT_EQ(commits(), 2u);
}

TEST_F(UploaderTest, CommitsAgainWhenTheServerNeverSawIt) {
  publish_kernel();
  server_.faults().add({.kind = FaultKind::kStatus, .path_contains = "/commit/v1"});
  Client writer = client(writer_config());
  EXPECT_TRUE(commit(writer, plan({{"new.txt", "new"}})).changed);
  EXPECT_EQ(content_at("v1", "new.txt"), "new");
}

TEST_F(UploaderTest, SendsObjectsFirstInLfsMode) {
  server::HubServer lfs({.store = folder_.path() / "lfs", .upload_mode = server::UploadMode::kLfs});
  lfs.start();
  Config writer_settings = writer_config();
  writer_settings.endpoint = lfs.url();
  writer_settings.token = Secret(lfs.admin_token(), "the test");
  Client writer = client(writer_settings);
  Uploader uploader(writer);
  uploader.create_repo(repo_, Uploader::Visibility::kPublic);
  bool created = false;
  uploader.ensure_branch(repo_, "v1", &created);
  EXPECT_TRUE(created);
  uploader.ensure_branch(repo_, "v1", &created);
  EXPECT_FALSE(created);
  const CommitOutcome outcome = uploader.commit(repo_, "v1", [&](const Tree&) {
    return plan({{"a.so", big_}, {"empty", ""}});
  });
  EXPECT_TRUE(outcome.changed);
  Config reader_settings = config();
  reader_settings.endpoint = lfs.url();
  Client reader = client(reader_settings);
  EXPECT_EQ(reader.read_file_at(repo_, "v1", "a.so", 1u << 20), big_);
  bool put_with_token = false;
  std::size_t puts = 0;
  for (const auto& record : lfs.requests()) {
    if (record.method != "PUT") continue;
    ++puts;
    put_with_token = put_with_token || record.has_authorization;
  }
  EXPECT_EQ(puts, 1u);
  EXPECT_FALSE(put_with_token);
}

TEST_F(UploaderTest, AsksForATokenBeforeAnyRequest) {
  Client anonymous = client();
  EXPECT_EQ(code_of([&] { Uploader(anonymous).create_repo(repo_, Uploader::Visibility::kPublic); }),
            ErrorCode::kAuthRequired);
  EXPECT_EQ(anonymous.request_count(), 0u);
}

TEST_F(UploaderTest, SaysThatTheTokenIsBad) {
  Config bad = writer_config();
  bad.token = Secret("hf_wrong", "HF_TOKEN");
  Client writer = client(bad);
  EXPECT_EQ(code_of([&] { Uploader(writer).create_repo(repo_, Uploader::Visibility::kPublic); }),
            ErrorCode::kAuthInvalid);
}

}  // namespace
}  // namespace kernelhub::hub
