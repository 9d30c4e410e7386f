// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/export.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/SmallVector.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

/// What a kernelized layer runs instead of its own forward, and where one module keeps it.
namespace kernelhub {

class Swappable;

/// Types of a forward, as torch writes them: `(Tensor x, Tensor? gate) -> Tensor`.
using Signature = c10::FunctionSchema;

/// A scalar member of a module, read at each call. Holds no address of a module: it is asked with
/// one, so a clone reads its own member.
struct KernelAttr {
  enum class Type { kFloat, kInt, kBool };
  std::string name;
  Type type;
  std::function<const void*(const Swappable&)> address;
};

/// What one module instance supplies to a bound call, in the order of the binding's arguments.
struct ModuleInputs {
  /// Parameters and buffers; nothing where the module has none and the binding allows it.
  std::vector<std::optional<at::Tensor>> tensors;
  struct Scalar {
    KernelAttr::Type type = KernelAttr::Type::kFloat;
    const void* address = nullptr;  // member of the module; null: use `constant`
    c10::IValue constant;
  };
  std::vector<Scalar> scalars;
};

/// What a forward returned, in its order.
using BoundResults = c10::SmallVector<at::Tensor, 2>;

/// A package's layer, ready to call. Immutable, shared by all modules it serves; keeps the package
/// loaded. Any thread may call.
class KERNELHUB_API BoundForward {
 public:
  virtual ~BoundForward();
  /// "org/name@v1" or the local path, for people.
  virtual const std::string& source() const noexcept = 0;
  /// Reads parameters, buffers and attributes of `layer` by their names.
  /// Throws LayerError kMissingAttribute naming what the module lacks and what it has.
  virtual ModuleInputs inputs_of(const Swappable& layer) const = 0;
  /// Runs the kernel on the forward arguments, one IValue each, and gives the first result. An
  /// undefined tensor, with no effect, when the kernel may not serve this call (dtype, layout,
  /// gradients): the caller then runs the module's own forward. Throws LayerError kGuardNotMet
  /// instead where no fallback is allowed.
  virtual at::Tensor run(const ModuleInputs& inputs,
                         c10::ArrayRef<c10::IValue> arguments) const = 0;
  /// The same with all results; none where the kernel may not serve this call.
  virtual BoundResults run_several(const ModuleInputs& inputs,
                                   c10::ArrayRef<c10::IValue> arguments) const = 0;
  /// The same as `run` for a forward of one tensor, without boxing it.
  virtual at::Tensor run_unary(const ModuleInputs& inputs, const at::Tensor& x) const = 0;
};

/// The place in a module that holds its kernel. A copy (and so a clone) shares the kernel and reads
/// the inputs of the module it lies in.
class KERNELHUB_API KernelSlot {
 public:
  KernelSlot() = default;
  KernelSlot(const KernelSlot& other) : bound_(other.bound_) {}
  KernelSlot& operator=(const KernelSlot& other);
  ~KernelSlot() = default;

  explicit operator bool() const noexcept { return bound_ != nullptr; }
  /// Takes `bound` and its inputs, read beforehand from the module that owns this slot.
  void bind(std::shared_ptr<const BoundForward> bound, ModuleInputs inputs) noexcept;
  void unbind() noexcept;
  const BoundForward* bound() const noexcept { return bound_.get(); }
  /// Inputs of `owner`; read from it at the first call of a copy.
  const ModuleInputs& inputs(const Swappable& owner) {
    if (!resolved_.load(std::memory_order_acquire)) resolve(owner);
    return inputs_;
  }

 private:
  void resolve(const Swappable& owner);

  std::shared_ptr<const BoundForward> bound_;
  std::atomic<bool> resolved_{false};
  std::mutex resolving_;
  ModuleInputs inputs_;
};

}  // namespace kernelhub
