// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/config.h"
#include "kernelhub/core/export.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kernelhub::hub {

enum class HttpMethod : std::uint8_t { kGet, kPost, kPut };

/// Field names are lower case in replies.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// Why a transfer ended before a whole reply was there.
enum class TransferFault : std::uint8_t {
  kNone,
  kDns,
  kProxy,
  kConnect,
  kTls,
  kTimeout,   // connect, idle or total limit
  kBroken,    // reset, early close, HTTP/2 stream error
  kTooLarge,  // more bytes than `max_reply_bytes`
  kStopped,   // the sink refused the reply
  kCancelled,
};

struct HttpResponse {
  int status = 0;  // 0: no reply
  HttpHeaders headers;
  std::string body;  // of every reply that no sink took
  TransferFault fault = TransferFault::kNone;
  std::string fault_text;
  std::uint64_t received_bytes = 0;  // body bytes

  bool ok() const noexcept { return fault == TransferFault::kNone; }
  /// First field of this lower-case name; empty when absent.
  std::string_view header(std::string_view name) const noexcept;
};

/// Takes the body of a 2xx reply block by block. What it throws comes out of `perform`.
class BodySink {
 public:
  virtual ~BodySink() = default;
  /// Status and headers are complete; false ends the transfer with kStopped.
  virtual bool begin(const HttpResponse& head) = 0;
  /// False ends the transfer with kStopped.
  virtual bool write(std::string_view block) = 0;
};

/// A request body that is read while it is sent.
class BodySource {
 public:
  virtual ~BodySource() = default;
  virtual std::uint64_t size_bytes() const = 0;
  /// Back to the first byte, before every attempt.
  virtual void rewind() = 0;
  /// Up to `capacity` bytes; 0 at the end.
  virtual std::size_t read(char* buffer, std::size_t capacity) = 0;
};

struct HttpRequest {
  HttpMethod method = HttpMethod::kGet;
  std::string url;
  HttpHeaders headers;
  std::string body;              // of a POST or PUT without `source`
  BodySource* source = nullptr;  // not owned
  BodySink* sink = nullptr;      // not owned; empty: HttpResponse::body
  std::uint64_t max_reply_bytes = 1u << 20;
  std::chrono::milliseconds connect_timeout{10000};
  std::chrono::milliseconds idle_timeout{10000};
  std::chrono::milliseconds total_timeout{0};  // 0: none
  std::function<bool()> cancelled;             // may be empty
};

/// Door to the network and the clock. One request and its reply at a time per call: no redirect is
/// followed and nothing is tried again. Thread-safe; calls of several threads run in parallel on
/// one connection pool.
class KERNELHUB_API HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  /// Blocks until the reply is complete or a limit is met.
  virtual HttpResponse perform(const HttpRequest& request) = 0;
  /// Blocks for `duration` or until `cancelled`.
  virtual void wait(std::chrono::milliseconds duration, const std::function<bool()>& cancelled) = 0;
  virtual std::chrono::system_clock::time_point now() const = 0;
};

/// libcurl: proxies and certificate stores of `config`, HTTP/2 where offered.
KERNELHUB_API std::shared_ptr<HttpTransport> make_curl_transport(const Config& config);

}  // namespace kernelhub::hub
