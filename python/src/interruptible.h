// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/core/progress.h"

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <future>

namespace kernelhub::python {

/// Carries the interpreter's wish to stop into work that runs without the GIL.
class StopRequest final : public ProgressObserver {
 public:
  void stop() noexcept { stopped_ = true; }
  void started(std::string_view, std::uint64_t) noexcept override {}
  void advanced(std::string_view, std::uint64_t) noexcept override {}
  void finished(std::string_view) noexcept override {}
  bool cancelled() const noexcept override { return stopped_; }

 private:
  std::atomic<bool> stopped_ = false;
};

/// Runs `work(ProgressObserver*)` on a thread of its own without the GIL, while the caller looks
/// for signals: Ctrl-C during a download raises KeyboardInterrupt and the transfer stops between
/// two blocks. Called with the GIL held.
template <class Work>
auto run_interruptible(Work&& work) {
  namespace py = pybind11;
  constexpr std::chrono::milliseconds kSignalInterval{50};
  StopRequest stop;
  auto result = std::async(std::launch::async, [&] { return work(&stop); });
  const auto wait = [&] {
    const py::gil_scoped_release release;
    return result.wait_for(kSignalInterval) == std::future_status::ready;
  };
  while (!wait()) {
    if (PyErr_CheckSignals() == 0) continue;
    const py::error_already_set interrupt;
    stop.stop();
    while (!wait()) {
    }
    throw interrupt;
  }
  return result.get();
}

}  // namespace kernelhub::python
