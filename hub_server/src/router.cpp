// SPDX-License-Identifier: Apache-2.0
#include "router.h"

#include "error_reply.h"
#include "routes.h"
#include "server_errors.h"

#include "kernelhub/core/log.h"

#include <algorithm>
#include <exception>
#include <optional>

namespace kernelhub::server {
namespace {

using Segments = std::vector<std::string>;

struct HubRoute {
  std::string_view method;
  std::vector<std::string_view> path;  // "*" matches any one segment
  HttpResponse (*run)(HubContext&, const Exchange&);
};

struct RepoRoute {
  std::string_view method;
  std::string_view verb;  // segment behind the repository id
  HttpResponse (*run)(HubContext&, const RepoExchange&);
};

const std::vector<HubRoute>& hub_routes() {
  static const std::vector<HubRoute> routes = {
      {"GET", {"healthz"}, health},
      {"GET", {"api", "agent-harnesses"}, agent_harnesses},
      {"GET", {"api", "whoami-v2"}, whoami},
      {"GET", {"api", "organizations", "*", "overview"}, organization_overview},
      {"GET", {"api", "users", "*", "overview"}, user_overview},
      {"POST", {"api", "repos", "create"}, create_repo},
      {"POST", {"api", "validate-yaml"}, validate_yaml},
      {"PUT", {"api", "lfs", "upload", "*"}, lfs_put},
      {"POST", {"api", "lfs", "verify"}, lfs_verify},
  };
  return routes;
}

constexpr RepoRoute kApiRoutes[] = {
    {"GET", "", repo_info},
    {"GET", "revision", repo_info},
    {"GET", "refs", refs},
    {"GET", "tree", tree},
    {"POST", "paths-info", paths_info},
    {"GET", "auth-check", auth_check},
    {"POST", "branch", create_branch},
    {"DELETE", "branch", delete_branch},
    {"POST", "preupload", preupload},
    {"POST", "commit", commit},
};
constexpr RepoRoute kPageRoutes[] = {
    {"GET", "resolve", resolve},
    {"POST", "info/lfs/objects/batch", lfs_batch},
};

// HEAD is answered like GET; the listener leaves the body out.
std::string_view routed_method(const HttpRequest& request) {
  return request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
}

template <class Routes>
HttpResponse run_repo_route(HubContext& hub, const Routes& routes, std::string_view verb,
                            const RepoExchange& exchange) {
  const HttpRequest& request = exchange.exchange.request;
  bool is_verb = false;
  for (const RepoRoute& route : routes) {
    if (route.verb != verb) continue;
    is_verb = true;
    if (route.method == routed_method(request)) return route.run(hub, exchange);
  }
  const std::string& path = exchange.exchange.target.path;
  if (is_verb) throw server_errors::method_not_allowed(request.method, path);
  throw server_errors::unknown_route(path);
}

bool matches(const std::vector<std::string_view>& pattern, const Segments& segments) {
  return std::equal(pattern.begin(), pattern.end(), segments.begin(), segments.end(),
                    [](std::string_view p, const std::string& s) { return p == "*" || p == s; });
}

}  // namespace

HttpResponse Router::answer(const HttpRequest& request, RequestRecord& record) const {
  try {
    Caller caller = hub_->tokens.identify(request.header("Authorization"), request.remote_address);
    if (caller.token) record.user = caller.token->name;
    const Exchange exchange{request, RequestTarget::parse(request.target, hub_->options.base_path),
                            std::move(caller)};
    return dispatch(exchange);
  } catch (const Error& error) {
    HttpResponse response = error_response(error);
    if (response.status >= 500) log(LogLevel::kError, error.what());
    return response;
  } catch (const std::exception& error) {
    // A thread body: an unforeseen failure costs one answer, not the server.
    log(LogLevel::kError, error.what());
    return error_response(Error(ErrorCode::kIo, error.what()));
  }
}

HttpResponse Router::dispatch(const Exchange& exchange) const {
  const Segments& segments = exchange.target.segments;
  bool is_path = false;
  for (const HubRoute& route : hub_routes()) {
    if (!matches(route.path, segments)) continue;
    is_path = true;
    if (route.method == routed_method(exchange.request)) return route.run(*hub_, exchange);
  }
  if (is_path) {
    throw server_errors::method_not_allowed(exchange.request.method, exchange.target.path);
  }
  if (!segments.empty() && segments[0] == "api") return dispatch_api(exchange);
  return dispatch_page(exchange);
}

HttpResponse Router::dispatch_api(const Exchange& exchange) const {
  const Segments& segments = exchange.target.segments;
  for (const RepoTypeNames& names : kRepoTypes) {
    if (segments.size() < 4 || segments[1] != names.api_segment) continue;
    const std::string verb = segments.size() > 4 ? segments[4] : "";
    const std::size_t behind = std::min<std::size_t>(5, segments.size());
    const RepoExchange repo_exchange{
        exchange,
        {names.type, RepoId::parse(segments[2] + "/" + segments[3])},
        Segments(segments.begin() + static_cast<std::ptrdiff_t>(behind), segments.end())};
    return run_repo_route(*hub_, kApiRoutes, verb, repo_exchange);
  }
  throw server_errors::unknown_route(exchange.target.path);
}

HttpResponse Router::dispatch_page(const Exchange& exchange) const {
  const Segments& segments = exchange.target.segments;
  RepoType type = RepoType::kModel;
  std::size_t at = 0;
  for (const RepoTypeNames& names : kRepoTypes) {
    if (!segments.empty() && !names.url_prefix.empty() && segments[0] == names.api_segment) {
      type = names.type;
      at = 1;
    }
  }
  if (segments.size() < at + 3) throw server_errors::unknown_route(exchange.target.path);
  std::string name = segments[at + 1];
  constexpr std::string_view kGit = ".git";
  const auto behind = segments.begin() + static_cast<std::ptrdiff_t>(at) + 2;
  if (name.size() > kGit.size() &&
      name.compare(name.size() - kGit.size(), kGit.size(), kGit) == 0) {
    name.resize(name.size() - kGit.size());
    const RepoExchange repo_exchange{
        exchange, {type, RepoId::parse(segments[at] + "/" + name)}, {}};
    return run_repo_route(*hub_, kPageRoutes, exchange.target.rest(at + 2), repo_exchange);
  }
  const RepoExchange repo_exchange{exchange,
                                   {type, RepoId::parse(segments[at] + "/" + name)},
                                   Segments(behind + 1, segments.end())};
  return run_repo_route(*hub_, kPageRoutes, *behind, repo_exchange);
}

}  // namespace kernelhub::server
