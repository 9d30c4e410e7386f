// SPDX-License-Identifier: Apache-2.0
#include "hub_context.h"

#include "server_errors.h"

#include <filesystem>
#include <sys/stat.h>
#include <utility>

namespace kernelhub::server {
namespace {

std::filesystem::path make_store_folder(const std::filesystem::path& store) {
  if (!std::filesystem::exists(store)) {
    std::filesystem::create_directories(store);
    ::chmod(store.c_str(), 0700);
  }
  return store;
}

}  // namespace

HubContext::HubContext(ServerOptions server_options, RepoStore::Clock clock)
    : options(std::move(server_options)),
      objects(make_store_folder(options.store)),
      repos(options.store, objects, std::move(clock)),
      tokens(options.store) {}

std::string HubContext::repo_url(const RepoKey& repo) const {
  return url + "/" + std::string(names_of(repo.type).url_prefix) + repo.id.str();
}

RepoInfo require_readable(const HubContext& hub, const Exchange& exchange, const RepoKey& repo) {
  const auto info = hub.repos.info(repo);
  if (!info || (info->is_private && !exchange.caller.reaches(repo.id.ns()))) {
    throw server_errors::repo_not_found(repo, exchange.caller.is_anonymous());
  }
  return *info;
}

void require_writable(const HubContext& hub, const Exchange& exchange, const RepoKey& repo) {
  require_readable(hub, exchange, repo);
  exchange.caller.require_write(repo.id.ns(), "a write");
}

}  // namespace kernelhub::server
