// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/loader/function.h"

#include "function_state.h"
#include "host_table.h"
#include "loader_errors.h"
#include "tvm_ffi_library.h"

#include "kernelhub/loader/torch_bridge.h"

#include <fmt/format.h>

#include <exception>

namespace kernelhub {
namespace {

using detail::device_tensor;

static_assert(sizeof(Value) == sizeof(kh_value) && sizeof(kh_value) == 16);

std::string device_text(const DLDevice& device) {
  return fmt::format("device {}:{}", static_cast<int>(device.device_type), device.device_id);
}

/// The one device of a call's device tensors.
DLDevice common_device(const Value* args, std::size_t count, const std::string& function) {
  const DLTensor* first = nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    const DLTensor* tensor = device_tensor(args[i]);
    if (tensor == nullptr) continue;
    if (first == nullptr) first = tensor;
    if (tensor->device.device_type != first->device.device_type ||
        tensor->device.device_id != first->device.device_id) {
      throw loader_errors::device_mismatch(function, i, device_text(first->device),
                                           device_text(tensor->device));
    }
  }
  return first->device;
}

/// The stream that device work of this thread goes to, put back at the end.
class StreamScope {
 public:
  StreamScope(DLDevice device, const CallOptions& options) : device_(device) {
    loader::TorchBridge* bridge = loader::torch_bridge();
    void* stream = nullptr;
    if (options.stream) {
      stream = *options.stream;
    } else if (bridge != nullptr) {
      stream = bridge->current_stream(device.device_type, device.device_id);
    }
    loader::set_thread_stream(stream);
    former_ = loader::exchange_tvm_ffi_stream(device, stream);
  }
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;
  ~StreamScope() {
    loader::set_thread_stream(std::nullopt);
    if (former_) loader::exchange_tvm_ffi_stream(device_, *former_);
  }

 private:
  DLDevice device_;
  std::optional<void*> former_;
};

}  // namespace

CallResult::CallResult(CallResult&& other) noexcept
    : value_(std::exchange(other.value_, kh_value{})), owner_(std::move(other.owner_)) {}

CallResult& CallResult::operator=(CallResult&& other) noexcept {
  std::swap(value_, other.value_);
  std::swap(owner_, other.owner_);
  return *this;
}

void CallResult::release() noexcept {
  if (value_.u.p != nullptr) loader::release_object(static_cast<kh_object*>(value_.u.p));
}

std::int64_t CallResult::as_int() const {
  if (value_.type != KH_INT) throw loader_errors::result_type("int", value_.type);
  return value_.u.i;
}

double CallResult::as_float() const {
  if (value_.type != KH_FLOAT) throw loader_errors::result_type("float", value_.type);
  return value_.u.f;
}

bool CallResult::as_bool() const {
  if (value_.type != KH_BOOL) throw loader_errors::result_type("bool", value_.type);
  return value_.u.i != 0;
}

CallResult Function::call_on_stream(const Value* args, std::size_t count,
                                    const CallOptions& options) const {
  const StreamScope stream(common_device(args, count, state_->name), options);
  return call_here(args, count);
}

CallResult Function::call_here(const Value* args, std::size_t count) const {
  CallResult result;
  int status = 0;
  try {
    status = call_(nullptr, reinterpret_cast<const kh_value*>(args),
                   static_cast<std::int32_t>(count), &result.value_);
  } catch (const std::exception& error) {
    throw loader_errors::kernel_threw(state_->package.info().metadata.id, state_->name,
                                      error.what());
  } catch (...) {
    throw loader_errors::kernel_threw(state_->package.info().metadata.id, state_->name,
                                      "of a type outside std::exception");
  }
  if (status != 0) [[unlikely]]
    throw take_error();
  if (result.value_.type >= KH_OBJECT) result.owner_ = state_;
  return result;
}

LoadError Function::take_error() const {
  const loader::RaisedError error = loader::take_raised_error();
  return loader_errors::kernel_failed(state_->package.info().metadata.id, state_->name, error.kind,
                                      error.message, error.backtrace);
}

const std::string& Function::name() const noexcept { return state_->name; }

const Package& Function::package() const noexcept { return state_->package; }

}  // namespace kernelhub
