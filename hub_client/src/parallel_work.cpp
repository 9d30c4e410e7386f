// SPDX-License-Identifier: Apache-2.0
#include "parallel_work.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kernelhub::hub {

void run_in_parallel(
    std::size_t count, std::size_t limit,
    const std::function<void(std::size_t, const std::function<bool()>& is_stopping)>& work) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::exception_ptr failure;  // the first one
  const std::function<bool()> is_stopping = [&failed] { return failed.load(); };
  const auto worker = [&]() noexcept {
    for (std::size_t i = next++; i < count && !failed; i = next++) {
      try {
        work(i, is_stopping);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        failed = true;
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < std::min(limit, count); ++i) threads.emplace_back(worker);
    worker();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace kernelhub::hub
