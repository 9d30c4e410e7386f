// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/abi/package.h"
#include "kernelhub/core/error.h"
#include "kernelhub/core/export.h"
#include "kernelhub/loader/package.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

/// Calls of tvm-ffi and C packages, without torch.
///
///   kernelhub::Function scale = kernel.function("scale");
///   scale({&out, &x, 2.0});                               // out, x: DLTensor
namespace kernelhub {

/// One argument of a C call: a kh_value with typed constructors. A tensor is a non-owning DLTensor
/// that, like a text, must outlive the call.
class Value {
 public:
  Value() noexcept : value_{KH_NONE, 0, {}} {}
  Value(std::int64_t value) noexcept : value_{KH_INT, 0, {}} { value_.u.i = value; }
  Value(int value) noexcept : Value(static_cast<std::int64_t>(value)) {}
  Value(double value) noexcept : value_{KH_FLOAT, 0, {}} { value_.u.f = value; }
  Value(bool value) noexcept : value_{KH_BOOL, 0, {}} { value_.u.i = value ? 1 : 0; }
  Value(DLTensor* tensor) noexcept : value_{KH_DLTENSOR, 0, {}} { value_.u.p = tensor; }
  Value(const char* text) noexcept : value_{KH_CSTRING, 0, {}} { value_.u.s = text; }
  Value(DLDataType dtype) noexcept : value_{KH_DTYPE, 0, {}} { value_.u.dtype = dtype; }
  Value(DLDevice device) noexcept : value_{KH_DEVICE, 0, {}} { value_.u.device = device; }
  const kh_value& raw() const noexcept { return value_; }

 private:
  kh_value value_;
};

namespace detail {

/// The tensor of an argument, where that lies in a device's memory; else null.
inline const DLTensor* device_tensor(const Value& value) noexcept {
  if (value.raw().type != KH_DLTENSOR) return nullptr;
  const auto* tensor = static_cast<const DLTensor*>(value.raw().u.p);
  if (tensor == nullptr || tensor->device.device_type == kDLCPU) return nullptr;
  const bool is_pinned =
      tensor->device.device_type == kDLCUDAHost || tensor->device.device_type == kDLROCMHost;
  return is_pinned ? nullptr : tensor;
}

}  // namespace detail

/// What a call returned. An object (type code 64 and above) is released with the last copy of its
/// handle, and keeps its package mapped until then: its deleter is code of the package.
class KERNELHUB_API CallResult {
 public:
  CallResult() noexcept = default;
  CallResult(CallResult&& other) noexcept;
  CallResult& operator=(CallResult&& other) noexcept;
  ~CallResult() {
    if (value_.type >= KH_OBJECT) release();
  }
  bool is_none() const noexcept { return value_.type == KH_NONE; }
  /// Throws kInvalidArgument when the result has another type.
  std::int64_t as_int() const;
  double as_float() const;
  bool as_bool() const;
  const kh_value& raw() const noexcept { return value_; }

 private:
  friend class Function;
  void release() noexcept;

  kh_value value_{};
  std::shared_ptr<const void> owner_;
};

struct CallOptions {
  /// Native stream for device tensors; nothing: torch's current stream, else the default stream.
  std::optional<void*> stream;
};

/// tvm-ffi call path (loader spec D1b): `int f(void*, const Any*, int32_t, Any*)`. Keeps its
/// package mapped; any thread may call. Torch packages have none: use Op (kernelhub/torch/op.h).
class KERNELHUB_API Function {
 public:
  /// Throws LoadError kKernelFailed with kind and message of the kernel, kKernelThrew,
  /// kDeviceMismatch when tensors are on several devices. Device tensors run on
  /// `options.stream`. Blocks as long as the kernel does; on a device it may return earlier.
  CallResult operator()(std::initializer_list<Value> args, const CallOptions& options = {}) const {
    return call(args.begin(), args.size(), options);
  }
  // Inline: its caller knows the types of the arguments, and the test of each folds.
  CallResult call(const Value* args, std::size_t count, const CallOptions& options = {}) const {
    for (std::size_t i = 0; i < count; ++i) {
      if (detail::device_tensor(args[i]) != nullptr) return call_on_stream(args, count, options);
    }
    return call_here(args, count);
  }
  /// Raw call: 0, or -1 with the error left for `take_error`. No checks, no stream, no allocation.
  /// An exception of the package ends the process.
  int call_raw(const kh_value* args, std::int32_t count, kh_value* result) const noexcept {
    return call_(nullptr, args, count, result);
  }
  /// The error that a failed call_raw left behind on this thread, as `operator()` would throw it.
  LoadError take_error() const;
  /// "gelu_fast"
  const std::string& name() const noexcept;
  const Package& package() const noexcept;

 private:
  friend class Kernel;
  struct State;
  Function(kh_call call, std::shared_ptr<const State> state)
      : call_(call), state_(std::move(state)) {}
  CallResult call_here(const Value* args, std::size_t count) const;
  CallResult call_on_stream(const Value* args, std::size_t count, const CallOptions& options) const;

  kh_call call_;
  std::shared_ptr<const State> state_;
};

}  // namespace kernelhub
