// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_transport.h"

#include <gtest/gtest.h>

#include <deque>
#include <mutex>

namespace kernelhub::hub {

inline HttpResponse reply_of(int status, HttpHeaders headers = {}, std::string body = {}) {
  HttpResponse reply;
  reply.status = status;
  reply.headers = std::move(headers);
  reply.body = std::move(body);
  return reply;
}

inline HttpResponse fault_of(TransferFault fault) {
  HttpResponse reply;
  reply.fault = fault;
  reply.fault_text = "scripted";
  return reply;
}

/// Answers from a list and keeps what was asked; waits take no time.
class ScriptedTransport final : public HttpTransport {
 public:
  explicit ScriptedTransport(std::deque<HttpResponse> replies) : replies_(std::move(replies)) {}
  HttpResponse perform(const HttpRequest& request) override {
    requests.push_back(request);
    if (replies_.empty()) {
      ADD_FAILURE() << "unexpected request " << request.url;
      return fault_of(TransferFault::kCancelled);
    }
    HttpResponse reply = std::move(replies_.front());
    replies_.pop_front();
    return reply;
  }
  void wait(std::chrono::milliseconds duration, const std::function<bool()>&) override {
    waits.push_back(duration);
  }
  std::chrono::system_clock::time_point now() const override { return {}; }

  std::vector<HttpRequest> requests;
  std::vector<std::chrono::milliseconds> waits;

 private:
  std::deque<HttpResponse> replies_;
};

/// The real transport with waits that take no time.
class HurriedTransport final : public HttpTransport {
 public:
  explicit HurriedTransport(const Config& config) : network_(make_curl_transport(config)) {}
  HttpResponse perform(const HttpRequest& request) override { return network_->perform(request); }
  void wait(std::chrono::milliseconds duration, const std::function<bool()>&) override {
    const std::lock_guard lock(mutex_);
    waits_.push_back(duration);
  }
  std::chrono::system_clock::time_point now() const override { return network_->now(); }
  std::size_t wait_count() {
    const std::lock_guard lock(mutex_);
    return waits_.size();
  }

 private:
  std::shared_ptr<HttpTransport> network_;
  std::mutex mutex_;
  std::vector<std::chrono::milliseconds> waits_;
};

inline std::string header_of(const HttpRequest& request, std::string_view name) {
  for (const auto& [field, value] : request.headers) {
    if (field == name) return value;
  }
  return {};
}

}  // namespace kernelhub::hub
