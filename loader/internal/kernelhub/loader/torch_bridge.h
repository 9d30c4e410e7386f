// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/loader/package.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kernelhub::loader {

/// What the torch-free loader needs of torch's dispatcher; kernelhub_torch installs the only
/// implementation when it is loaded. Without one, torch packages are refused
/// (kTorchBridgeMissing).
class TorchBridge {
 public:
  virtual ~TorchBridge() = default;
  /// Compiled-for and running torch agree (loader spec L3); throws kTorchMismatch.
  virtual void require_matching_torch() = 0;
  /// True when no library owns this op namespace (N2).
  virtual bool is_namespace_free(const std::string& op_namespace) = 0;
  /// Ops that the calling thread registers between construction and `take` (P6).
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual std::vector<OpInfo> take(const std::string& op_namespace) = 0;
  };
  virtual std::unique_ptr<Listener> listen() = 0;
  /// Ops registered under a namespace by now, for attached packages.
  virtual std::vector<OpInfo> ops_of(const std::string& op_namespace) = 0;
  /// Native handle of torch's current stream of a device; null is the default stream.
  virtual void* current_stream(std::int32_t device_type, std::int32_t device_id) noexcept = 0;
  /// Runs `body` over disjoint ranges on torch's threads (kh_host.parallel_for).
  virtual void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                            void (*body)(void*, std::int64_t, std::int64_t), void* context) = 0;
};

KERNELHUB_API void set_torch_bridge(TorchBridge* bridge) noexcept;
KERNELHUB_API TorchBridge* torch_bridge() noexcept;

}  // namespace kernelhub::loader
