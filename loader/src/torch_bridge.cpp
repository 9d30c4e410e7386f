// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/torch_bridge.h"

#include <atomic>

namespace kernelhub::loader {
namespace {

std::atomic<TorchBridge*> installed{nullptr};

}  // namespace

void set_torch_bridge(TorchBridge* bridge) noexcept {
  installed.store(bridge, std::memory_order_release);
}

TorchBridge* torch_bridge() noexcept { return installed.load(std::memory_order_acquire); }

}  // namespace kernelhub::loader
