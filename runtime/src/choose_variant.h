// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trust_evidence.h"

#include "kernelhub/hub/client.h"
#include "kernelhub/trust/verifier.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kernelhub {

/// A variant that was chosen, allowed and found to fit, with its files not yet on disk.
struct ChosenVariant {
  VariantChoice choice;
  trust::Origin origin;
  trust::Decision decision;
  Metadata metadata;
  std::vector<hub::TreeFile> files;
  PinnedKernel pinned;
  std::string lock_digest;
  std::shared_ptr<hub::Client> client;
};

/// "repo@commit", or the directory of a local package.
std::string source_name(const trust::Origin& origin);
/// Steps 3-8 of the pipeline: commit, pre-decision, variant, metadata, final decision. No file but
/// metadata.json is fetched. `variant`: this one, whether it fits the process or not.
ChosenVariant choose_from_hub(const Request& request, TrustContext& trust,
                              const std::optional<std::string>& variant = std::nullopt);

}  // namespace kernelhub
