// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/loader/kernel.h"
#include "kernelhub/loader/package.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/op_registration/infer_schema.h>
#include <ATen/core/stack.h>

#include <string>
#include <string_view>
#include <utility>

/// Torch ops of a loaded kernel as C++ callables, through torch's dispatcher.
///
///   auto gelu = kernel.op<void(at::Tensor&, const at::Tensor&)>("gelu_fast");
///   gelu(out, x);
namespace kernelhub {

/// One op with a C++ signature; made by Kernel::op, which compares the signature with the op's
/// schema (torch's own check accepts any signature for stable-ABI ops). Keeps its package mapped.
/// Any thread may call; c10::Error of the op passes through.
template <class Signature>
class Op;

template <class R, class... Args>
class Op<R(Args...)> {
 public:
  R operator()(Args... args) const { return handle_.call(std::forward<Args>(args)...); }
  const c10::FunctionSchema& schema() const { return handle_.schema(); }
  const Package& package() const noexcept { return package_; }

 private:
  friend class Kernel;
  Op(c10::TypedOperatorHandle<R(Args...)> handle, Package package)
      : handle_(std::move(handle)), package_(std::move(package)) {}

  c10::TypedOperatorHandle<R(Args...)> handle_;
  Package package_;
};

/// One op called with a stack of values: arguments are popped, results pushed. Made by
/// Kernel::boxed. Keeps its package mapped; any thread may call.
class KERNELHUB_API BoxedOp {
 public:
  /// Throws c10::Error when the stack does not hold what the schema asks for.
  void operator()(c10::Stack& stack) const { handle_.callBoxed(stack); }
  const c10::FunctionSchema& schema() const { return handle_.schema(); }
  const Package& package() const noexcept { return package_; }

 private:
  friend class Kernel;
  BoxedOp(c10::OperatorHandle handle, Package package)
      : handle_(std::move(handle)), package_(std::move(package)) {}

  c10::OperatorHandle handle_;
  Package package_;
};

namespace detail {

/// Makes this library the loader's way to torch's dispatcher. Called by every source that includes
/// this header, so that a linker keeps the library and a static link keeps the object.
KERNELHUB_API bool install_torch_bridge() noexcept;
static const bool kTorchBridgeInstalled = install_torch_bridge();

/// Throws kOpNotFound with near names.
KERNELHUB_API c10::OperatorHandle find_operator(const Package& package, std::string_view name);
/// Throws kSchemaMismatch unless a function of schema `inferred` can be called as `handle`.
KERNELHUB_API void require_schema(const c10::OperatorHandle& handle,
                                  const c10::FunctionSchema& inferred);
/// kSchemaMismatch with what torch said about the C++ types.
[[noreturn]] KERNELHUB_API void fail_signature(const c10::OperatorHandle& handle,
                                               const c10::Error& error);

template <class Signature>
c10::TypedOperatorHandle<Signature> typed(const c10::OperatorHandle& handle) {
  require_schema(handle, c10::inferFunctionSchemaFlattenedReturns<Signature>());
  try {
    return handle.typed<Signature>();
  } catch (const c10::Error& error) {
    fail_signature(handle, error);
  }
}

}  // namespace detail

template <class Signature>
Op<Signature> Kernel::op(std::string_view name) const {
  return Op<Signature>(detail::typed<Signature>(detail::find_operator(package_, name)), package_);
}

}  // namespace kernelhub
