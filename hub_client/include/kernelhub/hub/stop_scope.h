// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/progress.h"

#include <functional>

namespace kernelhub::hub {

/// While it lives, every request of this thread ends with kCancelled once the observer says so;
/// transfers that were given an observer of their own ask that one. Scopes nest.
///
///   const hub::StopScope stop(options.progress);
///   client.resolve(repo, spec);  // may throw kCancelled
class KERNELHUB_API StopScope {
 public:
  /// `observer` may be null: then nothing is stopped. It must outlive the scope.
  explicit StopScope(const ProgressObserver* observer) noexcept;
  ~StopScope();
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;

  /// The question to ask on behalf of this thread, from any thread; empty outside a scope.
  static std::function<bool()> question();

 private:
  const ProgressObserver* outer_;
};

}  // namespace kernelhub::hub
