// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_transport.h"
#include "hub_errors.h"
#include "redirect_policy.h"
#include "urls.h"

#include "kernelhub/core/config.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace kernelhub::hub {

/// One logical call: redirects and retries are the session's.
struct HubCall {
  HttpMethod method = HttpMethod::kGet;
  std::string url;
  CallSubject subject;
  HttpHeaders headers;
  /// Asked before every attempt, for a Range that depends on the bytes held.
  std::function<HttpHeaders()> attempt_headers;
  std::string body;
  BodySource* source = nullptr;
  BodySink* sink = nullptr;
  std::uint64_t max_reply_bytes = 1u << 20;
  /// Statuses beside 2xx that are an answer, not a failure.
  std::vector<int> answers;
  enum class Timeouts : std::uint8_t { kMetadata, kBody };
  Timeouts timeouts = Timeouts::kMetadata;
  /// kNever: reads of a client that may not use its token, and signed storage URLs.
  enum class Token : std::uint8_t { kRead, kWrite, kNever };
  Token token = Token::kRead;
  /// kOnce: not idempotent, or a usable cached copy stands by.
  enum class Attempts : std::uint8_t { kOnce, kRetried };
  Attempts attempts = Attempts::kRetried;
  std::function<bool()> cancelled;
  std::chrono::milliseconds total_timeout{0};  // over all attempts' transfers; 0: none
};

/// Sends calls with the headers of hub spec 1.1, follows redirects by hand, retries. Thread-safe.
class HubSession {
 public:
  HubSession(Config config, std::shared_ptr<HttpTransport> transport);
  const Config& config() const noexcept { return config_; }
  const Urls& urls() const noexcept { return urls_; }
  const RedirectPolicy& redirects() const noexcept { return redirects_; }
  /// A 2xx reply or one of `answers`; everything else is thrown. A reply that the call's own sink
  /// stopped is returned with fault kStopped.
  HttpResponse send(const HubCall& call);
  std::uint64_t request_count() const noexcept { return request_count_; }

 private:
  struct Exchange {
    HttpResponse reply;
    std::vector<std::string> hops;
    std::string trace_id;
    bool sent_token = false;
  };
  Exchange exchange(const HubCall& call, std::chrono::milliseconds time_left);
  HttpRequest request_for(const HubCall& call, const std::string& url, Exchange& exchange) const;
  bool may_see_token(const HubCall& call, const std::string& url) const;
  CallFacts facts_of(const Exchange& exchange, int attempts) const;
  void pass_on_warning(const HttpResponse& reply) const;

  const Config config_;
  const Urls urls_;
  const RedirectPolicy redirects_;
  const std::string user_agent_;
  std::shared_ptr<HttpTransport> transport_;
  std::atomic<std::uint64_t> request_count_{0};
};

}  // namespace kernelhub::hub
