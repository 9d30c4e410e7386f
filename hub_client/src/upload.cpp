// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/upload.h"

#include "client_state.h"
#include "commit_body.h"
#include "hub_errors.h"
#include "hub_write_json.h"
#include "parallel_work.h"

#include "kernelhub/core/safe_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

namespace kernelhub::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFilesPerCall = 256;
constexpr std::size_t kParallelPuts = 5;
constexpr std::size_t kSampleBytes = 512;
constexpr std::size_t kHashBlock = 256u << 10;
constexpr int kCommitAttempts = 3;
constexpr std::uint64_t kMaxReplyBytes = 4u << 20;

// A file to publish, hashed both ways: which one the hub shows depends on the hub.
struct PlannedFile {
  std::string path;
  fs::path source;
  std::uint64_t size_bytes = 0;
  std::string git_oid;
  std::string sha256;
  std::string sample;
  FileMode mode = FileMode::kRegular;

  bool equals(const TreeFile& file) const {
    return file.lfs_sha256.empty() ? file.git_oid == git_oid : file.lfs_sha256 == sha256;
  }
};

struct Changes {
  std::vector<PlannedFile> additions;
  std::vector<std::string> deletions;
  bool empty() const { return additions.empty() && deletions.empty(); }
};

PlannedFile hash_source(const CommitPlan::Addition& addition) {
  PlannedFile file;
  file.path = SafeRelPath::parse(addition.path, "upload").str();
  file.source = addition.source;
  std::error_code error;
  file.size_bytes = fs::file_size(file.source, error);
  if (error) throw hub_errors::cache_io("read", file.source, error.value());
  Hasher git = Hasher::git_blob(file.size_bytes);
  Hasher sha256(DigestAlgorithm::kSha256);
  std::ifstream stream(file.source, std::ios::binary);
  std::string block(kHashBlock, '\0');
  std::uint64_t total = 0;
  while (stream.read(block.data(), static_cast<std::streamsize>(block.size())),
         stream.gcount() > 0) {
    const auto count = static_cast<std::size_t>(stream.gcount());
    git.update(block.data(), count);
    sha256.update(block.data(), count);
    if (total == 0) file.sample = block.substr(0, std::min(count, kSampleBytes));
    total += count;
  }
  if (total != file.size_bytes) {
    throw hub_errors::source_changed(file.source, file.size_bytes, total);
  }
  file.git_oid = git.finish().hex();
  file.sha256 = sha256.finish().hex();
  return file;
}

std::map<std::string, TreeFile> by_path(const Tree& tree) {
  std::map<std::string, TreeFile> files;
  for (const TreeFile& file : tree.files) files.emplace(file.path, file);
  return files;
}

// What of the plan the tree does not have yet.
Changes changes_of(const CommitPlan& plan, const Tree& current) {
  const auto files = by_path(current);
  Changes changes;
  std::set<std::string> kept;
  for (const CommitPlan::Addition& addition : plan.additions) {
    PlannedFile file = hash_source(addition);
    kept.insert(file.path);
    const auto there = files.find(file.path);
    if (there == files.end() || !file.equals(there->second)) {
      changes.additions.push_back(std::move(file));
    }
  }
  for (const std::string& path : plan.deletions) {
    if (files.contains(path) && !kept.contains(path)) changes.deletions.push_back(path);
  }
  return changes;
}

// Whether `after` is `before` with the changes made and nothing else.
bool has_changes(const Tree& before, const Changes& changes, const Tree& after) {
  auto expected = by_path(before);
  for (const std::string& path : changes.deletions) expected.erase(path);
  auto found = by_path(after);
  for (const PlannedFile& file : changes.additions) {
    const auto there = found.find(file.path);
    if (there == found.end() || !file.equals(there->second)) return false;
    expected.erase(file.path);
    found.erase(there);
  }
  return std::equal(expected.begin(), expected.end(), found.begin(), found.end(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && a.second.etag() == b.second.etag();
                    });
}

// After these nobody knows whether the hub made the commit.
bool is_ambiguous(ErrorCode code) {
  return code == ErrorCode::kNetwork || code == ErrorCode::kTimeout ||
         code == ErrorCode::kServerError || code == ErrorCode::kProxyFailure ||
         code == ErrorCode::kNotAHub;
}

// Bytes sent, as one unit of work.
class SendingProgress {
 public:
  SendingProgress(std::string what, std::uint64_t total_bytes, ProgressObserver* observer)
      : what_(std::move(what)), observer_(observer) {
    if (observer_ != nullptr) observer_->started(what_, total_bytes);
  }
  SendingProgress(const SendingProgress&) = delete;
  SendingProgress& operator=(const SendingProgress&) = delete;
  ~SendingProgress() {
    if (observer_ != nullptr) observer_->finished(what_);
  }
  std::function<void(std::uint64_t)> callback() {
    if (observer_ == nullptr) return {};
    return [this](std::uint64_t sent) { observer_->advanced(what_, sent); };
  }

 private:
  std::string what_;
  ProgressObserver* observer_;
};

}  // namespace

/// One branch being written to.
class BranchWriter {
 public:
  BranchWriter(ClientState& state, const RepoId& repo, std::string branch,
               ProgressObserver* progress)
      : state_(state), repo_(repo), branch_(std::move(branch)), progress_(progress) {}
  CommitHash head() const;
  Tree tree_at(const CommitHash& commit) const {
    return state_.fetch_tree(repo_, commit.str(), "", Urls::Depth::kRecursive);
  }
  /// Asks for the mode of each file and stores LFS objects.
  void upload_objects(Changes& changes) const;
  /// Nothing when the branch moved.
  std::optional<CommitReply> post(const CommitPlan& plan, const Changes& changes,
                                  const CommitHash& parent) const;
  HubCall call(HttpMethod method, std::string url, std::string what) const;

 private:
  void ask_modes(Changes& changes) const;
  void put_object(const PlannedFile& file, const LfsAction& action,
                  const std::function<bool()>& cancelled) const;
  bool is_cancelled() const { return progress_ != nullptr && progress_->cancelled(); }

  ClientState& state_;
  const RepoId& repo_;
  const std::string branch_;
  ProgressObserver* progress_;
};

HubCall BranchWriter::call(HttpMethod method, std::string url, std::string what) const {
  HubCall call;
  call.method = method;
  call.url = std::move(url);
  call.subject = {std::move(what), repo_.str(), branch_, ""};
  call.headers = {{"Content-Type", "application/json"}};
  call.max_reply_bytes = kMaxReplyBytes;
  call.token = HubCall::Token::kWrite;
  call.cancelled = [this] { return is_cancelled(); };
  if (state_.session.config().token.empty()) throw hub_errors::token_needed(call.subject);
  return call;
}

CommitHash BranchWriter::head() const {
  const Refs refs = state_.fetch_refs(repo_, HubCall::Attempts::kRetried);
  for (const Branch& branch : refs.branches) {
    if (branch.name == branch_) return branch.commit;
  }
  throw hub_errors::branch_not_found(repo_.str(), branch_);
}

void BranchWriter::ask_modes(Changes& changes) const {
  std::map<std::string, FileMode> modes;
  for (std::size_t begin = 0; begin < changes.additions.size(); begin += kFilesPerCall) {
    std::vector<UploadFile> files;
    const std::size_t end = std::min(begin + kFilesPerCall, changes.additions.size());
    for (std::size_t i = begin; i < end; ++i) {
      const PlannedFile& file = changes.additions[i];
      files.push_back({file.path, file.size_bytes, base64_encode(file.sample)});
    }
    HubCall request =
        call(HttpMethod::kPost, state_.session.urls().preupload(repo_, branch_), "preupload");
    request.body = preupload_body(files);
    modes.merge(parse_preupload(state_.session.send(request).body, request.url));
  }
  for (PlannedFile& file : changes.additions) {
    const auto mode = modes.find(file.path);
    if (mode == modes.end()) {
      throw hub_errors::upload_refused(repo_.str(), file.path, "the hub names no upload mode");
    }
    file.mode = file.size_bytes == 0 ? FileMode::kRegular : mode->second;
  }
}

void BranchWriter::put_object(const PlannedFile& file, const LfsAction& action,
                              const std::function<bool()>& cancelled) const {
  ComposedBody body;
  body.add_file(file.source, file.size_bytes, ComposedBody::Encoding::kPlain);
  HubCall put = call(HttpMethod::kPut, action.upload_url, "object");
  put.subject.path = file.path;
  put.headers = {action.upload_headers.begin(), action.upload_headers.end()};
  put.source = &body;
  put.token = HubCall::Token::kNever;  // the address itself is the permission
  put.timeouts = HubCall::Timeouts::kBody;
  put.cancelled = cancelled;
  state_.session.send(put);
  if (action.verify_url.empty()) return;
  HubCall verify = call(HttpMethod::kPost, action.verify_url, "object check");
  verify.subject.path = file.path;
  verify.body = lfs_verify_body({file.sha256, file.size_bytes});
  state_.session.send(verify);
}

void BranchWriter::upload_objects(Changes& changes) const {
  ask_modes(changes);
  std::map<std::string, const PlannedFile*> files;  // by sha256
  for (const PlannedFile& file : changes.additions) {
    if (file.mode == FileMode::kLfs) files.emplace(file.sha256, &file);
  }
  std::vector<LfsObject> objects;
  for (const auto& [sha256, file] : files) objects.push_back({sha256, file->size_bytes});
  for (std::size_t begin = 0; begin < objects.size(); begin += kFilesPerCall) {
    const auto end = std::min(begin + kFilesPerCall, objects.size());
    HubCall batch = call(HttpMethod::kPost, state_.session.urls().lfs_batch(repo_), "LFS batch");
    batch.headers = {{"Content-Type", "application/vnd.git-lfs+json"},
                     {"Accept", "application/vnd.git-lfs+json"}};
    batch.body = lfs_batch_body({objects.begin() + static_cast<std::ptrdiff_t>(begin),
                                 objects.begin() + static_cast<std::ptrdiff_t>(end)},
                                branch_);
    std::vector<LfsAction> actions = parse_lfs_batch(state_.session.send(batch).body, batch.url);
    for (const LfsAction& action : actions) {
      const auto file = files.find(action.sha256);
      const std::string path = file == files.end() ? action.sha256 : file->second->path;
      if (file == files.end()) {
        throw hub_errors::upload_refused(repo_.str(), path, "the hub asks for an unknown object");
      }
      if (!action.error.empty()) {
        throw hub_errors::upload_refused(repo_.str(), path, action.error);
      }
    }
    std::erase_if(actions, [](const LfsAction& action) { return action.upload_url.empty(); });
    run_in_parallel(actions.size(), kParallelPuts,
                    [&](std::size_t i, const std::function<bool()>& is_stopping) {
                      put_object(*files.at(actions[i].sha256), actions[i],
                                 [&] { return is_stopping() || is_cancelled(); });
                    });
  }
}

std::optional<CommitReply> BranchWriter::post(const CommitPlan& plan, const Changes& changes,
                                              const CommitHash& parent) const {
  std::uint64_t total_bytes = 0;
  for (const PlannedFile& file : changes.additions) {
    if (file.mode == FileMode::kRegular) total_bytes += 4 * ((file.size_bytes + 2) / 3);
  }
  SendingProgress progress(repo_.str() + "@" + branch_, total_bytes, progress_);
  ComposedBody body(progress.callback());
  body.add_text(commit_header_line(plan.summary, plan.description, parent));
  for (const PlannedFile& file : changes.additions) {
    if (file.mode == FileMode::kLfs) {
      body.add_text(commit_lfs_line(file.path, {file.sha256, file.size_bytes}));
      continue;
    }
    FileLine line = commit_file_line(file.path);
    body.add_text(std::move(line.before));
    body.add_file(file.source, file.size_bytes, ComposedBody::Encoding::kBase64);
    body.add_text(std::move(line.after));
  }
  for (const std::string& path : changes.deletions) body.add_text(commit_deletion_line(path));
  HubCall request = call(HttpMethod::kPost, state_.session.urls().commit(repo_, branch_), "commit");
  request.headers = {{"Content-Type", "application/x-ndjson"}};
  request.source = &body;
  request.answers = {412};
  request.timeouts = HubCall::Timeouts::kBody;
  request.attempts = HubCall::Attempts::kOnce;
  const HttpResponse reply = state_.session.send(request);
  if (reply.status == 412) return std::nullopt;
  return parse_commit_reply(reply.body, request.url);
}

void Uploader::create_repo(const RepoId& repo, Visibility visibility) {
  const BranchWriter writer(*client_.state_, repo, "", nullptr);
  HubCall call = writer.call(HttpMethod::kPost, client_.state_->session.urls().create_repo(),
                             "new repository");
  call.body = create_repo_body(repo, visibility == Visibility::kPrivate);
  call.answers = {409};  // it exists
  client_.state_->session.send(call);
}

CommitHash Uploader::ensure_branch(const RepoId& repo, const std::string& branch, bool* created) {
  ClientState& state = *client_.state_;
  const BranchWriter writer(state, repo, branch, nullptr);
  if (created != nullptr) *created = false;
  const Refs refs = state.fetch_refs(repo, HubCall::Attempts::kRetried);
  std::optional<CommitHash> start;
  for (const Branch& there : refs.branches) {
    if (there.name == branch) return there.commit;
    if (there.name == "main") start = there.commit;
  }
  if (!start) throw hub_errors::branch_not_found(repo.str(), "main");
  HubCall call =
      writer.call(HttpMethod::kPost, state.session.urls().branch(repo, branch), "new branch");
  call.body = create_branch_body(*start);
  call.answers = {409};  // somebody was faster
  const bool is_new = state.session.send(call).status != 409;
  if (created != nullptr) *created = is_new;
  return is_new ? *start : writer.head();
}

CommitOutcome Uploader::commit(const RepoId& repo, const std::string& branch,
                               const std::function<CommitPlan(const Tree& current)>& plan_for,
                               ProgressObserver* progress) {
  const BranchWriter writer(*client_.state_, repo, branch, progress);
  std::string unconfirmed;
  for (int attempt = 0; attempt < kCommitAttempts; ++attempt) {
    const CommitHash head = writer.head();
    const Tree current = writer.tree_at(head);
    const CommitPlan plan = plan_for(current);
    Changes changes = changes_of(plan, current);
    // After an unconfirmed commit an equal tree means that it arrived.
    if (changes.empty()) return {!unconfirmed.empty(), head, {}};
    writer.upload_objects(changes);
    try {
      if (const auto reply = writer.post(plan, changes, head)) {
        return {true, reply->commit, reply->url};
      }
    } catch (const HubError& error) {
      if (!is_ambiguous(error.code())) throw;
      unconfirmed = error.what();
      const CommitHash now = writer.head();
      if (now != head && has_changes(current, changes, writer.tree_at(now))) {
        return {true, now, {}};
      }
    }
  }
  if (!unconfirmed.empty()) {
    throw hub_errors::ambiguous_commit(repo.str(), branch, unconfirmed);
  }
  throw hub_errors::head_moved(repo.str(), branch, kCommitAttempts);
}

}  // namespace kernelhub::hub
