// SPDX-License-Identifier: Apache-2.0
#include "retry_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

namespace kernelhub::hub {
namespace {

constexpr std::array<int, 5> kBackoffSeconds = {1, 2, 4, 8, 8};
constexpr int kMaxDnsRetries = 2;
constexpr int kMaxRateLimitWaits = 5;
constexpr std::chrono::seconds kLongestRateLimitWait{120};

bool is_retried_status(int status) {
  constexpr std::array<int, 6> kStatuses = {408, 429, 500, 502, 503, 504};
  return std::find(kStatuses.begin(), kStatuses.end(), status) != kStatuses.end();
}

bool is_retried(const HttpResponse& reply) {
  switch (reply.fault) {
    case TransferFault::kDns:
    case TransferFault::kProxy:
    case TransferFault::kConnect:
    case TransferFault::kTimeout:
    case TransferFault::kBroken:
      return true;
    case TransferFault::kTls:
    case TransferFault::kTooLarge:
    case TransferFault::kStopped:
    case TransferFault::kCancelled:
      return false;
    case TransferFault::kNone:
      break;
  }
  return is_retried_status(reply.status);
}

std::optional<long> leading_number(std::string_view text) {
  long number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || number < 0) return std::nullopt;
  return number;
}

// Value of one parameter of a structured field such as `"api";r=0;t=17`.
std::optional<long> parameter(std::string_view field, std::string_view name) {
  const std::string key = ";" + std::string(name) + "=";
  const std::size_t at = field.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  return leading_number(field.substr(at + key.size()));
}

std::string quoted_name(std::string_view field) {
  if (field.empty() || field.front() != '"') return {};
  const std::size_t end = field.find('"', 1);
  return end == std::string_view::npos ? std::string() : std::string(field.substr(1, end - 1));
}

std::optional<std::chrono::seconds> retry_after(std::string_view field,
                                                std::chrono::system_clock::time_point now) {
  if (field.empty()) return std::nullopt;
  if (const auto seconds = leading_number(field)) return std::chrono::seconds(*seconds);
  std::tm date{};
  // RFC 9110 5.6.7, the form every server sends today; names of days and months are English in
  // the C locale, which libraries do not change.
  if (strptime(std::string(field).c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date) == nullptr) {
    return std::nullopt;
  }
  const auto at = std::chrono::system_clock::from_time_t(timegm(&date));
  return std::max(std::chrono::seconds(0), std::chrono::ceil<std::chrono::seconds>(at - now));
}

}  // namespace

std::optional<RateLimit> rate_limit_of(const HttpResponse& reply,
                                       std::chrono::system_clock::time_point now) {
  const std::string_view field = reply.header("ratelimit");
  if (const auto reset = parameter(field, "t")) {
    return RateLimit{quoted_name(field), std::chrono::seconds(*reset + 1)};
  }
  if (const auto wait = retry_after(reply.header("retry-after"), now)) {
    return RateLimit{quoted_name(field), *wait};
  }
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> RetryPolicy::wait_after(
    const HttpResponse& reply, std::chrono::system_clock::time_point now, double jitter) {
  ++attempts_;
  if (max_retries_ <= 0 || !is_retried(reply)) return std::nullopt;
  if (reply.fault == TransferFault::kDns && ++dns_failures_ > kMaxDnsRetries) return std::nullopt;
  const bool progressed = reply.status / 100 == 2 && reply.received_bytes > 0;
  failures_in_row_ = progressed ? 1 : failures_in_row_ + 1;
  if (failures_in_row_ > max_retries_) return std::nullopt;
  if (reply.ok() && reply.status == 429) {
    if (++rate_limited_ > kMaxRateLimitWaits) return std::nullopt;
    if (const auto limit = rate_limit_of(reply, now)) {
      if (limit->wait > kLongestRateLimitWait) return std::nullopt;
      return limit->wait;
    }
  }
  const auto step = std::min<std::size_t>(failures_in_row_ - 1, kBackoffSeconds.size() - 1);
  const double milliseconds = 1000.0 * kBackoffSeconds.at(step) * (1.0 + 0.25 * jitter);
  return std::chrono::milliseconds(static_cast<std::int64_t>(milliseconds));
}

}  // namespace kernelhub::hub
