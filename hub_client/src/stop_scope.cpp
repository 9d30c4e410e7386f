// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/stop_scope.h"

namespace kernelhub::hub {
namespace {

thread_local const ProgressObserver* current = nullptr;

}  // namespace

StopScope::StopScope(const ProgressObserver* observer) noexcept : outer_(current) {
  current = observer;
}

StopScope::~StopScope() { current = outer_; }

std::function<bool()> StopScope::question() {
  if (current == nullptr) return {};
  return [observer = current] { return observer->cancelled(); };
}

}  // namespace kernelhub::hub
