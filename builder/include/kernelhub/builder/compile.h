// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/progress.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::builder {

/// One compiler call, run in the stage folder.
struct CompileJob {
  std::string label;    // source path, for progress and errors
  std::string object;   // relative to the stage
  std::string scratch;  // folder to create first, relative to the stage; may be ""
  std::vector<std::string> arguments;
  std::uint64_t memory_bytes = 0;  // expected peak
  bool is_shared = false;          // the same call in every variant of the stage
};

/// Runs all jobs with at most `parallelism` at once (0: the processors, lowered so that the
/// expected memory fits). After a failure the running ones finish and no further one starts; a
/// cancelled observer does the same. Throws BuildError kCompileFailed with the output of every
/// failed job, kCancelled when cancelled.
void run_jobs(std::string_view variant, const std::vector<CompileJob>& jobs,
              const std::filesystem::path& stage, int parallelism, ProgressObserver* progress);

}  // namespace kernelhub::builder
