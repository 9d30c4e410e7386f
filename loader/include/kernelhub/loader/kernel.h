// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/loader/function.h"
#include "kernelhub/loader/package.h"

#include <string>
#include <string_view>
#include <vector>

namespace kernelhub {

template <class Signature>
class Op;
class BoxedOp;

/// A user's handle to a package: finds ops by name. C++ sees the raw ops (often `out` first), not
/// the Python wrappers of the package.
class KERNELHUB_API Kernel {
 public:
  Kernel(Package package, std::vector<VariantDecision> trace)
      : package_(std::move(package)), trace_(std::move(trace)) {}
  const Package& package() const noexcept { return package_; }
  /// Why this variant was chosen and each other not.
  const std::vector<VariantDecision>& trace() const noexcept { return trace_; }

  /// tvm-ffi / C function. Throws kOpNotFound with near names.
  Function function(std::string_view name) const;
  /// Torch op with a C++ signature checked against its schema; "op.overload" selects an overload.
  /// Defined in kernelhub/torch/op.h (library kernelhub_torch). Throws kOpNotFound,
  /// kSchemaMismatch.
  template <class Signature>
  Op<Signature> op(std::string_view name) const;
  /// Torch op called with a stack of IValues; same header.
  BoxedOp boxed(std::string_view name) const;

 private:
  Package package_;
  std::vector<VariantDecision> trace_;
};

}  // namespace kernelhub
