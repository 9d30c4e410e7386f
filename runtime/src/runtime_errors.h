// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/core/repo.h"
#include "kernelhub/core/system_info.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/trust/policy.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

/// All texts of errors that the pipeline itself raises.
namespace kernelhub::runtime_errors {

Error no_compatible_variant(const std::string& source, const std::vector<VariantDecision>& trace,
                            const SystemInfo& system, const Backend& backend,
                            std::optional<std::int64_t> version_that_fits);
Error no_variants_at(const std::filesystem::path& path);
Error invalid_backend(const std::string& asked, const Backend& detected);
Error arch_mismatch(const std::string& source, const Metadata& metadata, MajorMinor device);
Error client_too_old(const std::string& source, const std::string& needed);
Error dependency_unsupported(const std::string& source, const Metadata& metadata);
Error not_locked(const RepoId& repo, const std::filesystem::path& lockfile);
TrustError denied(const trust::Candidate& candidate, const trust::Decision& decision);

}  // namespace kernelhub::runtime_errors
