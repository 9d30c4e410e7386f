// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/hub/client.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub::hub {

/// One commit: files to add or replace, paths to delete. Content is read from disk while sending.
struct CommitPlan {
  struct Addition {
    std::string path;  // in the repository
    std::filesystem::path source;
  };
  std::vector<Addition> additions;
  std::vector<std::string> deletions;
  std::string summary;
  std::string description;
};

struct CommitOutcome {
  bool changed = false;  // false: the tree already equals the plan, no commit made
  CommitHash commit;     // head of the branch afterwards
  std::string url;
};

/// Publishes with the write routes of hub spec 3: create repo (exist ok), create branch if absent,
/// preupload, LFS batch where asked for, exactly one commit with parentCommit. Idempotent: an
/// ambiguous failure re-reads the head; 412 re-plans up to 3 times. Needs a token.
class KERNELHUB_API Uploader {
 public:
  explicit Uploader(Client& client) : client_(client) {}
  enum class Visibility { kPublic, kPrivate };
  void create_repo(const RepoId& repo, Visibility visibility);
  /// Head of the branch; created from main when absent (`created` set).
  CommitHash ensure_branch(const RepoId& repo, const std::string& branch, bool* created = nullptr);
  /// `plan_for` is called with the current recursive listing of the branch, again after a 412.
  CommitOutcome commit(const RepoId& repo, const std::string& branch,
                       const std::function<CommitPlan(const Tree& current)>& plan_for,
                       ProgressObserver* progress = nullptr);

 private:
  Client& client_;
};

}  // namespace kernelhub::hub
