// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_transport.h"

#include <chrono>
#include <optional>
#include <string>

namespace kernelhub::hub {

/// What a reply says about its rate limit (hub spec 6, row 429).
struct RateLimit {
  std::string bucket;  // empty: not named
  std::chrono::seconds wait{0};
};
/// From `RateLimit`, else `Retry-After` (seconds or HTTP date seen from `now`).
std::optional<RateLimit> rate_limit_of(const HttpResponse& reply,
                                       std::chrono::system_clock::time_point now);

/// Decides about one call: whether and when to try again. Pure but for its counters.
class RetryPolicy {
 public:
  /// `max_retries`: in a row without a byte of progress; 0 for calls that must not be repeated.
  explicit RetryPolicy(int max_retries) : max_retries_(max_retries) {}

  /// After a failed attempt: how long to wait before the next one, nothing to give up.
  /// `jitter` in [-1, 1] spreads the wait by 25 %.
  std::optional<std::chrono::milliseconds> wait_after(const HttpResponse& reply,
                                                      std::chrono::system_clock::time_point now,
                                                      double jitter);
  int attempts() const noexcept { return attempts_; }

 private:
  int max_retries_;
  int attempts_ = 0;
  int failures_in_row_ = 0;
  int dns_failures_ = 0;
  int rate_limited_ = 0;
};

}  // namespace kernelhub::hub
