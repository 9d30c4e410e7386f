// SPDX-License-Identifier: Apache-2.0
#include "stage.h"

#include "builder_errors.h"
#include "generated_files.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/digest.h"
#include "kernelhub/core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kFolders = {"src", "gen", "obj", "out"};
/// Fixed, not $TMPDIR: the path must be the same for everybody.
constexpr const char* kStageRoot = "/tmp/kernelhub-build";

/// Creates `directory` or accepts it as it is when no other user can change it.
void require_directory(const fs::path& directory, mode_t mode, bool shared) {
  if (mkdir(directory.c_str(), mode) == 0) {
    if (chmod(directory.c_str(), mode) != 0) {
      throw builder_errors::system_call_failed("chmod", directory, errno);
    }
    return;
  }
  if (errno != EEXIST) throw builder_errors::system_call_failed("mkdir", directory, errno);
  struct stat status {};
  if (lstat(directory.c_str(), &status) != 0) {
    throw builder_errors::system_call_failed("lstat", directory, errno);
  }
  if (!S_ISDIR(status.st_mode)) {
    throw builder_errors::stage_not_private(directory, "it is not a folder");
  }
  const bool own = status.st_uid == geteuid();
  const bool open = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if (shared ? open && (status.st_mode & S_ISVTX) == 0 : !own || open) {
    throw builder_errors::stage_not_private(
        directory, fmt::format("owner {}, mode {:o}", status.st_uid, status.st_mode & 07777));
  }
}

std::string stage_key(const SourceTree& sources, const VariantPlan& plan) {
  Hasher hasher(DigestAlgorithm::kSha256);
  hasher.update(fmt::format("{}\n{}\n", sources.source_hash, backend_name(plan.backend)));
  for (const std::string& arch : plan.archs) hasher.update(arch + "\n");
  return hasher.finish().hex().substr(0, 16);
}

}  // namespace

Stage::Stage(const SourceTree& sources, const VariantPlan& plan) {
  require_directory(kStageRoot, 01777, true);
  directory_ = fs::path(kStageRoot) / stage_key(sources, plan);
  require_directory(directory_, 0700, false);
  lock_.emplace(directory_ / ".lock");
  for (const char* folder : kFolders) fs::remove_all(directory_ / folder);
  for (const char* folder : kFolders) fs::create_directory(directory_ / folder);
  for (const SourceTree::File& file : sources.files) {
    const fs::path target = directory_ / "src" / file.path;
    fs::create_directories(target.parent_path());
    fs::copy_file(file.absolute, target);
  }
  write_generated();
}

void Stage::compile(const VariantPlan& plan, const std::vector<CompileJob>& jobs, int parallelism,
                    ProgressObserver* progress) {
  std::vector<CompileJob> open;
  std::copy_if(jobs.begin(), jobs.end(), std::back_inserter(open),
               [this](const CompileJob& job) { return shared_objects_.count(job.object) == 0; });
  run_jobs(plan.variant, open, directory_, parallelism, progress);
  for (const CompileJob& job : open) {
    if (job.is_shared) shared_objects_.insert(job.object);
  }
}

Stage& CurrentStage::of(const VariantPlan& plan) {
  const std::string key = stage_key(sources_, plan);
  if (!stage_ || key != key_) {
    stage_.reset();  // its lock first: other builds may wait for it
    stage_.emplace(sources_, plan);
    key_ = key;
  }
  return *stage_;
}

void Stage::write_generated() const {
  const fs::path folder = directory_ / "gen";
  write_file_atomically(folder / "registration.h", registration_header());
  write_file_atomically(folder / "exports.map", export_script());
  write_file_atomically(folder / "glibc_versions.h", glibc_versions_header());
  write_file_atomically(folder / "single_threaded.c", single_threaded_shim());
  write_file_atomically(folder / "bad_array.cpp", bad_array_shim());
  write_file_atomically(folder / "string_stream.cpp", string_stream_shim());
}

Stage::~Stage() {
  // The folder and its lock stay: another process may be waiting for them.
  for (const char* folder : kFolders) {
    std::error_code error;
    fs::remove_all(directory_ / folder, error);
    if (error) {
      log(LogLevel::kWarning, fmt::format("cannot remove the build stage {}: {}",
                                          (directory_ / folder).string(), error.message()));
    }
  }
}

}  // namespace kernelhub::builder
