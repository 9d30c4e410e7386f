// SPDX-License-Identifier: Apache-2.0
#include "exit_code.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kernelhub::cli {
namespace {

// Codes that are not named here are kFailure; preflight codes (400 to 449) are kIntegrity.
constexpr std::pair<ErrorCode, int> kTable[] = {
    {ErrorCode::kInvalidArgument, kUsage},
    {ErrorCode::kInvalidRepoId, kUsage},
    {ErrorCode::kInvalidRevision, kUsage},
    {ErrorCode::kInvalidConfig, kUsage},
    {ErrorCode::kInvalidBackend, kUsage},
    {ErrorCode::kUnsafePath, kIntegrity},
    {ErrorCode::kDiskFull, kDisk},
    {ErrorCode::kReadOnly, kDisk},
    {ErrorCode::kIo, kDisk},
    {ErrorCode::kLockTimeout, kDisk},
    {ErrorCode::kNotLocked, kNotFound},
    {ErrorCode::kRepoNotFound, kNotFound},
    {ErrorCode::kRevisionNotFound, kNotFound},
    {ErrorCode::kVersionNotFound, kNotFound},
    {ErrorCode::kEntryNotFound, kNotFound},
    {ErrorCode::kNoKernelBuilds, kNotFound},
    {ErrorCode::kNoCompatibleVariant, kNotFound},
    {ErrorCode::kGatedRepo, kDenied},
    {ErrorCode::kRepoDisabled, kDenied},
    {ErrorCode::kAuthRequired, kDenied},
    {ErrorCode::kAuthInvalid, kDenied},
    {ErrorCode::kForbidden, kDenied},
    {ErrorCode::kTrustDenied, kDenied},
    {ErrorCode::kPublisherUnverifiable, kDenied},
    {ErrorCode::kSignatureMissing, kDenied},
    {ErrorCode::kUnsafeOwnership, kDenied},
    {ErrorCode::kPolicyInvalid, kDenied},
    {ErrorCode::kAuditFailed, kDenied},
    {ErrorCode::kRateLimited, kNetwork},
    {ErrorCode::kServerError, kNetwork},
    {ErrorCode::kNetwork, kNetwork},
    {ErrorCode::kDnsFailure, kNetwork},
    {ErrorCode::kProxyFailure, kNetwork},
    {ErrorCode::kTlsFailure, kNetwork},
    {ErrorCode::kTimeout, kNetwork},
    {ErrorCode::kRedirectRefused, kNetwork},
    {ErrorCode::kNotAHub, kNetwork},
    {ErrorCode::kIntegrity, kIntegrity},
    {ErrorCode::kUnsafeListing, kIntegrity},
    {ErrorCode::kSignatureInvalid, kIntegrity},
    {ErrorCode::kDigestMismatch, kIntegrity},
    {ErrorCode::kUnknownFile, kIntegrity},
    {ErrorCode::kMissingFile, kIntegrity},
    {ErrorCode::kBindingMismatch, kIntegrity},
    {ErrorCode::kDigestMissing, kIntegrity},
    {ErrorCode::kOfflineMiss, kOfflineMiss},
    {ErrorCode::kCacheCorrupt, kDisk},
    {ErrorCode::kCacheReadOnly, kDisk},
};

}  // namespace

int exit_code_of(ErrorCode code) noexcept {
  const auto* row = std::find_if(std::begin(kTable), std::end(kTable),
                                 [code](const auto& entry) { return entry.first == code; });
  if (row != std::end(kTable)) return row->second;
  const bool refused_by_loader =
      code >= ErrorCode::kNotElf && code < ErrorCode::kNoCompatibleVariant;
  return refused_by_loader ? kIntegrity : kFailure;
}

}  // namespace kernelhub::cli
