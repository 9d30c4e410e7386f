// SPDX-License-Identifier: Apache-2.0
// The loader's door to torch's dispatcher.
#include "abi_check.h"
#include "namespace_guard.h"
#include "registration_listener.h"

#include "kernelhub/abi/package.h"
#include "kernelhub/loader/mapped_symbol.h"
#include "kernelhub/loader/torch_bridge.h"
#include "kernelhub/torch/op.h"

#include <ATen/Parallel.h>

namespace kernelhub {
namespace {

class DispatcherBridge final : public loader::TorchBridge {
 public:
  void require_matching_torch() override { loader::require_compiled_torch(); }
  bool is_namespace_free(const std::string& op_namespace) override {
    return loader::is_namespace_free(op_namespace);
  }
  std::unique_ptr<Listener> listen() override { return loader::listen_for_registrations(); }
  std::vector<OpInfo> ops_of(const std::string& op_namespace) override {
    return loader::ops_in_namespace(op_namespace);
  }

  void* current_stream(std::int32_t device_type, std::int32_t device_id) noexcept override {
    using Function = std::int32_t (*)(std::int32_t, void**);
    if (device_type != kDLCUDA && device_type != kDLROCM) return nullptr;
    // Lives in torch's device library, which this one does not need.
    const auto function = reinterpret_cast<Function>(
        loader::mapped_symbol("libtorch_cuda.so", "aoti_torch_get_current_cuda_stream"));
    void* stream = nullptr;
    if (function != nullptr) function(device_id, &stream);
    return stream;
  }

  void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                    void (*body)(void*, std::int64_t, std::int64_t), void* context) override {
    at::parallel_for(begin, end, grain,
                     [&](std::int64_t first, std::int64_t last) { body(context, first, last); });
  }
};

}  // namespace

bool detail::install_torch_bridge() noexcept {
  static DispatcherBridge bridge;
  loader::set_torch_bridge(&bridge);
  return true;
}

}  // namespace kernelhub
