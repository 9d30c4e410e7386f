// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "client_state.h"

#include <string_view>
#include <vector>

namespace kernelhub::hub {

/// Client::resolve: a commit as it is, else the hub's refs, else the cached ref when offline or
/// the hub cannot answer (hub spec 5.4).
ResolvedKernel resolve_kernel(ClientState& state, const RepoId& repo, const KernelSpec& spec);
/// N of all branches v<N>, ascending.
std::vector<std::int64_t> versions_of(const std::vector<Branch>& branches);
/// Why a listing cannot be had offline: kCacheCorrupt when its sidecar is damaged, else
/// kOfflineMiss.
HubError missing_listing(ClientState& state, const RepoId& repo, const CommitHash& commit,
                         std::string_view path);

}  // namespace kernelhub::hub
