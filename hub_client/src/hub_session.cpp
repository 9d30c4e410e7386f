// SPDX-License-Identifier: Apache-2.0
#include "hub_session.h"

#include "kernelhub/core/log.h"
#include "kernelhub/hub/stop_scope.h"

#include <fmt/format.h>

#include <algorithm>
#include <gnu/libc-version.h>
#include <random>
#include <sys/utsname.h>

#ifndef KERNELHUB_VERSION
#error "KERNELHUB_VERSION is set by CMake"
#endif

namespace kernelhub::hub {
namespace {

constexpr std::string_view kName = "kernelhub/" KERNELHUB_VERSION;

std::string make_user_agent(const Config& config) {
  std::string agent(kName);
  if (!config.telemetry) return agent;
  utsname machine{};
  if (uname(&machine) == 0) {
    agent += fmt::format("; platform/{}-{}", machine.machine, machine.sysname);
  }
  agent += fmt::format("; file_type/kernel; glibc/{}", gnu_get_libc_version());
  if (!config.user_agent.empty()) agent += "; " + config.user_agent;
  if (!config.user_agent_origin.empty()) agent += "; origin/" + config.user_agent_origin;
  return agent;
}

std::function<bool()> stop_question(const HubCall& call) {
  return call.cancelled ? call.cancelled : StopScope::question();
}

std::uint64_t random_bits() {
  thread_local std::mt19937_64 engine{(static_cast<std::uint64_t>(std::random_device{}()) << 32) ^
                                      std::random_device{}()};
  return engine();
}

// RFC 4122 version 4.
std::string make_trace_id() {
  const std::uint64_t high = (random_bits() & ~0xf000ULL) | 0x4000ULL;
  const std::uint64_t low = (random_bits() & ~(3ULL << 62)) | (1ULL << 63);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                     high & 0xffff, low >> 48, low & 0xffffffffffffULL);
}

double jitter() { return static_cast<double>(random_bits() >> 11) * 0x1.0p-52 - 1.0; }

bool is_redirect(const HttpResponse& reply) {
  const int status = reply.status;
  return reply.ok() &&
         (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

bool is_answer(const HubCall& call, const HttpResponse& reply) {
  if (reply.fault == TransferFault::kStopped) return true;
  if (!reply.ok()) return false;
  return reply.status / 100 == 2 ||
         std::find(call.answers.begin(), call.answers.end(), reply.status) != call.answers.end();
}

}  // namespace

HubSession::HubSession(Config config, std::shared_ptr<HttpTransport> transport)
    : config_(std::move(config)),
      urls_(config_.endpoint),
      redirects_(config_.endpoint),
      user_agent_(make_user_agent(config_)),
      transport_(std::move(transport)) {}

HttpResponse HubSession::send(const HubCall& call) {
  if (config_.offline) throw hub_errors::offline_call(call.subject, call.url);
  const int retries = call.attempts == HubCall::Attempts::kOnce ? 0 : config_.retries;
  RetryPolicy policy(retries);
  std::chrono::milliseconds spent{0};
  for (;;) {
    const auto begin = std::chrono::steady_clock::now();
    Exchange done = exchange(call, call.total_timeout - spent);
    spent += std::chrono::ceil<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
    pass_on_warning(done.reply);
    if (is_answer(call, done.reply)) return std::move(done.reply);
    const auto wait = policy.wait_after(done.reply, transport_->now(), jitter());
    const bool out_of_time = call.total_timeout.count() > 0 && spent >= call.total_timeout;
    if (!wait || out_of_time) {
      throw hub_errors::failed_call(call.subject, facts_of(done, policy.attempts()), done.reply);
    }
    log(LogLevel::kDebug, fmt::format("attempt {} at {} failed (status {}, {}), next in {} ms",
                                      policy.attempts(), without_query(call.url), done.reply.status,
                                      done.reply.fault_text, wait->count()));
    const auto cancelled = stop_question(call);
    transport_->wait(*wait, cancelled);
    if (cancelled && cancelled()) throw hub_errors::cancelled(call.subject);
  }
}

HubSession::Exchange HubSession::exchange(const HubCall& call,
                                          std::chrono::milliseconds time_left) {
  Exchange exchange;
  exchange.hops = {call.url};
  bool renewed = false;
  for (;;) {
    const std::string& url = exchange.hops.back();
    HttpRequest request = request_for(call, url, exchange);
    if (call.total_timeout.count() > 0) {
      request.total_timeout = std::max(time_left, std::chrono::milliseconds(1));
    }
    ++request_count_;
    exchange.reply = transport_->perform(request);
    log(LogLevel::kDebug,
        fmt::format("{} {} -> {}", call.method == HttpMethod::kGet ? "GET" : "send",
                    without_query(url), exchange.reply.status));
    // A signed storage URL expires: ask the hub for a fresh one, once (hub spec 2.1).
    if (exchange.reply.status == 403 && !redirects_.is_hub(url) && exchange.hops.size() > 1 &&
        !renewed) {
      renewed = true;
      exchange.hops = {call.url};
      continue;
    }
    // A body is sent again only where the status says so; 301 and 302 would turn it into a GET.
    const bool followed = call.method == HttpMethod::kGet || exchange.reply.status >= 307;
    if (!is_redirect(exchange.reply) || !followed) return exchange;
    std::string next =
        redirects_.next_hop(exchange.hops, std::string(exchange.reply.header("location")));
    exchange.hops.push_back(std::move(next));
  }
}

HttpRequest HubSession::request_for(const HubCall& call, const std::string& url,
                                    Exchange& exchange) const {
  HttpRequest request;
  request.method = call.method;
  request.url = url;
  exchange.trace_id = make_trace_id();
  request.headers = {{"User-Agent", user_agent_}, {"X-Amzn-Trace-Id", exchange.trace_id}};
  exchange.sent_token = may_see_token(call, url);
  if (exchange.sent_token) {
    request.headers.emplace_back("Authorization", "Bearer " + config_.token.reveal());
  }
  request.headers.insert(request.headers.end(), call.headers.begin(), call.headers.end());
  if (call.attempt_headers) {
    HttpHeaders more = call.attempt_headers();
    request.headers.insert(request.headers.end(), more.begin(), more.end());
  }
  request.body = call.body;
  request.source = call.source;
  request.sink = call.sink;
  request.max_reply_bytes = call.max_reply_bytes;
  const bool is_body = call.timeouts == HubCall::Timeouts::kBody;
  request.connect_timeout = is_body ? config_.idle_timeout : config_.metadata_timeout;
  request.idle_timeout = request.connect_timeout;
  request.cancelled = stop_question(call);
  return request;
}

bool HubSession::may_see_token(const HubCall& call, const std::string& url) const {
  if (config_.token.empty() || call.token == HubCall::Token::kNever) return false;
  if (call.token == HubCall::Token::kRead && !config_.implicit_token) return false;
  if (!redirects_.is_hub(url)) return false;
  const auto origin = origin_of(url);
  if (!origin->is_https() && !origin->is_loopback()) {
    warn_once("plain-http-token:" + origin->host,
              fmt::format("the token of {} goes to {} over unencrypted http",
                          config_.token.origin(), origin->host));
  }
  return true;
}

CallFacts HubSession::facts_of(const Exchange& exchange, int attempts) const {
  CallFacts facts;
  facts.url = exchange.hops.back();
  facts.attempts = attempts;
  const std::string_view request_id = exchange.reply.header("x-request-id");
  facts.request_id = request_id.empty() ? exchange.trace_id : std::string(request_id);
  if (exchange.sent_token) facts.token_origin = config_.token.origin();
  const auto origin = origin_of(facts.url);
  facts.proxy = origin && origin->is_https() ? config_.https_proxy : config_.http_proxy;
  facts.rate_limit = rate_limit_of(exchange.reply, transport_->now());
  return facts;
}

void HubSession::pass_on_warning(const HttpResponse& reply) const {
  const std::string_view warning = reply.header("x-hf-warning");
  if (warning.empty()) return;
  const std::size_t split = warning.find(';');
  const std::string topic(warning.substr(0, split));
  const std::string_view text =
      split == std::string_view::npos ? warning : warning.substr(split + 1);
  warn_once("x-hf-warning:" + topic, fmt::format("{} says: {}", config_.endpoint, text));
}

}  // namespace kernelhub::hub
