// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/trust/verifier.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

/// Every error text of trust, made from facts.
namespace kernelhub::trust::trust_errors {

/// `line` 0: the whole file.
TrustError policy_invalid(const std::filesystem::path& file, std::uint32_t line,
                          std::string_view reason, std::string_view hint);
TrustError policy_variable(std::string_view variable, std::string_view found,
                           std::string_view expected);
TrustError denied(const Origin& origin, const Decision& decision);
TrustError binding_mismatch(const Origin& origin, std::string_view field, std::string_view wanted,
                            std::string_view found);
/// `path` is empty when the variant as a whole differs.
TrustError digest_mismatch(const Origin& origin, std::string_view path, std::string_view wanted,
                           std::string_view found);
TrustError unknown_file(const Origin& origin, std::string_view path, std::string_view reason);
TrustError missing_file(const Origin& origin, std::string_view path);
TrustError unsafe_path(const Origin& origin, std::string_view path, std::string_view reason);
TrustError unsafe_ownership(const Origin& origin, const std::filesystem::path& path, unsigned owner,
                            unsigned mode, std::string_view reason);
TrustError digest_missing(const Origin& origin, std::string_view reason);
TrustError audit_failed(const std::filesystem::path& path, std::string_view reason);

}  // namespace kernelhub::trust::trust_errors
