// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands.h"

#include "kernelhub/core/repo.h"
#include "kernelhub/hub/client.h"

namespace kernelhub::cli {

/// What `--version` and `--revision` mean for a repository; neither: its newest version, else
/// `main`.
KernelSpec spec_of(const RevisionArgs& at, hub::Client& client, const RepoId& repo);

}  // namespace kernelhub::cli
