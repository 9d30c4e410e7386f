// SPDX-License-Identifier: Apache-2.0
#include "byte_range.h"
#include "git_ids.h"
#include "reply_json.h"
#include "request_json.h"
#include "routes.h"
#include "server_errors.h"
#include "tree_listing.h"

#include "kernelhub/core/safe_path.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace kernelhub::server {
namespace {

constexpr std::size_t kPageEntries = 1000;
constexpr std::size_t kMaxPaths = 1000;

// A path inside a commit; a trailing '/' is what some clients add to folders.
std::string entry_path(std::string text) {
  while (!text.empty() && text.back() == '/') text.pop_back();
  return text.empty() ? text : SafeRelPath::parse(text, "URL").str();
}

std::size_t page_limit(const RequestTarget& target) {
  const auto given = target.query.find("limit");
  if (given == target.query.end()) return kPageEntries;
  std::size_t limit = 0;
  const std::string& text = given->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error != std::errc() || end != text.data() + text.size() || limit == 0) {
    throw server_errors::bad_request("limit is not a positive number");
  }
  return std::min(limit, kPageEntries);
}

std::string query_value(const RequestTarget& target, const std::string& name) {
  const auto found = target.query.find(name);
  return found == target.query.end() ? "" : found->second;
}

std::string next_link(const HubContext& hub, const RequestTarget& target,
                      const std::string& last_path) {
  std::string link = hub.url;
  for (const std::string& segment : target.segments) link += "/" + encode_component(segment);
  link += "?cursor=" + encode_component(last_path);
  for (const auto& [name, value] : target.query) {
    if (name != "cursor") link += "&" + encode_component(name) + "=" + encode_component(value);
  }
  return "<" + link + ">; rel=\"next\"";
}

std::string check_namespace(const std::string& name) {
  // Same rules as half a repository id, so the parser of those decides.
  return RepoId::parse(name + "/x").str().substr(0, name.size());
}

// Download name: the file name where it is plain ASCII, so that nothing can be injected.
std::string disposition(const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1);
  for (char& c : name) {
    const bool is_plain = c > 0x20 && c < 0x7f && c != '"' && c != '\\' && c != ';';
    if (!is_plain) c = '_';
  }
  return "attachment; filename=\"" + name + "\";";
}

bool has_etag(const std::string& header, const std::string& etag) {
  return header == "*" || header.find(etag) != std::string::npos;
}

}  // namespace

std::string RepoExchange::joined(std::size_t first) const {
  std::string text;
  for (std::size_t i = first; i < rest.size(); ++i) text += (i > first ? "/" : "") + rest[i];
  return text;
}

HttpResponse health(HubContext&, const Exchange&) { return json_response(health_body()); }

HttpResponse agent_harnesses(HubContext&, const Exchange&) {
  return json_response(harnesses_body());
}

HttpResponse whoami(HubContext&, const Exchange& exchange) {
  if (exchange.caller.is_anonymous()) throw server_errors::token_required("whoami");
  return json_response(whoami_body(*exchange.caller.token));
}

HttpResponse organization_overview(HubContext& hub, const Exchange& exchange) {
  const std::string name = check_namespace(exchange.target.segments[2]);
  const auto& trusted = hub.options.trust_orgs;
  const bool is_trusted = std::count(trusted.begin(), trusted.end(), name) != 0;
  if (!is_trusted && (hub.tokens.is_user(name) || !hub.repos.has_namespace(name))) {
    throw server_errors::namespace_not_found(name);
  }
  return json_response(organization_body(name, is_trusted));
}

HttpResponse user_overview(HubContext& hub, const Exchange& exchange) {
  const std::string name = check_namespace(exchange.target.segments[2]);
  if (!hub.tokens.is_user(name)) throw server_errors::namespace_not_found(name);
  return json_response(user_body(name));
}

HttpResponse repo_info(HubContext& hub, const RepoExchange& exchange) {
  const RepoInfo info = require_readable(hub, exchange.exchange, exchange.repo);
  const std::string revision = exchange.rest.empty() ? "main" : exchange.joined();
  const CommitHash commit = hub.repos.resolve(exchange.repo, revision);
  return json_response(repo_info_body(exchange.repo, info, hub.repos.commit(exchange.repo, commit),
                                      *hub.repos.tree(exchange.repo, commit)));
}

HttpResponse refs(HubContext& hub, const RepoExchange& exchange) {
  require_readable(hub, exchange.exchange, exchange.repo);
  const std::string with_prs = query_value(exchange.exchange.target, "include_prs");
  return json_response(refs_body(hub.repos.branches(exchange.repo), !with_prs.empty()));
}

HttpResponse tree(HubContext& hub, const RepoExchange& exchange) {
  require_readable(hub, exchange.exchange, exchange.repo);
  const RequestTarget& target = exchange.exchange.target;
  const CommitHash commit =
      hub.repos.resolve(exchange.repo, exchange.rest.empty() ? "main" : exchange.rest[0]);
  const std::string folder = entry_path(exchange.joined(1));
  const std::string recursive = query_value(target, "recursive");
  const auto stored = hub.repos.tree(exchange.repo, commit);
  const auto page =
      list_folder(*stored, folder, recursive == "true" || recursive == "True" || recursive == "1",
                  query_value(target, "cursor"), page_limit(target));
  if (!page) throw server_errors::entry_not_found(exchange.repo, commit, folder);
  HttpResponse response = json_response(entries_body(page->entries));
  if (page->has_more) {
    response.headers.emplace_back("Link", next_link(hub, target, page->entries.back().path));
  }
  return response;
}

HttpResponse paths_info(HubContext& hub, const RepoExchange& exchange) {
  require_readable(hub, exchange.exchange, exchange.repo);
  const HttpRequest& request = exchange.exchange.request;
  const std::string body = read_body(request);
  std::vector<std::string> paths;
  if (request.header("Content-Type").find("json") != std::string::npos) {
    paths = parse_paths(body);
  } else {
    for (auto& [name, value] : decode_form(body)) {
      if (name == "paths") paths.push_back(std::move(value));
    }
  }
  if (paths.size() > kMaxPaths) {
    throw server_errors::too_many_items("paths", paths.size(), kMaxPaths);
  }
  const CommitHash commit = hub.repos.resolve(exchange.repo, exchange.joined());
  const auto stored = hub.repos.tree(exchange.repo, commit);
  std::vector<ListedEntry> entries;
  for (const std::string& path : paths) {
    if (auto entry = find_entry(*stored, path)) entries.push_back(std::move(*entry));
  }
  return json_response(entries_body(entries));
}

HttpResponse auth_check(HubContext& hub, const RepoExchange& exchange) {
  if (exchange.rest.empty()) {
    require_readable(hub, exchange.exchange, exchange.repo);
  } else if (exchange.rest == std::vector<std::string>{"write"}) {
    require_writable(hub, exchange.exchange, exchange.repo);
  } else {
    throw server_errors::unknown_route(exchange.exchange.target.path);
  }
  return json_response("{}");
}

HttpResponse resolve(HubContext& hub, const RepoExchange& exchange) {
  require_readable(hub, exchange.exchange, exchange.repo);
  if (exchange.rest.size() < 2) throw server_errors::unknown_route(exchange.exchange.target.path);
  for (std::size_t i = 1; i < exchange.rest.size(); ++i) {
    if (exchange.rest[i].find('/') != std::string::npos) {
      throw server_errors::bad_request("encoded '/' in the path of a file");
    }
  }
  const CommitHash commit = hub.repos.resolve(exchange.repo, exchange.rest[0]);
  const std::string path = SafeRelPath::parse(exchange.joined(1), "URL").str();
  const auto stored = hub.repos.tree(exchange.repo, commit);
  const auto found = stored->files.find(path);
  if (found == stored->files.end()) {
    throw server_errors::entry_not_found(exchange.repo, commit, path);
  }
  const TreeFile& file = found->second;
  const std::string etag = "\"" + (file.is_lfs ? file.sha256 : file.git_blob).hex() + "\"";
  HttpResponse response;
  response.content_type = "application/octet-stream";
  response.headers = {{"X-Repo-Commit", commit.str()},
                      {"ETag", etag},
                      {"Accept-Ranges", "bytes"},
                      {"Content-Disposition", disposition(path)}};
  const HttpRequest& request = exchange.exchange.request;
  if (has_etag(request.header("If-None-Match"), etag)) {
    response.status = 304;
    return response;
  }
  const std::string& if_range = request.header("If-Range");
  std::optional<ByteRange> range;
  if (if_range.empty() || if_range == etag) {
    range = parse_byte_range(request.header("Range"), file.size_bytes);
  }
  if (range && range->size_bytes == 0) {
    response.status = 416;
    response.headers.emplace_back("Content-Range", fmt::format("bytes */{}", file.size_bytes));
    response.headers.emplace_back("X-Error-Code", "RangeNotSatisfiable");
    return response;
  }
  if (range) {
    response.status = 206;
    response.headers.emplace_back(
        "Content-Range", fmt::format("bytes {}-{}/{}", range->first,
                                     range->first + range->size_bytes - 1, file.size_bytes));
  }
  const ByteRange sent = range.value_or(ByteRange{0, file.size_bytes});
  response.file = FileBody{hub.objects.open(file.sha256), sent.first, sent.size_bytes};
  return response;
}

}  // namespace kernelhub::server
