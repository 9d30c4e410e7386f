// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <new>

namespace kernelhub::loader {

/// A process-wide object whose destructor never runs: threads and static objects may use it until
/// the very end of the process (loader spec H3).
template <class T>
class NeverDestroyed {
 public:
  NeverDestroyed() { std::construct_at(reinterpret_cast<T*>(storage_)); }
  NeverDestroyed(const NeverDestroyed&) = delete;
  NeverDestroyed& operator=(const NeverDestroyed&) = delete;
  T& operator*() noexcept { return *std::launder(reinterpret_cast<T*>(storage_)); }
  T* operator->() noexcept { return std::launder(reinterpret_cast<T*>(storage_)); }

 private:
  alignas(T) unsigned char storage_[sizeof(T)];
};

}  // namespace kernelhub::loader
