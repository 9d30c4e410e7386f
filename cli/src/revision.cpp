// SPDX-License-Identifier: Apache-2.0
#include "revision.h"

namespace kernelhub::cli {

KernelSpec spec_of(const RevisionArgs& at, hub::Client& client, const RepoId& repo) {
  if (at.version) return KernelSpec::of_version(*at.version);
  if (at.revision) return KernelSpec::of_revision(*at.revision);
  const std::vector<std::int64_t> versions = client.list_versions(repo);
  return versions.empty() ? KernelSpec::of_revision("main")
                          : KernelSpec::of_version(versions.back());
}

}  // namespace kernelhub::cli
