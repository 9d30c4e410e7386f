// SPDX-License-Identifier: Apache-2.0
#include "trust_errors.h"

#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>

namespace kernelhub::trust::trust_errors {
namespace {

using core_errors::facts_json;
using core_errors::printable;

/// repo@commit, variant and endpoint, or the directory of a local package.
std::string name_of(const Origin& origin) {
  if (!origin.repo) return printable(origin.directory.string(), 1024);
  std::string name = origin.repo->str();
  if (origin.commit) name += "@" + origin.commit->str();
  if (!origin.variant.empty()) name += ", variant " + printable(origin.variant);
  if (!origin.endpoint.empty()) name += ", from " + printable(origin.endpoint);
  return name;
}

constexpr std::string_view kFetchAgain =
    "remove the variant from the cache and load again; if it stays, tell the publisher";
constexpr std::string_view kLocalFix =
    "build the variant again, or bring its digest up to date with 'kernelhub hash'";

std::string content_hint(const Origin& origin) {
  return std::string(origin.repo ? kFetchAgain : kLocalFix);
}

}  // namespace

TrustError policy_invalid(const std::filesystem::path& file, std::uint32_t line,
                          std::string_view reason, std::string_view hint) {
  const std::string place = line == 0 ? file.string() : fmt::format("{}:{}", file.string(), line);
  return TrustError(ErrorCode::kPolicyInvalid,
                    fmt::format("trust policy {}: {}", printable(place, 1024), printable(reason)),
                    std::string(hint),
                    facts_json({{"file", file.string()},
                                {"line", std::to_string(line)},
                                {"reason", std::string(reason)}}));
}

TrustError policy_variable(std::string_view variable, std::string_view found,
                           std::string_view expected) {
  return TrustError(
      ErrorCode::kPolicyInvalid,
      fmt::format("{}: expected {}, found '{}'", variable, expected, printable(found)),
      fmt::format("correct or unset {}", variable),
      facts_json({{"variable", std::string(variable)}, {"found", std::string(found)}}));
}

TrustError denied(const Origin& origin, const Decision& decision) {
  return TrustError(ErrorCode::kTrustDenied,
                    fmt::format("refused {}: {}", name_of(origin), decision.reason),
                    decision.remedy, facts_json({{"reason", decision.reason}}));
}

TrustError binding_mismatch(const Origin& origin, std::string_view field, std::string_view wanted,
                            std::string_view found) {
  return TrustError(ErrorCode::kBindingMismatch,
                    fmt::format("refused {}: metadata.json belongs to another package: {} is '{}', "
                                "expected '{}'",
                                name_of(origin), field, printable(found), printable(wanted)),
                    "ask for the repository and version that this package was built for",
                    facts_json({{"field", std::string(field)},
                                {"expected", std::string(wanted)},
                                {"found", std::string(found)}}));
}

TrustError digest_mismatch(const Origin& origin, std::string_view path, std::string_view wanted,
                           std::string_view found) {
  const std::string what = path.empty() ? "the files" : printable(path, 1024);
  return TrustError(ErrorCode::kDigestMismatch,
                    fmt::format("refused {}: {} changed: expected {}, found {}", name_of(origin),
                                what, wanted, found),
                    content_hint(origin),
                    facts_json({{"path", std::string(path)},
                                {"expected", std::string(wanted)},
                                {"found", std::string(found)}}));
}

TrustError unknown_file(const Origin& origin, std::string_view path, std::string_view reason) {
  return TrustError(
      ErrorCode::kUnknownFile,
      fmt::format("refused {}: {} does not belong to the package: {}", name_of(origin),
                  printable(path, 1024), reason),
      fmt::format("remove {} from {}", printable(path, 1024), origin.directory.string()),
      facts_json({{"path", std::string(path)}, {"reason", std::string(reason)}}));
}

TrustError missing_file(const Origin& origin, std::string_view path) {
  return TrustError(
      ErrorCode::kMissingFile,
      fmt::format("refused {}: {} is missing", name_of(origin), printable(path, 1024)),
      content_hint(origin), facts_json({{"path", std::string(path)}}));
}

TrustError unsafe_path(const Origin& origin, std::string_view path, std::string_view reason) {
  return TrustError(
      ErrorCode::kUnsafePath,
      fmt::format("refused {}: path '{}': {}", name_of(origin), printable(path, 1024), reason),
      fmt::format("remove it from {}", origin.directory.string()),
      facts_json({{"path", std::string(path)}, {"reason", std::string(reason)}}));
}

TrustError unsafe_ownership(const Origin& origin, const std::filesystem::path& path, unsigned owner,
                            unsigned mode, std::string_view reason) {
  return TrustError(ErrorCode::kUnsafeOwnership,
                    fmt::format("refused {}: {} {} (owner uid {}, mode {:04o})", name_of(origin),
                                printable(path.string(), 1024), reason, owner, mode & 07777),
                    fmt::format("run 'chmod go-w {}', or keep the cache in a directory of your own",
                                path.string()),
                    facts_json({{"path", path.string()},
                                {"uid", std::to_string(owner)},
                                {"mode", fmt::format("{:04o}", mode & 07777)}}));
}

TrustError digest_missing(const Origin& origin, std::string_view reason) {
  return TrustError(ErrorCode::kDigestMissing,
                    fmt::format("refused {}: {}", name_of(origin), reason),
                    "ask the publisher to rebuild the package with a digest in metadata.json",
                    facts_json({{"reason", std::string(reason)}}));
}

TrustError audit_failed(const std::filesystem::path& path, std::string_view reason) {
  return TrustError(
      ErrorCode::kAuditFailed,
      fmt::format("the audit log {} cannot be written: {}", printable(path.string(), 1024), reason),
      "make the file writable or name another one with 'audit' in the policy",
      facts_json({{"path", path.string()}, {"reason", std::string(reason)}}));
}

}  // namespace kernelhub::trust::trust_errors
