// SPDX-License-Identifier: Apache-2.0
#include "trust_errors.h"

#include "kernelhub/core/error.h"
#include "kernelhub/core/log.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/trust/verifier.h"

#include <fmt/format.h>

namespace kernelhub::trust {
namespace {

/// Backend that the name of a variant stands for; nothing for "universal" and foreign names.
std::optional<BackendKind> backend_of(const Variant& variant) {
  if (variant.backend()) return variant.backend()->kind;
  const auto* noarch = std::get_if<NoarchFramework>(&variant.framework());
  if (noarch == nullptr) return std::nullopt;
  return noarch->name == "npu" ? BackendKind::kCann : parse_backend_name(noarch->name);
}

void check_backend(const Metadata& metadata, const Origin& origin) {
  const auto variant = Variant::parse(origin.variant);
  const auto wanted = variant ? backend_of(*variant) : std::nullopt;
  if (wanted && *wanted != metadata.backend) {
    throw trust_errors::binding_mismatch(origin, "backend.type", backend_name(*wanted),
                                         backend_name(metadata.backend));
  }
}

}  // namespace

Metadata parse_bound_metadata(std::string_view bytes, const Origin& origin) {
  const std::string name =
      fmt::format("{} {}/metadata.json",
                  origin.repo ? origin.repo->str() : origin.directory.string(), origin.variant);
  Metadata metadata = Metadata::parse(bytes, name);
  check_backend(metadata, origin);
  if (!origin.repo) return metadata;
  if (!origin.repo->may_hold(metadata.name)) {
    throw trust_errors::binding_mismatch(origin, "name", origin.repo->name(), metadata.name);
  }
  if (origin.requested && origin.requested->version &&
      *origin.requested->version != metadata.version) {
    throw trust_errors::binding_mismatch(origin, "version",
                                         std::to_string(*origin.requested->version),
                                         std::to_string(metadata.version));
  }
  if (!metadata.kernelhub) return metadata;
  const KernelhubMetadata& ours = *metadata.kernelhub;
  if (!ours.repo_id.empty() && ours.repo_id != origin.repo->str()) {
    throw trust_errors::binding_mismatch(origin, "kernelhub.repo-id", origin.repo->str(),
                                         ours.repo_id);
  }
  if (!ours.variant.empty() && ours.variant != origin.variant) {
    throw trust_errors::binding_mismatch(origin, "kernelhub.variant", origin.variant, ours.variant);
  }
  return metadata;
}

}  // namespace kernelhub::trust
