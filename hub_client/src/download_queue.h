// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "blob_download.h"

#include "kernelhub/core/progress.h"

#include <string>
#include <vector>

namespace kernelhub::hub {

/// Fetches all jobs, largest first, at most Config::max_workers at a time, and returns when every
/// one is verified and in place. The first failure stops the others and is thrown; finished blobs
/// and resumable temps stay. `what` names the work to `progress`, which may be null.
void run_downloads(HubSession& session, const CacheLayout& cache, std::vector<BlobJob> jobs,
                   const std::string& what, ProgressObserver* progress);

}  // namespace kernelhub::hub
