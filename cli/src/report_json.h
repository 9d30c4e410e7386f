// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/builder/build.h"
#include "kernelhub/builder/check.h"

#include <string>
#include <vector>

/// Results of build, check and upload as JSON texts, two-space indent.
namespace kernelhub::cli {

struct CheckedVariant {
  std::string variant;
  std::vector<builder::CheckFinding> findings;
};

struct UploadOutcome {
  std::string status;  // no_changes | uploaded | planned
  std::string repo, branch, commit, url;
  std::vector<std::string> variants, added, deleted, warnings;
};

std::string to_json(const builder::BuildReport& report);
std::string to_json(const std::vector<CheckedVariant>& variants);
std::string to_json(const UploadOutcome& outcome);

}  // namespace kernelhub::cli
