// SPDX-License-Identifier: Apache-2.0
#include "registration_listener.h"

#include "namespace_guard.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

namespace kernelhub::loader {
namespace {

/// Shared by the dispatcher's callback and the listener. Torch calls back with its own lock held,
/// so handles are only stored there and examined later.
struct Recording {
  std::atomic<bool> armed{false};
  std::thread::id thread = std::this_thread::get_id();
  std::mutex mutex;
  std::vector<c10::OperatorHandle> handles;
};

class Callback final : public c10::OpRegistrationListener {
 public:
  explicit Callback(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {}

  void onOperatorRegistered(const c10::OperatorHandle& handle) override {
    // Installing replays every op that exists, and other threads may import modules meanwhile.
    if (!recording_->armed || std::this_thread::get_id() != recording_->thread) return;
    const std::lock_guard lock(recording_->mutex);
    recording_->handles.push_back(handle);
  }

  void onOperatorDeregistered(const c10::OperatorHandle&) override {}

 private:
  std::shared_ptr<Recording> recording_;
};

class Listener final : public TorchBridge::Listener {
 public:
  Listener()
      : recording_(std::make_shared<Recording>()),
        installed_(c10::Dispatcher::singleton().addRegistrationListener(
            std::make_unique<Callback>(recording_))) {
    recording_->armed = true;
  }

  std::vector<OpInfo> take(const std::string& op_namespace) override {
    recording_->armed = false;
    const std::string prefix = op_namespace + "::";
    std::vector<OpInfo> ops;
    const std::lock_guard lock(recording_->mutex);
    for (const c10::OperatorHandle& handle : recording_->handles) {
      if (handle.operator_name().name.compare(0, prefix.size(), prefix) != 0) continue;
      ops.push_back(op_info(handle));
    }
    recording_->handles.clear();
    return ops;
  }

 private:
  std::shared_ptr<Recording> recording_;
  c10::RegistrationHandleRAII installed_;
};

}  // namespace

std::unique_ptr<TorchBridge::Listener> listen_for_registrations() {
  return std::make_unique<Listener>();
}

}  // namespace kernelhub::loader
