// SPDX-License-Identifier: Apache-2.0
#include "commit_paths.h"
#include "commit_stream.h"
#include "reply_json.h"
#include "request_json.h"
#include "routes.h"
#include "server_errors.h"

namespace kernelhub::server {

HttpResponse create_repo(HubContext& hub, const Exchange& exchange) {
  if (exchange.caller.is_anonymous()) throw server_errors::token_required("creating a repository");
  const CreateRepoRequest wanted = parse_create_repo(read_body(exchange.request));
  const std::string ns =
      wanted.organization.empty() ? exchange.caller.token->name : wanted.organization;
  const RepoKey repo{wanted.type, RepoId::parse(ns + "/" + wanted.name)};
  exchange.caller.require_write(ns, "creating a repository");
  const std::string url = hub.repo_url(repo);
  hub.repos.create(repo, wanted.is_private, exchange.caller.token->name, url);
  return json_response(created_repo_body(repo, url));
}

HttpResponse validate_yaml(HubContext&, const Exchange& exchange) {
  check_yaml_request(read_body(exchange.request));
  return json_response(validated_yaml_body());
}

HttpResponse create_branch(HubContext& hub, const RepoExchange& exchange) {
  require_writable(hub, exchange.exchange, exchange.repo);
  const std::string start = parse_starting_point(read_body(exchange.exchange.request));
  hub.repos.create_branch(exchange.repo, exchange.joined(), start);
  return json_response("{}");
}

HttpResponse delete_branch(HubContext& hub, const RepoExchange& exchange) {
  require_writable(hub, exchange.exchange, exchange.repo);
  hub.repos.delete_branch(exchange.repo, exchange.joined());
  return json_response("{}");
}

HttpResponse preupload(HubContext& hub, const RepoExchange& exchange) {
  require_writable(hub, exchange.exchange, exchange.repo);
  const std::vector<PreuploadFile> files = parse_preupload(read_body(exchange.exchange.request));
  const CommitHash head = hub.repos.resolve(exchange.repo, exchange.joined());
  const auto stored = hub.repos.tree(exchange.repo, head);
  std::vector<PreuploadAnswer> answers;
  for (const PreuploadFile& file : files) {
    const auto found = stored->files.find(commit_path(file.path));
    PreuploadAnswer answer{file.path, false, {}};
    answer.is_lfs = hub.options.upload_mode == UploadMode::kLfs && file.size_bytes != 0;
    if (found != stored->files.end()) {
      answer.current = answer.is_lfs ? found->second.sha256 : found->second.git_blob;
    }
    answers.push_back(std::move(answer));
  }
  return json_response(preupload_body(answers));
}

HttpResponse commit(HubContext& hub, const RepoExchange& exchange) {
  require_writable(hub, exchange.exchange, exchange.repo);
  const auto& query = exchange.exchange.target.query;
  if (const auto create_pr = query.find("create_pr");
      create_pr != query.end() && create_pr->second != "0") {
    throw server_errors::bad_request("pull requests are not served here: commit to a branch");
  }
  const std::string branch = exchange.joined();
  hub.repos.resolve(exchange.repo, branch);  // before a long body is taken
  CommitStream stream(hub.objects);
  exchange.exchange.request.stream_body([&](std::string_view bytes) { stream.feed(bytes); });
  CommitRequest request = stream.finish();
  request.author = exchange.exchange.caller.token->name;
  const CommitHash made = hub.repos.commit_changes(exchange.repo, branch, request);
  return json_response(commit_body(made, hub.repo_url(exchange.repo) + "/commit/" + made.str()));
}

}  // namespace kernelhub::server
