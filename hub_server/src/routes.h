// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "hub_context.h"

/// One function per route of hub spec 2 and 3; numbers are the spec's. All throw Error, which the
/// router turns into an answer.
namespace kernelhub::server {

// Routes of the whole hub.
HttpResponse whoami(HubContext& hub, const Exchange& exchange);                 // R7
HttpResponse organization_overview(HubContext& hub, const Exchange& exchange);  // R8
HttpResponse user_overview(HubContext& hub, const Exchange& exchange);          // R9
HttpResponse agent_harnesses(HubContext& hub, const Exchange& exchange);        // R11
HttpResponse health(HubContext& hub, const Exchange& exchange);
HttpResponse create_repo(HubContext& hub, const Exchange& exchange);    // W1
HttpResponse validate_yaml(HubContext& hub, const Exchange& exchange);  // W11
HttpResponse lfs_put(HubContext& hub, const Exchange& exchange);        // W7
HttpResponse lfs_verify(HubContext& hub, const Exchange& exchange);     // W8

/// A request to one repository: `verb` is what follows its id, `rest` all behind that.
struct RepoExchange {
  const Exchange& exchange;
  RepoKey repo;
  std::vector<std::string> rest;

  /// `rest` from `first` on joined with '/'.
  std::string joined(std::size_t first = 0) const;
};
HttpResponse repo_info(HubContext& hub, const RepoExchange& exchange);      // R1
HttpResponse refs(HubContext& hub, const RepoExchange& exchange);           // R2
HttpResponse tree(HubContext& hub, const RepoExchange& exchange);           // R3
HttpResponse paths_info(HubContext& hub, const RepoExchange& exchange);     // R4
HttpResponse resolve(HubContext& hub, const RepoExchange& exchange);        // R5
HttpResponse auth_check(HubContext& hub, const RepoExchange& exchange);     // R12
HttpResponse create_branch(HubContext& hub, const RepoExchange& exchange);  // W3
HttpResponse delete_branch(HubContext& hub, const RepoExchange& exchange);  // W3
HttpResponse preupload(HubContext& hub, const RepoExchange& exchange);      // W5
HttpResponse lfs_batch(HubContext& hub, const RepoExchange& exchange);      // W6
HttpResponse commit(HubContext& hub, const RepoExchange& exchange);         // W9

}  // namespace kernelhub::server
