// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache_layout.h"
#include "hub_json.h"
#include "hub_session.h"
#include "listing_store.h"

#include "kernelhub/hub/client.h"

namespace kernelhub::hub {

struct ClientState {
  ClientState(const Config& config, std::shared_ptr<HttpTransport> transport)
      : session(config, std::move(transport)), cache(config.cache_dir), listings(cache) {}
  /// One page-wise listing from the hub.
  Tree fetch_tree(const RepoId& repo, const std::string& revision, std::string_view path,
                  Urls::Depth depth);
  Refs fetch_refs(const RepoId& repo, HubCall::Attempts attempts);
  CommitHash fetch_revision(const RepoId& repo, const std::string& revision,
                            HubCall::Attempts attempts);

  HubSession session;
  CacheLayout cache;
  ListingStore listings;
};

}  // namespace kernelhub::hub
