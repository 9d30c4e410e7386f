// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace kernelhub::primitives {

/// The caller's thread pool, or none. Compute code splits its work with this and starts no thread
/// of its own: a torch build passes torch's pool, a C caller its own or nothing.
///
/// The body must not throw: it may run on a thread of a foreign pool.
struct ParallelFor {
  using Body = void (*)(void* context, std::int64_t begin, std::int64_t end);
  using Run = void (*)(std::int64_t begin, std::int64_t end, std::int64_t grain, Body body,
                       void* context);

  Run run = nullptr;  // null: the calling thread does everything

  /// Calls `body(begin_i, end_i)` over disjoint ranges that cover [begin, end). Ranges of at most
  /// `grain` items stay on the calling thread.
  template <class F>
  void operator()(std::int64_t begin, std::int64_t end, std::int64_t grain, const F& body) const {
    if (run == nullptr || end - begin <= grain) {
      body(begin, end);
      return;
    }
    const auto call = [](void* context, std::int64_t first, std::int64_t last) {
      (*static_cast<const F*>(context))(first, last);
    };
    run(begin, end, grain, call, const_cast<void*>(static_cast<const void*>(&body)));
  }
};

/// Waking a second thread costs about what 32 Ki elements cost on one (kernels spec, section 10).
constexpr std::int64_t kElementsPerThread = 32 * 1024;

}  // namespace kernelhub::primitives
