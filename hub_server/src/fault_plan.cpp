// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/server/fault_plan.h"

namespace kernelhub::server {

void FaultPlan::add(Fault fault) {
  const std::lock_guard guard(mutex_);
  faults_.push_back(std::move(fault));
}

void FaultPlan::clear() {
  const std::lock_guard guard(mutex_);
  faults_.clear();
}

std::optional<Fault> FaultPlan::take(std::string_view method, std::string_view target) {
  const std::lock_guard guard(mutex_);
  for (Fault& fault : faults_) {
    if (!fault.method.empty() && fault.method != method) continue;
    if (target.find(fault.path_contains) == std::string_view::npos) continue;
    if (fault.skip > 0) {
      --fault.skip;
    } else if (fault.times > 0) {
      --fault.times;
      return fault;
    }
  }
  return std::nullopt;
}

}  // namespace kernelhub::server
