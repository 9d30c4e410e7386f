// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/compile.h"

#include "builder_errors.h"
#include "child_process.h"

#include "kernelhub/core/log.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

int default_parallelism(const std::vector<CompileJob>& jobs) {
  std::uint64_t peak = 1;
  for (const CompileJob& job : jobs) peak = std::max(peak, job.memory_bytes);
  const std::uint64_t available = static_cast<std::uint64_t>(sysconf(_SC_AVPHYS_PAGES)) *
                                  static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const auto fitting = static_cast<int>(std::min<std::uint64_t>(available / peak, 1024));
  return std::clamp(fitting, 1,
                    static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

/// Shared state of the worker threads; jobs are handed out in order.
class JobQueue {
 public:
  JobQueue(const std::vector<CompileJob>& jobs, const fs::path& stage, ProgressObserver* progress)
      : jobs_(jobs), stage_(stage), progress_(progress) {}

  void work() noexcept {
    try {
      while (const CompileJob* job = next()) run(*job);
    } catch (...) {  // thread body: kept for the caller
      const std::lock_guard lock(mutex_);
      if (!exception_) exception_ = std::current_exception();
    }
  }

  void throw_failures(std::string_view variant) const {
    if (exception_) std::rethrow_exception(exception_);
    if (!labels_.empty()) throw builder_errors::compile_failed(variant, labels_, outputs_);
    if (next_ < jobs_.size()) throw builder_errors::cancelled(variant);
  }

 private:
  const CompileJob* next() {
    const std::lock_guard lock(mutex_);
    if (exception_ || !labels_.empty() || next_ == jobs_.size()) return nullptr;
    if (progress_ && progress_->cancelled()) return nullptr;
    const CompileJob* job = &jobs_[next_++];
    if (progress_) progress_->started(job->label, 0);
    return job;
  }

  void run(const CompileJob& job) {
    const fs::path object = stage_ / job.object;
    fs::create_directories(object.parent_path());
    if (!job.scratch.empty()) fs::create_directories(stage_ / job.scratch);
    const ProcessResult result = run_process(job.arguments, stage_, object.string() + ".log");
    const std::lock_guard lock(mutex_);
    if (progress_) progress_->finished(job.label);
    if (result.exit_code != 0) {
      labels_.push_back(job.label);
      outputs_.push_back(result.output);
    } else if (!result.output.empty()) {
      log(LogLevel::kWarning, job.label + ":\n" + result.output);
    }
  }

  const std::vector<CompileJob>& jobs_;
  const fs::path& stage_;
  ProgressObserver* progress_;
  std::mutex mutex_;
  std::size_t next_ = 0;
  std::vector<std::string> labels_, outputs_;
  std::exception_ptr exception_;
};

}  // namespace

void run_jobs(std::string_view variant, const std::vector<CompileJob>& jobs, const fs::path& stage,
              int parallelism, ProgressObserver* progress) {
  JobQueue queue(jobs, stage, progress);
  const int wanted = parallelism > 0 ? parallelism : default_parallelism(jobs);
  std::vector<std::thread> workers;
  for (int i = 1; i < std::min<int>(wanted, static_cast<int>(jobs.size())); ++i) {
    workers.emplace_back([&queue] { queue.work(); });
  }
  queue.work();
  for (std::thread& worker : workers) worker.join();
  queue.throw_failures(variant);
}

}  // namespace kernelhub::builder
