// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/replaceable.h"

#include "kernelhub/layers/kernel_function.h"

#include <algorithm>

namespace kernelhub {

BoundForward::~BoundForward() = default;
Swappable::~Swappable() = default;
KernelFunctionOwner::~KernelFunctionOwner() = default;

void Swappable::set_kernel_attr(KernelAttr attr) {
  const auto same = std::find_if(attrs_.begin(), attrs_.end(),
                                 [&](const KernelAttr& a) { return a.name == attr.name; });
  if (same == attrs_.end()) {
    attrs_.push_back(std::move(attr));
  } else {
    *same = std::move(attr);
  }
}

KernelSlot& KernelSlot::operator=(const KernelSlot& other) {
  if (this == &other) return *this;
  unbind();
  bound_ = other.bound_;
  return *this;
}

void KernelSlot::bind(std::shared_ptr<const BoundForward> bound, ModuleInputs inputs) noexcept {
  bound_ = std::move(bound);
  inputs_ = std::move(inputs);
  resolved_.store(true, std::memory_order_release);
}

void KernelSlot::unbind() noexcept {
  resolved_.store(false, std::memory_order_release);
  bound_.reset();
  inputs_ = {};
}

void KernelSlot::resolve(const Swappable& owner) {
  const std::lock_guard lock(resolving_);
  if (resolved_.load(std::memory_order_acquire)) return;
  inputs_ = bound_->inputs_of(owner);
  resolved_.store(true, std::memory_order_release);
}

}  // namespace kernelhub
