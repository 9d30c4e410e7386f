// SPDX-License-Identifier: Apache-2.0
#include "host_table.h"

#include "kernelhub/core/log.h"
#include "kernelhub/loader/torch_bridge.h"

#include <algorithm>
#include <utility>

namespace kernelhub::loader {
namespace {

std::optional<RaisedError>& thread_error() {
  thread_local std::optional<RaisedError> error;
  return error;
}

std::optional<void*>& thread_stream() noexcept {
  thread_local std::optional<void*> stream;
  return stream;
}

void set_error(const char* kind, const char* message) {
  thread_error() =
      RaisedError{kind == nullptr ? "RuntimeError" : kind, message == nullptr ? "" : message, {}};
  // The same package may be called by Python's tvm-ffi too, which looks only there.
  raise_tvm_ffi_error(thread_error()->kind.c_str(), thread_error()->message.c_str());
}

void* current_stream(std::int32_t device_type, std::int32_t device_id) {
  if (thread_stream()) return *thread_stream();
  TorchBridge* bridge = torch_bridge();
  return bridge == nullptr ? nullptr : bridge->current_stream(device_type, device_id);
}

void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                  void (*body)(void*, std::int64_t, std::int64_t), void* context) {
  TorchBridge* bridge = torch_bridge();
  if (bridge != nullptr) {
    bridge->parallel_for(begin, end, grain, body, context);
  } else if (begin < end) {
    body(context, begin, end);
  }
}

void log_message(int level, const char* message) {
  log(static_cast<LogLevel>(std::clamp(level, 0, 3)), message == nullptr ? "" : message);
}

constexpr kh_host kHost = {sizeof(kh_host), KERNELHUB_ABI, &set_error,  &current_stream,
                           nullptr,         &parallel_for, &log_message};

}  // namespace

const kh_host& host_table() noexcept { return kHost; }

void set_thread_stream(std::optional<void*> stream) noexcept { thread_stream() = stream; }

RaisedError take_raised_error() {
  std::optional<RaisedError> own = std::exchange(thread_error(), std::nullopt);
  std::optional<RaisedError> shared = take_tvm_ffi_error();
  if (own) return *std::move(own);
  if (shared) return *std::move(shared);
  return {"RuntimeError", "failed without an error message", {}};
}

}  // namespace kernelhub::loader
