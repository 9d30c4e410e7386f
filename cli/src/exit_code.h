// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"

namespace kernelhub::cli {

/// Exit codes of every verb (hub spec 8).
inline constexpr int kOk = 0;
inline constexpr int kFailure = 1;  // also negative results: findings, failed builds
inline constexpr int kUsage = 2;
inline constexpr int kNotFound = 3;  // also: no fitting variant
inline constexpr int kDenied = 4;    // auth and trust policy
inline constexpr int kNetwork = 5;
inline constexpr int kIntegrity = 6;  // also: binary refused by preflight
inline constexpr int kDisk = 7;       // disk and cache
inline constexpr int kOfflineMiss = 8;

int exit_code_of(ErrorCode code) noexcept;

}  // namespace kernelhub::cli
