// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

/// Every failure of the project is one exception type with a stable code.
///
///   try { auto kernel = kernelhub::get_kernel("org/name", {.version = 1}); }
///   catch (const kernelhub::Error& error) {
///     if (error.code() == kernelhub::ErrorCode::kVersionNotFound) { ... }
///   }
namespace kernelhub {

/// Append-only; a value is never reused. Ranges: core 100, hub 200, trust 300, loader 400,
/// runtime 450, builder 500, layers 600, server 700.
enum class ErrorCode : std::uint16_t {
  kInvalidArgument = 100,
  kInvalidRepoId = 101,
  kInvalidRevision = 102,
  kInvalidMetadata = 103,
  kInvalidLockfile = 104,
  kInvalidConfig = 105,
  kInvalidJson = 106,
  kInvalidToml = 107,
  kUnsafePath = 108,
  kIo = 109,
  kDiskFull = 110,
  kReadOnly = 111,
  kLockTimeout = 112,
  kInvalidDigest = 113,
  kNotLocked = 114,

  kRepoNotFound = 200,
  kRevisionNotFound = 201,
  kVersionNotFound = 202,
  kEntryNotFound = 203,
  kNoKernelBuilds = 204,
  kGatedRepo = 205,
  kRepoDisabled = 206,
  kAuthRequired = 207,
  kAuthInvalid = 208,
  kForbidden = 209,
  kRateLimited = 210,
  kServerError = 211,
  kNetwork = 212,
  kDnsFailure = 213,
  kProxyFailure = 214,
  kTlsFailure = 215,
  kTimeout = 216,
  kRedirectRefused = 217,
  kNotAHub = 218,
  kIntegrity = 219,
  kOfflineMiss = 220,
  kCacheCorrupt = 221,
  kCacheReadOnly = 222,
  kConflict = 223,
  kPreconditionFailed = 224,
  kBadRequest = 225,
  kUnsafeListing = 226,
  kCancelled = 227,

  kTrustDenied = 300,
  kPublisherUnverifiable = 301,
  kSignatureMissing = 302,
  kSignatureInvalid = 303,
  kDigestMismatch = 304,
  kUnknownFile = 305,
  kMissingFile = 306,
  kBindingMismatch = 307,
  kUnsafeOwnership = 308,
  kPolicyInvalid = 309,
  kAuditFailed = 310,
  kDigestMissing = 311,

  kNotElf = 400,
  kWrongElfClass = 401,
  kNotSharedLibrary = 402,
  kWrongArchitecture = 403,
  kTruncatedElf = 404,
  kUnsafeElf = 405,
  kUnexpectedDependency = 406,
  kMissingLibrary = 407,
  kGlibcTooOld = 408,
  kLibstdcxxTooOld = 409,
  kMissingSymbols = 410,
  kCpuIsaTooOld = 411,
  kNamespaceConflict = 412,
  kPythonRequired = 413,
  kNoOpsRegistered = 414,
  kAmbiguousPackage = 415,
  kPythonOnly = 416,
  kIdentityMismatch = 417,
  kFileChanged = 418,
  kRecursiveLoad = 419,
  kTorchMismatch = 420,
  kTvmFfiMismatch = 421,
  kKernelFailed = 422,
  kKernelThrew = 423,
  kOpNotFound = 424,
  kSchemaMismatch = 425,
  kDlopenFailed = 426,
  kMetadataMismatch = 427,
  kDeviceMismatch = 428,
  kBadTensor = 429,
  kTorchBridgeMissing = 430,
  kNoBinary = 431,

  kNoCompatibleVariant = 450,
  kArchMismatch = 451,
  kDependencyUnsupported = 452,
  kClientTooOld = 453,
  kInvalidBackend = 454,

  kBuildTomlInvalid = 500,
  kUnsupportedEdition = 501,
  kToolchainMissing = 502,
  kCompileFailed = 503,
  kCheckFailed = 504,
  kImportTestFailed = 505,
  kStaleDigest = 506,
  kNothingToBuild = 507,
  kPackageInvalid = 508,

  kInvalidMapping = 600,
  kInvalidBinding = 601,
  kNoLayerMapping = 602,
  kNoDeviceMapping = 603,
  kNoCompatibleProperties = 604,
  kNoCompatibleMode = 605,
  kMissingAttribute = 606,
  kLayerSignatureMismatch = 607,
  kGuardNotMet = 608,
  kInvalidMode = 609,
  kInvalidSafetensors = 610,
  kNoNativeLayer = 611,

  kStoreCorrupt = 700,
  kServerStart = 701,
};

/// Stable text of a code, e.g. "VersionNotFound".
KERNELHUB_API std::string_view error_code_name(ErrorCode code) noexcept;

/// What failed, as facts. `what()` is one line: what failed, on which repo or path, found versus
/// wanted. `hint()` is the next thing to do, often a command; may be empty. `details()` is a JSON
/// object with the same facts for programs; "{}" when there are none.
class KERNELHUB_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& what, std::string hint = {}, std::string details = "{}");
  ErrorCode code() const noexcept { return code_; }
  const std::string& hint() const noexcept { return hint_; }
  const std::string& details() const noexcept { return details_; }

 private:
  ErrorCode code_;
  std::string hint_;
  std::string details_;
};

/// One member-less subclass per module, for `catch` by origin.
class KERNELHUB_API HubError : public Error {
  using Error::Error;
};
class KERNELHUB_API TrustError : public Error {
  using Error::Error;
};
class KERNELHUB_API LoadError : public Error {
  using Error::Error;
};
class KERNELHUB_API BuildError : public Error {
  using Error::Error;
};
class KERNELHUB_API LayerError : public Error {
  using Error::Error;
};

}  // namespace kernelhub
