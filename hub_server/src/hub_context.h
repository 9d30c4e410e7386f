// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "auth.h"
#include "http_message.h"
#include "repo_store.h"
#include "request_target.h"
#include "upload_slots.h"

#include "kernelhub/server/hub_server.h"
#include "kernelhub/server/object_store.h"

#include <string>

namespace kernelhub::server {

/// What all routes share.
struct HubContext {
  ServerOptions options;
  std::string origin;  // "http://127.0.0.1:34567"
  std::string url;     // origin and base path
  ObjectStore objects;
  RepoStore repos;
  TokenStore tokens;
  UploadSlots slots;

  HubContext(ServerOptions server_options, RepoStore::Clock clock);
  /// "https://.../kernels/org/name".
  std::string repo_url(const RepoKey& repo) const;
};

/// One request with what the router found out about it.
struct Exchange {
  const HttpRequest& request;
  RequestTarget target;
  Caller caller;
};

/// Facts of a repository the caller may read. Throws kRepoNotFound.
RepoInfo require_readable(const HubContext& hub, const Exchange& exchange, const RepoKey& repo);
/// Throws kRepoNotFound, kAuthRequired, kForbidden.
void require_writable(const HubContext& hub, const Exchange& exchange, const RepoKey& repo);

}  // namespace kernelhub::server
